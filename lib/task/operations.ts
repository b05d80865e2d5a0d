import type { FastifyBaseLogger } from 'fastify'
import { report } from '../common/log.ts'
import type { Attempt } from '../run/index.ts'
import { Deadline, formatDuration } from '../time/index.ts'
import type { TaskHost } from './host.ts'
import { type Operation, operations } from './rare-fields.ts'

/** Work of an operation. It can ask whether the user has asked for another operation since, and wait for that. */
export type Work = (superseded: () => boolean, superseding: Promise<void>) => Promise<void>

/** Kind of the operation in progress; undefined if there is none. */
export function operationOf (task: object): Operation['kind'] | undefined {
  return operations.get(task)?.kind
}

/**
 * Does `work` after the operation that is in progress. Operations run in the order of the calls. Who asks for the operation that is in progress
 * gets its promise.
 */
export function perform (task: object, kind: Operation['kind'], work: Work): Promise<void> {
  const before = operations.get(task)
  if (before?.kind === kind) return before.done
  before?.supersede()
  let supersede!: () => void
  const superseding = new Promise<void>(resolve => { supersede = resolve })
  const operation: Operation = { kind, done: Promise.resolve(), supersede }
  operations.set(task, operation)
  const superseded = (): boolean => operations.get(task) !== operation
  const done = before === undefined ? work(superseded, superseding) : before.done.catch(() => {}).then(async () => { await work(superseded, superseding) })
  operation.done = done.finally(() => { if (!superseded()) operations.delete(task) })
  return operation.done
}

/** Waits for `work`, at most for `shutdownTimeout`: a handler that awaits the stop of its own task would wait for ever. */
export async function withStopTimeout (task: { name: string, log: FastifyBaseLogger, host: TaskHost }, oldest: () => Attempt | undefined, work: Promise<void>): Promise<void> {
  const { clock, deadline, shutdownTimeout } = task.host
  const limit = new Deadline(clock)
  limit.start(shutdownTimeout, () => { report.stopTimeout(task.log, task.name, oldest(), formatDuration(shutdownTimeout)) })
  await limit.until(deadline.until(work))
  limit.clear()
  if (!limit.passed && !deadline.passed) await work
}
