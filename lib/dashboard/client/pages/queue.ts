import { type Action, buttons, runActions } from '../actions.ts'
import { part, post } from '../api.ts'
import { strip } from '../charts.ts'
import { type Child, h } from '../dom.ts'
import { count, counted, duration, every } from '../format.ts'
import { content, empty, facts, panel, progress, settings, time } from '../parts.ts'
import type { Details, ListedRun, Runs, Schedules } from '../types.ts'
import { head } from './task.ts'

/** Which runs are shown. */
export interface RunQuery { state: string, search?: string | undefined, cursor?: string | undefined }

const states = ['waiting', 'delayed', 'active', 'succeeded', 'failed'] as const

/** A queue, with its runs by state, and its schedules. */
export function queuePage (details: Details, runs: Runs, schedules: Schedules, query: RunQuery, go: (query: RunQuery) => void): Child {
  const { task: { name, history, stats }, queue, durations } = details
  const counts = queue?.counts
  const known = states.includes(query.state as typeof states[number]) ? query.state as typeof states[number] : 'waiting'
  const n = counts?.[known] ?? 0
  return [
    head(details),
    queue?.problem !== undefined && h('ul', { class: 'problems' }, h('li', { class: 'degraded' }, `The store does not answer: ${queue.problem}`)),
    h('div', { class: 'filters' },
      h('nav', { class: 'chips', 'aria-label': 'Runs by state' }, states.map(state => h('button', { type: 'button', 'data-key': state, 'aria-pressed': String(query.state === state), onclick: () => { go({ state, search: query.search }) } }, state, h('span', { class: 'count' }, counts === undefined ? '?' : count(counts[state]))))),
      h('form', { role: 'search', onsubmit: (event: Event) => { event.preventDefault() } },
        h('input', { type: 'search', 'aria-label': 'Search runs by id, key or error', placeholder: 'Search id, key or error', value: query.search ?? '', maxlength: 1000, oninput: ({ target }: Event) => { go({ state: query.state, search: (target as HTMLInputElement).value }) } }))),
    queue?.oldestWaiting !== undefined && h('p', { class: 'muted' }, 'The next to run was enqueued ', time(queue.oldestWaiting), '.'),
    buttons(
      known === 'failed' && n > 0 && retryAll(name, n),
      known !== 'active' && n > 0 && clear(name, known, n)),
    h('section', { class: 'panel', 'aria-label': `Runs: ${known}` },
      runs.runs.length === 0
        ? empty(query.search !== undefined && query.search !== '' ? `No run that is ${known} matches.` : none[known], known === 'waiting' && (query.search ?? '') === '' ? `await app.backgroundTasks.get('${name.slice(0, 100)}').enqueue({ to: 'ada@example.com' })` : undefined)
        : h('ul', { class: 'rows' }, runs.runs.map(run => row(name, run))),
      h('p', { class: 'muted' }, runs.searched !== undefined && `${counted(runs.searched, 'run')} searched. `, 'These are the runs in the store of the queue, of all processes that share it.'),
      h('p', { class: 'pager' }, query.cursor !== undefined && h('button', { type: 'button', onclick: () => { go({ ...query, cursor: undefined }) } }, 'First page'), runs.cursor !== undefined && h('button', { type: 'button', onclick: () => { go({ ...query, cursor: runs.cursor }) } }, query.search === undefined || query.search === '' ? 'Next page' : 'Search on'))),
    h('div', { class: 'columns' },
      panel('In this process', strip(history), facts(['succeeded', count(stats.succeeded)], ['failed', count(stats.failed)], ['cancelled', count(stats.cancelled)], durations && ['p50', duration(durations.p50)], durations && ['p95', duration(durations.p95)])),
      panel('Schedules', schedules.schedules.length === 0
        ? empty('This queue has no schedules. One for each tenant, say:', ["await queue.schedule('tenant-1', {", "  cron: '0 7 * * MON-FRI', timezone: 'Europe/Berlin',", '  payload: { tenant: 1 }', '})'].join('\n'))
        : h('ul', { class: 'rows' }, schedules.schedules.map(({ key, every: period, cron, timezone, payload, nextRunAt, lastRunAt }) => h('li', { 'data-key': key },
          h('span', { class: 'grow' }, h('strong', {}, key), h('span', { class: 'muted' }, ` ${period !== undefined ? every(period) : schedules.words[cron ?? ''] ?? cron ?? ''}${timezone === undefined ? '' : ` ${timezone}`}`)),
          h('span', { class: 'muted number' }, 'next ', time(nextRunAt, timezone)), lastRunAt !== undefined && h('span', { class: 'muted number' }, 'last ', time(lastRunAt, timezone)),
          h('details', { class: 'full' }, h('summary', {}, 'Payload'), content(payload, 'None')))), schedules.cursor !== undefined && h('li', { class: 'muted' }, 'and more'))),
      settings(details.settings))
  ]
}

function row (queue: string, { id, state, key, attempt, priority, progress: done, enqueuedAt, runAt, startedAt, finishedAt, error, schedule }: ListedRun): HTMLElement {
  return h('li', { 'data-key': id },
    h('span', { class: 'grow' }, h('a', { href: `#/queues/${part(queue)}/runs/${part(id)}` }, h('code', {}, id)),
      key !== undefined && h('span', { class: 'muted line' }, ` key ${key}`), schedule !== undefined && h('span', { class: 'muted line' }, ` schedule ${schedule}`), attempt > 1 && h('span', { class: 'muted' }, ` attempt ${attempt}`), priority > 0 && h('span', { class: 'muted' }, ` priority ${priority}`)),
    progress(done),
    h('span', { class: 'number' }, state === 'delayed' ? ['runs ', time(runAt)] : state === 'waiting' ? ['enqueued ', time(enqueuedAt)] : state === 'active' ? ['began ', time(startedAt)] : time(finishedAt)),
    buttons(...runActions(queue, id, state)),
    error !== undefined && h('p', { class: 'full reason failing' }, `${error.name}: ${error.message}`))
}

function retryAll (name: string, n: number): Action {
  return { label: 'Retry all failed', about: name, confirm: [`Retry ${counted(n, 'failed run')} of "${name}"?`, `Retry ${counted(n, 'run')}`], act: async () => await post(`queues/${part(name)}/actions/retryFailed`) }
}

function clear (name: string, state: string, n: number): Action {
  return { label: `Clear ${state}`, about: name, confirm: [`Remove ${counted(n, 'run')} of "${name}" that ${n === 1 ? 'is' : 'are'} ${state}? They cannot be brought back.`, `Remove ${counted(n, 'run')}`], act: async () => await post(`queues/${part(name)}/actions/clear`, { state }) }
}

const none: Record<typeof states[number], string> = {
  waiting: 'No run waits. Each payload that the application enqueues is one:',
  delayed: 'No run is delayed. A run is delayed until its time (delay, runAt), or until its next attempt (retry).',
  active: 'No run is active.',
  succeeded: 'No run that succeeded is kept. The option "keep" says how many are.',
  failed: 'No run has failed for good. A failed run stays here until you retry or remove it.'
}
