import { part } from '../api.ts'
import { throughput } from '../charts.ts'
import { type Child, h } from '../dom.ts'
import { count, counted } from '../format.ts'
import { badge, empty, icon, panel, progress, taken, taskLink, time } from '../parts.ts'
import type { Overview } from '../types.ts'

/** Whether all is well, and if not, why. */
export function overviewPage (overview: Overview): Child {
  const { health, problems, tasks, activeCount, queues } = overview
  const all = health.ok + health.degraded + health.failing
  if (all === 0) return [h('h1', {}, 'No tasks yet'), empty('Nothing is declared in this application. Declare a task, and it stands here:', first)]
  return [
    h('div', { class: `health ${health.status}` }, icon(health.status),
      h('div', {}, h('h1', {}, sentence(health)), h('p', {}, [
        tasks.timed > 0 && `${count(tasks.timed)} timed`,
        tasks.queue > 0 && counted(tasks.queue, 'queue'),
        tasks.service + tasks.hosted > 0 && counted(tasks.service + tasks.hosted, 'service')
      ].filter(Boolean).join(' · '), ` · ${counted(activeCount, 'run')} active`))),
    problems.length > 0 && h('ul', { class: 'problems', 'aria-label': 'What is wrong' }, problems.map(({ status, reason, tasks, count: n }) => h('li', { class: status, 'data-key': `${status} ${tasks[0] ?? ''} ${reason}` }, badge(status),
      h('span', {}, tasks.map((name, i) => [i > 0 && ', ', taskLink(name, queues.some(queue => queue.name === name) ? 'queue' : 'task')]), n > tasks.length && ` and ${count(n - tasks.length)} more`, h('span', { class: 'muted' }, ` ${reason}`))))),
    h('div', { class: 'columns' }, h('div', {}, running(overview), lastHour(overview)), h('div', {}, failed(overview), queues.length > 0 && waiting(overview)))
  ]
}

function running ({ active, activeCount }: Overview): Child {
  return panel(['Running now ', h('span', { class: 'muted' }, count(activeCount))],
    active.length === 0
      ? empty('Nothing runs at this moment.')
      : h('ul', { class: 'rows' }, active.slice(0, 10).map(run => h('li', { 'data-key': run.id },
        h('span', { class: 'grow' }, run.kind === 'background' ? run.task : taskLink(run.task, run.kind), h('span', { class: 'muted' }, ` ${run.kind}${run.attempt > 1 ? `, attempt ${run.attempt}` : ''}`)),
        progress(run.progress), h('span', { class: 'number' }, taken(run.startedAt))))),
    activeCount > 10 && h('p', { class: 'muted' }, `and ${count(activeCount - 10)} more`))
}

function failed ({ failures, queues }: Overview): Child {
  return panel('Failed last', failures.length === 0
    ? empty('Nothing has failed for good since this process started.')
    : h('ul', { class: 'rows' }, failures.slice(0, 5).map(({ task, id, at, error }) => h('li', { 'data-key': id },
      h('span', { class: 'grow' }, h('a', { href: queues.some(({ name }) => name === task) ? `#/queues/${part(task)}/runs/${part(id)}` : `#/tasks/${part(task)}/runs/${part(id)}` }, task), h('span', { class: 'muted line' }, ` ${error.message}`)),
      h('span', { class: 'number' }, time(at))))))
}

function lastHour ({ throughput: minutes }: Overview): Child {
  const sum = (outcome: 'succeeded' | 'failed' | 'cancelled'): string => count(minutes.reduce((sum, one) => sum + one[outcome], 0))
  return panel('Last hour', throughput(minutes), h('p', { class: 'legend' }, badge('succeeded'), ` ${sum('succeeded')} `, badge('failed'), ` ${sum('failed')} `, badge('cancelled'), ` ${sum('cancelled')}`, h('span', { class: 'muted' }, ' runs by minute, in this process')))
}

function waiting ({ queues }: Overview): Child {
  return panel('Queues', h('ul', { class: 'rows' }, queues.slice(0, 12).map(({ name, state, counts, oldestWaiting, problem }) => h('li', { 'data-key': name },
    h('span', { class: 'grow' }, taskLink(name, 'queue'), ' ', state !== 'running' && badge(state)),
    counts === undefined
      ? h('span', { class: 'muted line' }, problem ?? 'unknown')
      : [h('span', { class: 'number' }, counted(counts.waiting + counts.delayed, 'waiting', 'waiting')), h('span', { class: 'number' }, `${count(counts.active)} active`), h('span', { class: counts.failed > 0 ? 'number bad' : 'number' }, `${count(counts.failed)} failed`)],
    oldestWaiting !== undefined && h('span', { class: 'muted number' }, 'since ', time(oldestWaiting))))),
  queues.length > 12 && h('p', {}, h('a', { href: '#/tasks' }, `All ${count(queues.length)}`)))
}

function sentence ({ status, ok, degraded, failing }: Overview['health']): string {
  if (status === 'ok') return ok === 1 ? 'The task is well' : `All ${count(ok)} tasks are well`
  return [failing > 0 && `${counted(failing, 'task is', 'tasks are')} failing`, degraded > 0 && `${counted(degraded, 'task is', 'tasks are')} degraded`].filter(Boolean).join(', ')
}

const first = ["app.addBackgroundTask('purge-sessions', { every: '10m' }, async ({ signal, log }) => {", "  log.info('sessions purged')", '})'].join('\n')
