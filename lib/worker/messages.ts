import type { Progress } from '../run/index.ts'
import type { Level } from './worker-run.ts'

// What server and thread tell each other. Values are copied by structured clone.

/** What each thread is told when it starts. */
export interface ThreadData {
  /** Address of the module. */
  href: string
  /** Its number grows with each message to any thread of the file, so that a loop which never awaits sees that there is one. */
  told: Int32Array
}

/** The first message of a thread. */
export interface Hello {
  'fastify-background-tasks': number
  port: import('node:worker_threads').MessagePort
}

/**
 * A run, for the thread. A tuple, as the names of fields would cross with each run; what most runs do not have stands at its end, and is left out.
 *
 * `call`: number of the call, as a run may call several workers at a time. `name`: name of the export.
 */
export type ThreadRun = [call: number, name: string, id: string, task: string, attempt: number, level: string, payload?: unknown, dueAt?: Date | undefined, missed?: number]

/** To a thread: a call should end, or should not begin at all. */
export interface ToThread {
  call: number
  /** The reason; undefined if it has ended for the server before it began. */
  reason: ThrownError | undefined
}

/** From a thread, about a call. */
export type FromThread = { call: number } & (
  { log: Level, bindings: object | undefined, args: unknown[] } |
  { progress: Progress } |
  { value: unknown }
)

/** An error as it crosses. */
export interface ThrownError {
  name: string
  message: string
  stack: string | undefined
  /** Its own properties that are text, numbers or booleans, such as `code`. */
  own: Record<string, unknown>
  cause?: Thrown
  errors?: Thrown[]
  /** Whether it is a `GiveUp`. */
  givesUp?: true
}

/** Something thrown: an error, or any other value. */
export type Thrown = { error: ThrownError } | { value: unknown }

/** How a run ended. A value that is no object comes as it is, if the thread has said nothing else: most runs end so, and it costs least. */
export interface ThreadResult {
  'fastify-background-tasks': 'value' | 'sent' | 'thrown' | 'not loaded' | 'not cloned'
  /** How many messages about the run were sent before. */
  said: number
  value?: unknown
  thrown?: Thrown
  /** What is wrong with the module or the value. */
  what?: string
}
