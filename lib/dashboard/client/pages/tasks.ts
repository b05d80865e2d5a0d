import { buttons, taskActions } from '../actions.ts'
import { strip } from '../charts.ts'
import { type Child, h } from '../dom.ts'
import { at, count, duration, viewerZone } from '../format.ts'
import { badge, empty, taskLink, time, timing } from '../parts.ts'
import type { Task, Tasks } from '../types.ts'

/** Which tasks are shown. */
export interface TaskQuery { search?: string | undefined, status?: string | undefined, cursor?: string | undefined }

/** All tasks, each with its last runs. */
export function tasksPage ({ tasks, total, cursor, words }: Tasks, query: TaskQuery, go: (query: TaskQuery) => void): Child {
  return [
    h('h1', {}, 'Tasks ', h('span', { class: 'muted' }, count(total))),
    h('div', { class: 'filters' },
      h('form', { role: 'search', onsubmit: (event: Event) => { event.preventDefault() } },
        h('input', { type: 'search', 'aria-label': 'Search tasks by name', placeholder: 'Search by name', value: query.search ?? '', maxlength: 1000, oninput: ({ target }: Event) => { go({ ...query, cursor: undefined, search: (target as HTMLInputElement).value }) } })),
      h('nav', { class: 'chips', 'aria-label': 'Filter by health' }, [undefined, 'failing', 'degraded', 'ok'].map(status => h('button', { type: 'button', 'data-key': status ?? 'all', 'aria-pressed': String(query.status === status), onclick: () => { go({ ...query, cursor: undefined, status }) } }, status ?? 'all')))),
    tasks.length === 0
      ? empty(query.search === undefined && query.status === undefined ? 'No task is declared. This declares one:' : 'No task matches.', query.search === undefined && query.status === undefined ? declared : undefined)
      : h('ul', { class: 'tasks' }, tasks.map(task => row(task, words))),
    h('p', { class: 'pager' }, query.cursor !== undefined && h('button', { type: 'button', onclick: () => { go({ ...query, cursor: undefined }) } }, 'First page'), cursor !== undefined && h('button', { type: 'button', onclick: () => { go({ ...query, cursor }) } }, 'Next page')),
    h('p', { class: 'muted' }, 'The last 30 runs are those of this process. A bar is as high as the run was long; ', h('span', { class: 'legend' }, badge('succeeded'), ' full, ', badge('failed'), ' with a cross, ', badge('cancelled'), ' empty, ', badge('skipped'), ' a dot.'))
  ]
}

function row (task: Task, words: Record<string, string>): HTMLElement {
  const { name, kind, state, condition: { status, reason }, timing: when, nextRunAt, lastRun, history, stats } = task
  const zone = when?.timezone
  return h('li', { class: `task ${status}`, 'data-key': name },
    h('div', { class: 'who' }, h('h2', {}, taskLink(name, kind)), h('p', {}, badge(state), h('span', { class: 'muted' }, ` ${kind}`)), reason !== undefined && h('p', { class: `reason ${status}` }, reason)),
    h('div', { class: 'when' }, when === undefined
      ? h('span', { class: 'muted' }, kind === 'queue' ? 'runs what is enqueued' : kind === 'service' ? 'runs all the time' : 'starts and stops with the application')
      : [h('p', {}, timing(when, words), zone !== undefined && h('span', { class: 'muted' }, ` ${zone}`)),
          nextRunAt === undefined ? h('p', { class: 'muted' }, 'no next run') : h('p', { class: 'muted' }, 'next ', time(nextRunAt, zone), h('span', { class: 'wide' }, zone === undefined || zone === viewerZone ? `, ${at(nextRunAt)}` : `, ${at(nextRunAt, zone)}, here ${at(nextRunAt)}`))]),
    h('div', { class: 'last' }, lastRun === undefined ? h('span', { class: 'muted' }, stats.active > 0 ? 'runs now' : 'has not run yet') : [h('p', {}, badge(lastRun.outcome)), h('p', { class: 'muted' }, time(lastRun.startedAt), `, took ${duration(lastRun.duration)}`)]),
    h('div', { class: 'runs' }, strip(history)),
    buttons(...taskActions(name, kind, state, stats.active).slice(0, 3)))
}

const declared = ["app.addBackgroundTask('nightly-report', { cron: '0 2 * * *', timezone: 'Europe/Berlin' }, async function ({ signal, log }) {", '  await this.reports.build({ signal })', '})'].join('\n')
