import { buttons, runActions } from '../actions.ts'
import { part } from '../api.ts'
import { type Child, h } from '../dom.ts'
import { at, count } from '../format.ts'
import { badge, content, error, facts, panel, progress, taken, time } from '../parts.ts'
import type { OneRun } from '../types.ts'

/** A run of a queue in full. */
export function runPage (queue: string, { run }: OneRun): Child {
  const { id, state, attempt, priority, key, reqId, schedule, dueAt, enqueuedAt, runAt, startedAt, finishedAt } = run
  const steps: Array<[string, string | undefined, Child?]> = [
    ['due', dueAt, schedule !== undefined && ` by schedule ${schedule}`],
    ['enqueued', enqueuedAt],
    ['waits until', runAt],
    [`attempt ${count(attempt)} began`, state === 'waiting' || state === 'delayed' ? undefined : startedAt, startedAt !== undefined && ` after ${taken(enqueuedAt, startedAt)}`],
    [state, finishedAt, startedAt !== undefined && finishedAt !== undefined && ` after ${taken(startedAt, finishedAt)}`]
  ]
  return [
    h('nav', { class: 'path', 'aria-label': 'Where you are' }, h('a', { href: '#/tasks' }, 'Tasks'), ' / ', h('a', { href: `#/queues/${part(queue)}` }, queue), ' / ', h('span', { 'aria-current': 'page' }, id)),
    h('div', { class: 'title' }, h('h1', {}, 'Run of ', queue), h('p', {}, badge(state)), buttons(...runActions(queue, id, state))),
    h('div', { class: 'columns' },
      panel('Timeline', h('ol', { class: 'timeline' }, steps.map(([what, when, more]) => when !== undefined && h('li', { 'data-key': what }, h('strong', {}, what), ' ', time(when), h('span', { class: 'muted' }, ` ${at(when)}`, more))))),
      panel('Facts', facts(['id', h('code', {}, id)], ['attempt', count(attempt)], key !== undefined && ['key', key], priority > 0 && ['priority', count(priority)], reqId !== undefined && ['request', h('code', {}, reqId)], run.progress !== undefined && ['progress', progress(run.progress)]))),
    run.error !== undefined && panel(state === 'failed' ? 'Error' : 'Error of the last failed attempt', error(run.error)),
    panel('Payload', content(run.payload, 'It has no payload.')),
    state === 'succeeded' && panel('Result', content(run.value, 'The handler returned nothing that is kept.'))
  ]
}
