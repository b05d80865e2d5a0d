import type { FastifyInstance, FastifyTypeProvider } from 'fastify'
import { isDate } from 'node:util/types'
import { abortSignal, check, type Check, invalid, isObject, object, oneOf, plainOptions, show, text, whole, wrong } from '../common/check.ts'
import { kinds, type queueKeys } from '../common/option-names.ts'
import { retry, type RetryOptions, type RetryPolicy } from '../run/index.ts'
import type { Keep, OpenOptions, RunOptions } from '../store/index.ts'
import { checkLevel, handlerChecks, type HandlerOptions, type SharedHandlerOptions } from '../task/index.ts'
import { duration, type Duration, positiveDuration } from '../time/index.ts'
import type { EnqueueManyOptions, EnqueueOptions, FinishedOptions, Transaction } from './handle.ts'
import { ownRetry, priority } from './run-checks.ts'

/** How many ended runs the store keeps, and for how long. */
export interface KeepPolicy {
  /** The most runs. */
  count?: number | undefined
  /** The time after their end. */
  age?: Duration | undefined
}

/** Options of a queue. */
export interface QueueOptions<Schema = unknown> extends HandlerOptions {
  /** Schema of the payload, for the validator compiler of the owner, or Fastify's default one. */
  schema?: {
    /** The schema, as that compiler takes it. */
    payload: Schema
  } | undefined
  /** Name of the store for its runs. Default: the plugin's `default` store, or memory if there is none. */
  store?: string | undefined
  /** The most active runs of this process. Default `1`. */
  concurrency?: number | undefined
  /** Further attempts of a failed run: their number, or a policy. Default `0`. */
  retry?: number | RetryPolicy | undefined
  /** The most waiting and delayed runs. Default `10000`. */
  maxSize?: number | undefined
  /** What `enqueue` does while the queue is full. Default `'reject'`: with `FST_BG_QUEUE_FULL`, which a route answers with 503. `'wait'`: waits for room. */
  onFull?: 'reject' | 'wait' | undefined
  /** At most `limit` attempts begin within any time of length `per`. Default: no limit. */
  rate?: {
    /** The most attempts, 1 or more. */
    limit: number
    /** The time, above 0. */
    per: Duration
  } | undefined
  /** The most bytes of a payload as JSON. Default `256000`. */
  maxPayload?: number | undefined
  /** How many ended runs the store keeps, so that you can list and retry them. */
  keep?: {
    /** Runs that succeeded. Default: the last 100, for an hour; on BullMQ, for a day. */
    succeeded?: KeepPolicy | undefined
    /** Runs that failed for good. Default: the last 100, for a day; on BullMQ the last 1,000, for 14 days. */
    failed?: KeepPolicy | undefined
  } | undefined
  /** Belongs to a service: a queue has `retry`. */
  restart?: undefined
  /** Belongs to a timed task. */
  every?: undefined
  /** Belongs to a timed task. */
  cron?: undefined
}

/** Type of the payload that a handler gets, by the type provider of the instance; `unknown` without a schema that it knows. */
export type PayloadOf<Server, Schema> = Server extends FastifyInstance<any, any, any, any, infer Provider>
  ? Provider extends FastifyTypeProvider ? (Provider & { schema: Schema })['validator'] : unknown
  : unknown

/** Type of the payload that `enqueue` takes: the input type of a Standard Schema (zod, valibot, arktype), else the type that the handler takes. */
export type EnqueuedOf<Schema, Payload> = Schema extends { readonly '~standard': { readonly types?: { readonly input: infer Input } | undefined } } ? Input : Payload

/** A queue's options, checked and complete. */
export interface CheckedQueueOptions extends SharedHandlerOptions {
  retry: RetryOptions | undefined
  schema: unknown
  maxPayload: number
  store: string | undefined
  open: Omit<OpenOptions, 'name' | 'clock' | 'log'>
}

const keep: Check<Keep> = value => {
  const { count, age } = object('keep', { count: whole(0), age: positiveDuration })(value)
  return { count, age }
}
const schema: Check<{ payload: unknown }> = value => {
  const { payload } = object('schema', { payload: (one: unknown) => one })(value)
  if ((typeof payload !== 'object' || payload === null) && typeof payload !== 'function') throw wrong('an object with the schema of the payload: { payload: … }', value)
  return { payload }
}
const rate: Check<{ limit: number, per: number }> = value => {
  const { limit, per } = object('rate', { limit: whole(1), per: positiveDuration })(value)
  if (limit === undefined || per === undefined) throw wrong("an object with both, such as { limit: 10, per: '1s' }", value)
  return { limit, per }
}
const queueChecks = {
  ...handlerChecks,
  retry,
  schema,
  store: text,
  concurrency: whole(1),
  maxSize: whole(1),
  onFull: oneOf('reject', 'wait'),
  rate,
  maxPayload: whole(1),
  keep: object('keep', { succeeded: keep, failed: keep })
} satisfies Record<typeof queueKeys[number] | keyof typeof handlerChecks | 'retry', Check<unknown>>

const noKeep: Keep = { count: undefined, age: undefined }

/** Checks the options of a queue. Throws `FST_BG_INVALID_OPTION`. */
export function queueOptions (where: string, given: unknown, owner: FastifyInstance): CheckedQueueOptions {
  const { schema, concurrency = 1, maxSize, onFull, rate, keep = {}, ...options } = check(where, given, queueChecks, { ...kinds, ...ofTasks })
  checkLevel(where, options.logLevel, owner)
  const { succeeded = noKeep, failed = noKeep } = keep
  return {
    ...defaults,
    ...options,
    schema: schema?.payload,
    open: { concurrency, maxSize, onFull, rate, keep: { succeeded, failed } }
  }
}

const ofTasks = { restart: 'a service; a queue has "retry"' }
const defaults = { enabled: true, grace: 5_000, logLevel: undefined, timeout: undefined, onGiveUp: 'log' as const, retry: undefined, maxPayload: 256_000, store: undefined }

const date: Check<number> = value => {
  // Not instanceof: the Date may come from another realm, such as a test's.
  if (!isDate(value) || Number.isNaN(value.getTime())) throw wrong('a Date', value)
  return value.getTime()
}
const transaction: Check<Transaction> = value => {
  const { executeSql, query } = Object(value) as Record<string, unknown>
  if (typeof executeSql !== 'function' && typeof query !== 'function') throw wrong('a client of pg in a transaction, anything with query(text, values), or an adapter of pg-boss such as fromKnex(trx)', value)
  return value as Transaction
}
const runChecks = {
  delay: duration,
  runAt: date,
  priority,
  key: text,
  keyUntil: oneOf('started', 'finished'),
  retry: ownRetry,
  reqId: text
} satisfies Record<Exclude<keyof EnqueueOptions, 'tx'>, Check<unknown>>
const enqueueChecks = { ...runChecks, tx: transaction } satisfies Record<keyof EnqueueOptions, Check<unknown>>
const manyChecks = { tx: transaction } satisfies Record<keyof EnqueueManyOptions, Check<unknown>>

const itemChecks = { payload: (payload: unknown) => payload, ...runChecks }
const itemKeys = Object.keys(itemChecks)
/** An option of the whole call. */
const ofCall = { tx: 'the whole call: enqueueMany(items, { tx })' }

const plain: RunOptions = { delay: 0, runAt: undefined, priority: 0, key: undefined, keyUntil: 'finished', retry: undefined, reqId: undefined }
const withoutOptions = { options: plain, tx: undefined }

/** Checks the options of `enqueue`. `transactional`: whether the store takes `tx`. Throws `FST_BG_INVALID_OPTION`. */
export function enqueueOptions (queue: string, given: unknown, transactional: boolean): { options: RunOptions, tx: Transaction | undefined } {
  if (given === undefined) return withoutOptions
  const where = `enqueue() of background queue "${queue}"`
  const { tx, ...options } = check(where, given, enqueueChecks, kinds)
  refuseTransaction(where, tx, transactional)
  return { options: runOptions(where, options), tx }
}

/** Checks the options of `enqueueMany`. Throws `FST_BG_INVALID_OPTION`. */
export function manyOptions (queue: string, given: unknown, transactional: boolean): Transaction | undefined {
  if (given === undefined) return undefined
  const where = `enqueueMany() of background queue "${queue}"`
  const { tx } = check(where, given, manyChecks, kinds)
  refuseTransaction(where, tx, transactional)
  return tx
}

function refuseTransaction (where: string, tx: Transaction | undefined, transactional: boolean): void {
  if (tx !== undefined && !transactional) throw invalid(`${where}: option "tx" needs a store of pgBoss(), whose runs stand in the same database. Leave it out, or give the queue such a store.`)
}

/** The most runs of one `enqueueMany`. */
const MANY = 10_000

/** Checks what `enqueueMany` is given. Throws `FST_BG_INVALID_OPTION`. */
export function manyItems (queue: string, given: unknown): unknown[] {
  const where = `enqueueMany() of background queue "${queue}"`
  if (!Array.isArray(given)) throw invalid(`${where} takes an array of objects, each with a payload; received ${show(given)}.`)
  if (given.length > MANY) throw invalid(`${where} takes at most ${MANY} items at a time; received ${given.length}. Call it for each part of them.`)
  return given
}

/** Checks an item of `enqueueMany`. Throws `FST_BG_INVALID_OPTION`. */
export function manyItem (queue: string, index: number, given: unknown): { payload: unknown, options: RunOptions } {
  const where = `enqueueMany() of background queue "${queue}": item ${index}`
  if (!isObject(given)) throw invalid(`${where} must be an object with a payload; received ${show(given)}.`)
  const { payload, ...options } = plainOptions(where, given, itemKeys) as { payload?: unknown }
  return { payload, options: Object.keys(options).length === 0 ? plain : runOptions(where, check(where, options, itemChecks, { ...kinds, ...ofCall })) }
}

function runOptions (where: string, checked: Partial<RunOptions>): RunOptions {
  const options = { ...plain, ...checked }
  if (options.delay > 0 && options.runAt !== undefined) throw invalid(`${where}: "delay" and "runAt" exclude each other. Pass one of them.`)
  if (options.keyUntil === 'started' && options.key === undefined) throw invalid(`${where}: "keyUntil" goes with "key"; received no key.`)
  return options
}

const listChecks = { state: oneOf('waiting', 'delayed', 'active', 'succeeded', 'failed'), limit: whole(1, 1_000), cursor: text }

/** Checks the options of `list`. Throws `FST_BG_INVALID_OPTION`. */
export function listOptions (queue: string, given: unknown): { state: typeof listChecks.state extends Check<infer S> ? S : never, limit: number, cursor: string | undefined } {
  const where = `list() of background queue "${queue}"`
  const { state, limit = 100, cursor } = check(where, given ?? {}, listChecks, kinds)
  if (state === undefined) throw invalid(`${where}: pass the state of the runs to list: { state: 'failed' }. It takes waiting, delayed, active, succeeded, failed.`)
  return { state, limit, cursor }
}

const finishedChecks = { signal: abortSignal, timeout: duration } satisfies Record<keyof FinishedOptions, Check<unknown>>

/** Checks the options of `finished`. Throws `FST_BG_INVALID_OPTION`. */
export function finishedOptions (queue: string, given: unknown): { signal?: AbortSignal, timeout?: number } {
  return check(`finished() of background queue "${queue}"`, given ?? {}, finishedChecks, kinds)
}

/** Checks the state that `clear` is given. Throws `FST_BG_INVALID_OPTION`. */
export function clearedState (queue: string, state: unknown): 'waiting' | 'delayed' | 'succeeded' | 'failed' {
  const of = oneOf('waiting', 'delayed', 'succeeded', 'failed')
  try {
    return of(state)
  } catch (error) {
    throw invalid(`clear() of background queue "${queue}": the state ${(error as Error).message}. Runs that are active can be cancelled.`)
  }
}
