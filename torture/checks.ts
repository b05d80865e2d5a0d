// What must be true after the torture, whatever the monkey did.
import type { Entry } from './journal.ts'
import { CAUGHT_UP, GRID, LEASE, MAX_CRASHES, queues, RATE, SCHEDULED, SCHEDULES, SHUTDOWN, SLACK, TURN, type Listed } from './rules.ts'

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

/** The last disturbance of a process, or of the server, in a span of time. It ends when the process has had the length of a lease in peace. */
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
    ...failures(journal, executions, listed),
    ...twice(executions, disturbed),
    ...takenOver(journal, executions, disturbed),
    ...interrupted(journal, executions),
    ...ticks(executions, disturbed),
    ...told(journal, listed),
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
    'ticks of schedules': executions.filter(({ queue }) => queue.startsWith(SCHEDULED)).length,
    'waits that were told': count(({ what }) => what === 'told'),
    'runs interrupted by a shutdown': executions.filter(({ told }) => told?.code === 'FST_BG_SHUTDOWN').length,
    'leases lost, or runs cancelled': executions.filter(({ told }) => told?.code === 'FST_BG_CANCELLED').length,
    'enqueues refused while the server was away': count(({ what }) => what === 'refused')
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
function * failures (journal: Entry[], executions: Execution[], listed: Listed[]): Generator<string> {
  for (const { queue, state, id, message = '' } of listed) {
    if (state !== 'failed') continue
    const own = executions.filter(execution => execution.id === id)
    if (message === 'told to fail') {
      // An attempt that lost leases have ended counts, too: a retry by hand goes on with the next number.
      const attempt = Math.max(...own.filter(({ how, text }) => how === 'failed' && text === 'told to fail').map(({ attempt }) => attempt))
      const limit = queues[queue as keyof typeof queues]
      if (attempt < limit) yield `run ${id} of ${queue} has failed after ${attempt} of ${limit} attempts`
    } else {
      const losses = lossesOf(own, journal.filter(entry => entry.what === 'taken over' && entry.id === id))
      // One may have gone unseen: fetched and not begun by a process, and taken over by another that died before it could say so.
      if (losses < MAX_CRASHES - 1) yield `run ${id} of ${queue} has failed, and was taken over ${losses} times: ${message}`
    }
  }
}

/**
 * How often the process of a run died, or lost its lease. Each time another process takes it over: it says so, unless it dies itself, or does not hear
 * what it did; then the same attempt begins again. A run that was fetched, and not begun, is taken over, too.
 */
function lossesOf (executions: Execution[], takeovers: Entry[]): number {
  const unsaid = executions.filter(({ attempt, begin }, i) => {
    const next = executions[i + 1]
    return (next?.attempt ?? 0) <= attempt && !takeovers.some(({ at }) => at > begin && at < (next?.begin ?? Infinity))
  })
  return takeovers.length + unsaid.length
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

/** When a process may have lost its leases: its loop was blocked, its connection disturbed, the server away, or the machine too slow. */
function disturbances (journal: Entry[]): Disturbed {
  const spans: Array<Span & { process: string }> = []
  // Several of one kind may overlap: each then counts from the first.
  const open = new Map<string, number[]>()
  const lastSign = new Map<string, number>()
  for (const { at, process, what, id = '', text, ms = 0 } of journal) {
    lastSign.set(process, at)
    if (what === 'blocked' || what === 'lag') spans.push({ process, from: at - ms, to: at })
    // One that is killed in the middle of a block has written no line of it: it was silent.
    if (what === 'exit' && text === 'SIGKILL') spans.push({ process: id, from: lastSign.get(id) ?? at, to: at })
    // What it has just ended it could not tell the store.
    if (what === 'kill') spans.push({ process: id, from: at, to: at })
    const begun = open.get(`${id} ${text}`) ?? []
    if (what === 'disturb') open.set(`${id} ${text}`, [...begun, at])
    if (what === 'undisturb') {
      spans.push({ process: id, from: begun[0] ?? at, to: at })
      open.set(`${id} ${text}`, begun.slice(0, -1))
    }
  }
  for (const [key, [from]] of open) if (from !== undefined) spans.push({ process: key.split(' ')[0] ?? '', from, to: Infinity })
  return (process, { from, to }) => {
    const own = spans.filter(span => span.process === process || span.process === 'server')
    const last = own.findLast(span => span.from < to && span.to > from)
    if (last === undefined) return undefined
    let end = last.to
    for (let next; (next = own.find(span => span.from < end + LEASE && span.to > end)) !== undefined;) end = next.to
    return { from: last.from, to: end }
  }
}

/** A run is taken over only from a process that has died, or may have lost its lease: nothing is called dead that lives. */
function * takenOver (journal: Entry[], executions: Execution[], disturbed: Disturbed): Generator<string> {
  for (const { at, id = '', process: by } of journal.filter(({ what }) => what === 'taken over')) {
    const holder = executions.findLast(execution => execution.id === id && execution.begin < at)
    // A lease is not lost in less than its length: it was lost by one before this.
    if (holder === undefined || holder.end < at || at - holder.begin < LEASE || disturbed(holder.process, { from: at - 4 * LEASE, to: at }) !== undefined) continue
    // It says so late, of a holder before this one.
    if (disturbed(by, { from: at - LEASE, to: at + EPSILON }) !== undefined) continue
    yield `run ${id} of ${holder.queue} was taken over by ${by} from ${holder.process}, which ran it and held its lease`
  }
}

/** A run that a shutdown has interrupted begins again with the same attempt. */
function * interrupted (journal: Entry[], executions: Execution[]): Generator<string> {
  const retries = journal.filter(({ what, text }) => what === 'operate' && text === 'retryFailed')
  const last = new Map<string, Execution>()
  for (const execution of executions) {
    const { id, queue, attempt } = execution
    const before = last.get(id)
    last.set(id, execution)
    if (before?.how !== 'failed' || before.told?.code !== 'FST_BG_SHUTDOWN' || before.text === 'told to fail' || before.end > execution.begin) continue
    // It has failed since, of lost leases, and somebody has retried it.
    if (retries.some(({ at }) => at > before.end && at < execution.begin)) continue
    if (attempt !== before.attempt) yield `run ${id} of ${queue} was interrupted in attempt ${before.attempt}, and went on with attempt ${attempt}`
  }
}

/** The ticks of the cluster tasks lie on their grid; none is left out, and none runs under two ids. */
function * ticks (executions: Execution[], disturbed: Disturbed): Generator<string> {
  const schedules = Array.from({ length: SCHEDULES }, (_, i) => [`${SCHEDULED}:tenant ${i}`, GRID] as const)
  for (const [queue, period] of [['grid', GRID] as const, ['single', 1_000] as const, ...schedules]) {
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
    if (queue === 'single') continue
    // A run may stand for ticks before it, of which none was late by a second.
    const stoodFor = own.flatMap(({ dueAt = NaN, missed }) => Array.from({ length: missed }, (_, i) => dueAt - (i + 1) * period))
    const dues = [...new Set([...ids.keys(), ...stoodFor])].sort((a, b) => a - b)
    const gaps = dues.slice(1).filter((due, i) => due - (dues[i] ?? NaN) > period)
    // Nobody could enqueue a tick for so long that more were missed than are caught up: the older ones are left out.
    const isFirstCaughtUp = (due: number): boolean => own.some(({ dueAt, begin }) => dueAt === due && begin - due >= (CAUGHT_UP - 1) * period - TURN)
    for (const due of gaps.filter(due => !isFirstCaughtUp(due))) yield `${queue}: ticks before ${new Date(due).toISOString()} are lost`
  }
}

/** Who waited for a run was told what became of it. */
function * told (journal: Entry[], listed: Listed[]): Generator<string> {
  const states = new Map(listed.map(({ id, state }) => [id, state]))
  const operated = new Set(journal.filter(({ what, text }) => what === 'operate' && (text === 'cancel' || text === 'remove')).map(({ id }) => id))
  const retried = journal.some(({ what, text }) => what === 'operate' && text === 'retryFailed')
  for (const { queue, id = '', text } of journal.filter(({ what }) => what === 'told')) {
    const state = states.get(id)
    if ((text === 'gone' || text === 'cancelled') && !operated.has(id)) yield `run ${id} of ${queue}: who waited for it was told that it is ${text}, and it is ${state ?? 'unknown'}`
    if (text === 'succeeded' && state !== 'succeeded' && !operated.has(id)) yield `run ${id} of ${queue}: who waited for it was told that it has succeeded, and it has ${state ?? 'not'}`
    if (text === 'failed' && state !== 'failed' && !retried && !operated.has(id)) yield `run ${id} of ${queue}: who waited for it was told that it has failed, and it has ${state ?? 'not'}`
  }
}

/** The queue `rated` begins no more than its rate allows. A window begins with a run, so two of them may meet. */
function * rates (executions: Execution[]): Generator<string> {
  const begins = executions.filter(({ queue }) => queue === 'rated').map(({ begin }) => begin).sort((a, b) => a - b)
  const far = begins.findIndex((begin, i) => (begins[i + 2 * RATE] ?? Infinity) - begin < 1_000)
  if (far >= 0) yield `rated: more than ${2 * RATE} runs began within a second`
}
