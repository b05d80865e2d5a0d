import { tracingChannel, type TracingChannel } from 'node:diagnostics_channel'
import type { FastifyInstance } from 'fastify'

/** Context of an attempt on the tracing channel `fastify-background-tasks:run`. */
export interface RunTrace {
  /** The owner of the task. */
  server: FastifyInstance
  /** Name of the task. */
  task: string
  /** Id of the run. */
  run: string
  /** Which attempt of the run it is, from 1. */
  attempt: number
}

/** Start, end, asyncStart, asyncEnd and error of every attempt. */
export const runChannel: TracingChannel<unknown, RunTrace> = tracingChannel<unknown, RunTrace>('fastify-background-tasks:run')

/** Whether the channel has subscribers: tracing without any would cost each run some microseconds. */
export function isTraced (): boolean {
  const { start, end, asyncStart, asyncEnd, error } = runChannel
  return start.hasSubscribers || end.hasSubscribers || asyncStart.hasSubscribers || asyncEnd.hasSubscribers || error.hasSubscribers
}
