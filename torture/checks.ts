// What must be true after the torture, whatever the monkey did.
import type { Entry } from './journal.ts'
import { GRID, LEASE, MAX_CRASHES, queues, RATE, SHUTDOWN, SLACK, type Listed } from './rules.ts'

/** One call of a handler. */
interface Execution {
  process: string
  queue: string
  id: string
  attempt: number
  key: string | undefined
  dueAt: number | undefined
  missed: number
  begin: number
  end: number
  /** How it ended: by itself, well or not, or with its process; undefined where its process lives and it does not end. */
  how: 'ok' | 'failed' | 'died' | undefined
  text: string | undefined
  /** What its signal said, and when. */
  told: { at: number, code: string } | undefined
}

interface Span { from: number, to: number }

/** The last disturbance of a process, or of Redis, in a span of time. */
type Disturbed = (process: string, span: Span) => Span | undefined

/** A millisecond or two: the clocks of two processes differ by as much. */
const EPSILON = 20

/** Finds everything that went wrong, in sentences. */
export function check (journal: Entry[], listed: Listed[]): string[] {
  const executions = executionsOf(journal)
  const disturbed = disturbances(journal)
  return [
    ...unexpected(journal),
    ...exits(journal),
    ...lost(journal, executions, listed),
    ...failures(executions, listed),
    ...twice(executions, disturbed),
    ...interrupted(executions),
    ...ticks(executions, disturbed),
    ...rates(executions)
  ]
}

/** The figures of the journal, for the report. */
export function figures (journal: Entry[]): Record<string, number> {
  const executions = executionsOf(journal)
  const count = (test: (entry: Entry) => boolean): number => journal.filter(test).length
  return {
    'runs accepted': count(({ what }) => what === 'accepted'),
    'handlers called': executions.length,
    'processes started': count(({ what }) => what === 'up'),
    'handlers that died with their process': executions.filter(({ how }) => how === 'died').length,
    'runs interrupted by a shutdown': executions.filter(({ told }) => told?.code === 'FST_BG_SHUTDOWN').length,
    'leases lost, or runs cancelled': executions.filter(({ told }) => told?.code === 'FST_BG_CANCELLED').length,
    'enqueues refused while Redis was away': count(({ what }) => what === 'refused')
  }
}

function executionsOf (journal: Entry[]): Execution[] {
  const all: Execution[] = []
  const open = new Map<string, Execution>()
  for (const { at, process, what, queue = '', id = '', attempt = 0, key, dueAt, missed = 0, ok, text, code = '' } of journal) {
    const which = `${process} ${queue} ${id} ${attempt}`
    const execution = open.get(which)
    if (what === 'begin') {
      const begun: Execution = { process, queue, id, attempt, key, dueAt, missed, begin: at, end: Infinity, how: undefined, text: undefined, told: undefined }
      all.push(begun)
      open.set(which, begun)
    } else if (what === 'hears' && execution !== undefined) {
      execution.told ??= { at, code }
    } else if (what === 'end' && execution !== undefined) {
      Object.assign(execution, { end: at, how: ok === true ? 'ok' : 'failed', text })
      open.delete(which)
    } else if (what === 'exit') {
      for (const [which, execution] of open) {
        if (execution.process !== id) continue
        Object.assign(execution, { end: at, how: 'died' })
        open.delete(which)
      }
    }
  }
  return all
}

function * unexpected (journal: Entry[]): Generator<string> {
  for (const { process, what, text } of journal) if (what === 'unexpected') yield `${process}: ${text}`
}

/** Each process that was asked to stop has exited with 0 within its deadline, and has stopped what it had started. */
function * exits (journal: Entry[]): Generator<string> {
  for (const { at, id: name = '' } of journal.filter(({ what }) => what === 'term')) {
    const own = journal.filter(({ process }) => process === name)
    const exit = journal.find(({ what, id }) => what === 'exit' && id === name)
    if (exit === undefined) {
      yield `${name} was asked to stop, and has not exited`
      continue
    }
    // It hears of the signal when its loop is free.
    const blocked = own.filter(({ what, at: end }) => (what === 'blocked' || what === 'lag') && end > at).reduce((sum, { ms = 0 }) => sum + ms, 0)
    const took = exit.at - at - blocked
    const up = own.find(({ what }) => what === 'up')
    const booting = up === undefined || up.at > at
    // Before its handler of SIGTERM is there, the signal ends a process at once.
    if (exit.text !== '0' && !(booting && exit.text === 'SIGTERM')) yield `${name} was asked to stop, and exited with ${exit.text}`
    if (took > SHUTDOWN + 1_000 + SLACK) yield `${name} was asked to stop, and exited ${Math.round(took)} ms later; its deadline is ${SHUTDOWN} ms`
    const hosted = own.filter(({ what }) => what === 'hosted').map(({ text }) => text)
    if (exit.text === '0' && hosted.includes('start') && !hosted.includes('stop')) yield `${name}: its hosted service was started, and not stopped`
  }
}

/** Every accepted run has ended, or an operator has removed it. */
function * lost (journal: Entry[], executions: Execution[], listed: Listed[]): Generator<string> {
  const ended = new Map(listed.map(one => [one.id, one]))
  if (ended.size !== listed.length) yield `a run is listed twice: ${listed.length} are listed, of which ${ended.size} differ`
  const operated = new Set(journal.filter(({ what }) => what === 'operate').map(({ id }) => id))
  for (const { queue, id = '' } of journal.filter(({ what }) => what === 'accepted')) {
    if (!ended.has(id) && !operated.has(id)) yield `run ${id} of ${queue} was accepted, and is lost`
  }
  const well = new Set(executions.filter(({ how }) => how === 'ok').map(({ id }) => id))
  for (const { queue, state, id } of listed) {
    if (state === 'succeeded' && !well.has(id)) yield `run ${id} of ${queue} is listed as succeeded, and no handler has`
  }
  for (const { queue, id, process, how } of executions) if (how === undefined) yield `run ${id} of ${queue} in ${process} does not end`
}

/** A run has failed only by its own failures, or because processes died under it. */
function * failures (executions: Execution[], listed: Listed[]): Generator<string> {
  for (const { queue, state, id, message = '' } of listed) {
    if (state !== 'failed') continue
    const own = executions.filter(execution => execution.id === id)
    if (message === 'told to fail') {
      const failed = own.filter(({ how, text }) => how === 'failed' && text === 'told to fail').length
      const limit = queues[queue as keyof typeof queues]
      if (failed < limit) yield `run ${id} of ${queue} has failed after ${failed} of ${limit} attempts`
    } else {
      // A handler that has ended well, and whose process could not tell the store, counts, too: the store has seen no end.
      const losses = own.filter(({ how, told }) => how !== 'failed' || told?.code === 'FST_BG_CANCELLED').length
      if (losses < MAX_CRASHES) yield `run ${id} of ${queue} has failed after ${losses} interruptions of ${own.length} executions: ${message}`
    }
  }
}

/** A run, and a key, is run by one process at a time, except where a lease was lost: then the loser was told, or had ended before it could be. */
function * twice (executions: Execution[], disturbed: Disturbed): Generator<string> {
  const alone = new Map<string, Execution[]>()
  for (const execution of executions) {
    const { queue, id, key } = execution
    const names = [`run ${queue} ${id}`, ...key === undefined ? [] : [`key ${key}`], ...queue === 'single' ? ['single'] : []]
    for (const name of names) alone.set(name, [...alone.get(name) ?? [], execution])
  }
  const said = new Set<string>()
  for (const [name, all] of alone) {
    for (let i = 0; i < all.length; i++) {
      const first = all[i] as Execution
      for (const second of all.slice(i + 1)) {
        if (second.begin >= first.end - EPSILON) continue
        const disturbance = disturbed(first.process, { from: second.begin - 4 * LEASE, to: second.begin + EPSILON })
        const told = first.told !== undefined && first.told.at < second.begin
        const learnt = first.told !== undefined || first.how === 'died' || (disturbance !== undefined && first.end < disturbance.to + LEASE)
        if ((told || disturbance !== undefined) && learnt) continue
        const what = `${name}: ${first.process} (attempt ${first.attempt}) ran it when ${second.process} began it (${second.id}, attempt ${second.attempt})`
        if (said.has(what)) continue
        said.add(what)
        yield `${what}, ${disturbance === undefined ? 'and held its lease' : 'and was never told'}`
      }
    }
  }
}

/** When a process may have lost its leases: its loop was blocked, its connection disturbed, Redis away, or the machine too slow. */
function disturbances (journal: Entry[]): Disturbed {
  const spans: Array<Span & { process: string }> = []
  const open = new Map<string, number>()
  for (const { at, process, what, id = '', text, ms = 0 } of journal) {
    if (what === 'blocked' || what === 'lag') spans.push({ process, from: at - ms, to: at })
    if (what === 'disturb') open.set(`${id} ${text}`, at)
    if (what === 'undisturb') {
      spans.push({ process: id, from: open.get(`${id} ${text}`) ?? at, to: at })
      open.delete(`${id} ${text}`)
    }
  }
  for (const [key, from] of open) spans.push({ process: key.split(' ')[0] ?? '', from, to: Infinity })
  return (process, { from, to }) => spans.findLast(span => (span.process === process || span.process === 'redis') && span.from < to && span.to > from)
}

/** A run that a shutdown has interrupted begins again with the same attempt. */
function * interrupted (executions: Execution[]): Generator<string> {
  const last = new Map<string, Execution>()
  for (const execution of executions) {
    const { id, queue, attempt } = execution
    const before = last.get(id)
    last.set(id, execution)
    if (before?.how !== 'failed' || before.told?.code !== 'FST_BG_SHUTDOWN' || before.text === 'told to fail' || before.end > execution.begin) continue
    if (attempt !== before.attempt) yield `run ${id} of ${queue} was interrupted in attempt ${before.attempt}, and went on with attempt ${attempt}`
  }
}

/** The ticks of the cluster tasks lie on their grid; none is left out, and none runs under two ids. */
function * ticks (executions: Execution[], disturbed: Disturbed): Generator<string> {
  for (const [queue, period] of [['grid', GRID], ['single', 1_000]] as const) {
    const own = executions.filter(execution => execution.queue === queue)
    const ids = new Map<number, Set<string>>()
    const done = new Map<string, Execution[]>()
    for (const execution of own) {
      const { dueAt = NaN, id } = execution
      if (dueAt % period !== 0) yield `${queue}: the due time ${dueAt} is off the grid`
      ids.set(dueAt, new Set([...ids.get(dueAt) ?? [], id]))
      done.set(id, [...done.get(id) ?? [], execution])
    }
    for (const [dueAt, all] of ids) if (all.size > 1) yield `${queue}: the tick of ${new Date(dueAt).toISOString()} was enqueued ${all.size} times`
    for (const [id, all] of done) {
      // Where the store could not hear that a run had ended, it runs again: at least once is what a queue promises.
      const well = all.filter(({ how, told, process, end }) => how === 'ok' && told === undefined && disturbed(process, { from: end - LEASE, to: end + LEASE }) === undefined)
      if (well.length > 1) yield `${queue}: the tick ${id} has run to its end ${well.length} times`
    }
    if (queue !== 'grid') continue
    const dues = [...ids.keys()].sort((a, b) => a - b)
    const gaps = dues.slice(1).filter((due, i) => due - (dues[i] ?? NaN) > period)
    for (const due of gaps) yield `${queue}: ticks before ${new Date(due).toISOString()} are lost`
  }
}

/** The queue `rated` begins no more than its rate allows. A window begins with a run, so two of them may meet. */
function * rates (executions: Execution[]): Generator<string> {
  const begins = executions.filter(({ queue }) => queue === 'rated').map(({ begin }) => begin).sort((a, b) => a - b)
  const far = begins.findIndex((begin, i) => (begins[i + 2 * RATE] ?? Infinity) - begin < 1_000)
  if (far >= 0) yield `rated: more than ${2 * RATE} runs began within a second`
}
