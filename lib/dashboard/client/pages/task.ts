import { buttons, runActions, taskActions } from '../actions.ts'
import { part } from '../api.ts'
import { strip } from '../charts.ts'
import { type Child, h } from '../dom.ts'
import { at, count, counted, duration } from '../format.ts'
import { badge, empty, error, facts, icon, panel, progress, settings, taken, time, timing, whenIn } from '../parts.ts'
import type { Details } from '../types.ts'

/** The head of the page of a task or a queue. */
export function head (details: Details): Child {
  const { task: { name, kind, state, condition, stats } } = details
  return [
    h('nav', { class: 'path', 'aria-label': 'Where you are' }, h('a', { href: '#/tasks' }, 'Tasks'), ' / ', h('span', { 'aria-current': 'page' }, name)),
    h('div', { class: 'title' }, h('h1', {}, name), h('p', {}, badge(state), h('span', { class: 'muted' }, ` ${kind}`)), buttons(...taskActions(name, kind, state, stats.active))),
    condition.status !== 'ok' && h('ul', { class: 'problems' }, h('li', { class: condition.status }, badge(condition.status), h('span', {}, condition.reason)))
  ]
}

/** A task in full. */
export function taskPage (details: Details): Child {
  const { task, nextRuns, active, history, durations, words } = details
  const { name, timing: when, stats } = task
  const zone = when?.timezone
  return [
    head(details),
    h('div', { class: 'columns' },
      panel('Runs', strip(task.history),
        facts(
          ['succeeded', count(stats.succeeded)], ['failed', count(stats.failed)], ['cancelled', count(stats.cancelled)], ['skipped', count(stats.skipped)],
          durations && ['half take less than', duration(durations.p50)], durations && ['95 % take less than', duration(durations.p95)]),
        durations && h('p', { class: 'muted' }, `p50 and p95 of the last ${counted(durations.runs, 'run')}, in this process`)),
      when !== undefined && panel('Next runs', h('p', {}, timing(when, words), zone !== undefined && h('span', { class: 'muted' }, ` in ${zone}`), when.cron !== undefined && h('code', { class: 'muted' }, ` ${when.cron}`)),
        nextRuns.length === 0
          ? h('p', { class: 'muted' }, task.state === 'paused' ? 'None while it is paused.' : 'None: it is not started, or nothing is due within reach.')
          : h('ol', { class: 'rows' }, nextRuns.map(next => h('li', { 'data-key': next }, h('span', {}, whenIn(next, zone))))))),
    panel(['Active ', h('span', { class: 'muted' }, count(active.length))], active.length === 0
      ? h('p', { class: 'muted' }, 'No run is active in this process.')
      : h('ul', { class: 'rows' }, active.map(run => h('li', { 'data-key': run.id }, h('span', { class: 'grow' }, icon('active'), h('a', { href: `#/tasks/${part(name)}/runs/${part(run.id)}` }, h('code', {}, run.id)), run.attempt > 1 && ` attempt ${run.attempt}`), progress(run.progress), h('span', { class: 'number' }, taken(run.startedAt)), buttons(...runActions(name, run.id, 'active')))))),
    panel('History', history.length === 0
      ? empty('No run has ended yet. Run it now, or trigger it from code:', `app.backgroundTasks.get('${name.slice(0, 100)}').trigger()`)
      : [h('p', { class: 'muted' }, `The last ${counted(history.length, 'run')}, in this process.`), h('ul', { class: 'rows' }, history.map(run => h('li', { 'data-key': run.id },
          badge(run.outcome), h('a', { class: 'grow', href: `#/tasks/${part(name)}/runs/${part(run.id)}` }, h('code', {}, run.id)), run.attempts > 1 && h('span', { class: 'muted' }, counted(run.attempts, 'attempt')), h('span', { class: 'number' }, duration(run.duration)), h('span', { class: 'number' }, time(run.startedAt)),
          run.error !== undefined && h('div', { class: 'full' }, error(run.error)))))]),
    settings(details.settings)
  ]
}

/** One run of a task that is no queue. */
export function taskRunPage (details: Details, id: string): Child {
  const { task: { name }, active, history } = details
  const path = h('nav', { class: 'path', 'aria-label': 'Where you are' }, h('a', { href: '#/tasks' }, 'Tasks'), ' / ', h('a', { href: `#/tasks/${part(name)}` }, name), ' / ', h('span', { 'aria-current': 'page' }, id))
  const now = active.find(run => run.id === id)
  if (now !== undefined) {
    return [path, h('div', { class: 'title' }, h('h1', {}, 'Run of ', name), h('p', {}, badge('active')), buttons(...runActions(name, id, 'active'))),
      panel('Timeline', facts(['id', h('code', {}, id)], now.dueAt !== undefined && ['due', at(now.dueAt)], ['began', at(now.startedAt)], ['runs for', taken(now.startedAt)], ['attempt', count(now.attempt)], now.progress !== undefined && ['progress', progress(now.progress)]))]
  }
  const run = history.find(run => run.id === id)
  if (run === undefined) return [path, h('h1', {}, 'Run not found'), empty('It is none of the last 30 runs of this process. Another process may have run it.')]
  return [path, h('div', { class: 'title' }, h('h1', {}, 'Run of ', name), h('p', {}, badge(run.outcome))),
    panel('Timeline', facts(['id', h('code', {}, id)], run.dueAt !== undefined && ['due', at(run.dueAt)], ['began', at(run.startedAt)], ['took', duration(run.duration)], ['attempts', count(run.attempts)])),
    run.error !== undefined && panel('Error', error(run.error))]
}
