import { randomUUID } from 'node:crypto'
import { cursorOf, positionOf } from '../../cursor.ts'
import type { ListedState, QueuedRun, RunPage } from '../../queued-run.ts'
import type { QueueContext } from '../context.ts'
import { fieldsOf } from '../redis/fields.ts'
import { recordOf, waitingSince } from './job.ts'

/** BullMQ's names of our states. */
export const sets = { waiting: ['wait', 'prioritized'], delayed: ['delayed'], active: ['active'], succeeded: ['completed'], failed: ['failed'] } as const

/** BullMQ's scores of delayed jobs are in 4,096ths of a millisecond. */
const SCORE = 0x1000
/** How many jobs on each side of a position in a list a cursor remembers. */
const ANCHORS = 8
/** How long Redis remembers which jobs a listing has shown, after its last page; in milliseconds. */
const REMEMBERED = 600_000

/** A position in a sorted set: score and id of the last job. */
type SetPosition = [score: string, id: string]
/** A position in a list: the name of the listing, the number of the next page, and the jobs around the position, the nearest first. */
type ListPosition = [listing: string, page: number, anchors: Anchor[]]
/** A job near a position: whether it is before it, its id, and how often it was started. */
type Anchor = [before: 0 | 1, id: string, starts: string]

/** A job of a page: its id, its score in a sorted set or how often it was started, and its fields. */
type Row = [id: string, mark: string, fields: string[]]

/** Lists the jobs of a queue by the page. */
export class Pages {
  readonly #context: QueueContext

  constructor (context: QueueContext) {
    this.#context = context
  }

  /** A page of the runs in a state. Rejects with `FST_BG_INVALID_OPTION` for a cursor that is none of it. */
  async list (state: ListedState, cursor: string | undefined, limit: number): Promise<RunPage> {
    const position = cursor === undefined ? undefined : positionOf(this.#context.options.name, state, cursor, isPosition(state))
    return await this.#context.redis.call(async () => {
      if (state === 'active' || state === 'waiting') return await this.#ofList(state, position, limit)
      return await this.#ofSet(state, sets[state][0], position as SetPosition | undefined, limit)
    })
  }

  /** The run with an id, in whatever state. */
  async get (id: string): Promise<QueuedRun | undefined> {
    const { redis, toKey, leases: { maxCrashes } } = this.#context
    const keys = ['', ':lock'].map(part => toKey(id + part)).concat(['completed', 'failed', 'delayed', 'active'].map(toKey))
    const found = await redis.call(async () => await redis.client.runCommand('fbtGet', [...keys, id])) as [state: ListedState, score: string, fields: string[]] | null
    if (found === null) return undefined
    const [state, score, flat] = found
    return recordOf(id, fieldsOf(flat), state, dueOf(state, score), maxCrashes)
  }

  /** Since when the job waits that has waited longest, of the first and the last ones to run; undefined if none waits. */
  async waitingSince (): Promise<number | undefined> {
    const { redis, toKey } = this.#context
    const found = await redis.call(async () => await redis.client.runCommand('fbtOldest', [...sets.waiting.map(toKey), toKey('')])) as string[][]
    const times = found.map(flat => waitingSince(fieldsOf(flat))).filter(since => since !== undefined)
    return times.length === 0 ? undefined : Math.min(...times)
  }

  async #ofSet (state: ListedState, set: string, position: SetPosition | undefined, limit: number): Promise<RunPage> {
    const { client } = this.#context.redis
    const { toKey } = this.#context
    const direction = state === 'succeeded' || state === 'failed' ? 'down' : 'up'
    const rows = await client.runCommand('fbtSetPage', [toKey(set), toKey(''), direction, limit + 1, ...position ?? []]) as Row[]
    const page = rows.slice(0, limit)
    const last = page.at(-1)
    return { runs: this.#runsOf(page, state), cursor: rows.length > limit && last !== undefined ? cursorOf(state, [last[1], last[0]]) : undefined }
  }

  /** A page of a list. Waiting jobs with a priority come behind those without, in a sorted set. */
  async #ofList (state: 'active' | 'waiting', position: SetPosition | ListPosition | undefined, limit: number): Promise<RunPage> {
    if (position !== undefined && !isListPosition(position)) return await this.#ofSet(state, 'prioritized', position, limit)
    const { client } = this.#context.redis
    const { toKey } = this.#context
    const [listing, number, anchors] = position ?? [randomUUID(), 0, []]
    const rows = await client.runCommand('fbtListPage', [
      toKey(sets[state][0]), toKey(`listing:${listing}`), toKey(''), limit, ANCHORS, REMEMBERED, number, ...anchors.flat()
    ]) as Row[]
    const page = rows.slice(0, limit)
    const runs = this.#runsOf(page, state)
    if (rows.length > limit) {
      const before = [...anchors.filter(([isBefore]) => isBefore === 1).reverse().map(([, id, starts]) => [id, starts] as const), ...page].slice(-ANCHORS).reverse()
      const around = [...before.map(([id, starts]) => [1, id, starts] as const), ...rows.slice(limit).map(([id, starts]) => [0, id, starts] as const)]
      return { runs, cursor: cursorOf(state, [listing, number + 1, around]) }
    }
    if (state === 'active') return { runs, cursor: undefined }
    if (runs.length < limit) {
      const rest = await this.#ofSet(state, 'prioritized', undefined, limit - runs.length)
      return { runs: [...runs, ...rest.runs], cursor: rest.cursor }
    }
    // The list ends with the page: go on at the start of the sorted set, if it has a job.
    const more = await client.runCommand('fbtSetPage', [toKey('prioritized'), toKey(''), 'up', 1]) as Row[]
    return { runs, cursor: more.length > 0 ? cursorOf(state, ['-inf', '']) : undefined }
  }

  #runsOf (rows: Row[], state: ListedState): QueuedRun[] {
    return rows.map(([id, score, flat]) => recordOf(id, fieldsOf(flat), state, dueOf(state, score), this.#context.leases.maxCrashes))
  }
}

/** When a delayed job may begin, by its score. */
function dueOf (state: ListedState, score: string): number | undefined {
  return state === 'delayed' ? Math.floor(Number(score) / SCORE) : undefined
}

function isPosition (state: ListedState): (position: unknown) => position is SetPosition | ListPosition {
  return (position): position is SetPosition | ListPosition => {
    if (!Array.isArray(position) || typeof position[0] !== 'string') return false
    const [first, second, third] = position as [string, unknown, unknown]
    if (position.length === 2) return state !== 'active' && SCORES.test(first) && typeof second === 'string'
    const isOfList = state === 'active' || state === 'waiting'
    return isOfList && UUID.test(first) && Number.isSafeInteger(second) && Array.isArray(third) && third.length <= 2 * ANCHORS && third.every(isAnchor)
  }
}

const SCORES = /^(-inf|\d+(\.\d+)?(e\+?\d+)?)$/
const UUID = /^[\da-f-]{36}$/

function isListPosition (position: SetPosition | ListPosition): position is ListPosition {
  return position.length === 3
}

function isAnchor (value: unknown): boolean {
  return Array.isArray(value) && value.length === 3 && (value[0] === 0 || value[0] === 1) && typeof value[1] === 'string' && typeof value[2] === 'string'
}
