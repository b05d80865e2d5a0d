// That docs/metrics.md, the dashboard and the alert rules speak of the metrics that there are. `promtool` checks the rules, too, where it is installed.
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import Fastify from 'fastify'
import { Registry } from 'prom-client'
import t from 'tap'
import { parse } from 'yaml'
import example from '../../example/metrics.ts'
import backgroundTasks from '../../lib/index.ts'
import { metrics } from '../../lib/metrics/index.ts'

const fileOf = (name: string): string => fileURLToPath(new URL(`../../docs/${name}`, import.meta.url))
const read = (name: string): string => readFileSync(fileOf(name), 'utf8').replaceAll('\r\n', '\n')

interface Metric { name: string, type: string, help: string, labelNames: string[] }
interface Panel { id: number, title: string, description: string, gridPos: { x: number, y: number, w: number, h: number }, targets: Array<{ expr: string, refId: string }> }
interface Dashboard { title: string, panels: Panel[], templating: { list: Array<{ name: string, query: string | { query: string } }> } }
interface Rules { groups: Array<{ name: string, rules: Array<{ alert: string, expr: string, for?: string, labels: object, annotations: { summary: string, description: string } }> }> }

const registry = new Registry()
const app = Fastify()
await app.register(backgroundTasks)
await app.register(metrics, { registry })
await app.ready()
t.teardown(async () => { await app.close() })
const all = new Map((registry.getMetricsAsArray() as unknown as Metric[]).map(metric => [metric.name, metric]))

/** The metrics that an expression names; `undefined` for one that there is not. */
function namedIn (expr: string): Array<Metric | undefined> {
  return [...expr.matchAll(/\bbackground_\w+/g)].map(([name]) => {
    const histogram = all.get(name.replace(/_(bucket|sum|count)$/, ''))
    return all.get(name) ?? (histogram?.type === 'histogram' ? histogram : undefined)
  })
}

/** What is wrong with an expression. */
function faultsOf (expr: string): string[] {
  const faults: string[] = []
  const named = namedIn(expr)
  if (named.length === 0 || named.includes(undefined)) faults.push('it names no metric, or one that there is not')
  // Labels of Prometheus itself: of the scraped job, and of buckets.
  const labels = new Set(['job', 'le', ...named.flatMap(metric => metric?.labelNames ?? [])])
  const used = [...[...expr.matchAll(/\{([^}]*)\}/g)].flatMap(([, inside = '']) => [...inside.matchAll(/(\w+)\s*(?:=~|!~|!=|=)/g)].map(([, label]) => label)), ...[...expr.matchAll(/\bby \(([^)]*)\)/g)].flatMap(([, inside = '']) => inside.split(/, */))]
  for (const label of used) if (!labels.has(label as string)) faults.push(`its metrics have no label ${label}`)
  for (const [open, close] of ['()', '{}', '[]']) if (expr.split(open as string).length !== expr.split(close as string).length) faults.push(`${open}${close} do not match`)
  // A counter is of use by its rate, a gauge as it is.
  for (const [, call, name = ''] of expr.matchAll(/(?:(rate|increase)\()?\b(background_\w+)/g)) {
    const counts = all.get(name)?.type !== 'gauge'
    if (counts !== (call !== undefined)) faults.push(`${name} is a ${counts ? 'counter' : 'gauge'}`)
  }
  return faults
}

t.test('docs/metrics.md has every metric, with its type and labels, and no other', async t => {
  const rows = [...read('metrics.md').matchAll(/^\| `(background_\w+)` \| (\w+) \| (.*?) \| (.+) \|$/gm)]
  const documented = rows.map(([, name, type, labels = '']) => ({ name, type, labelNames: [...labels.matchAll(/`(\w+)`/g)].map(([, label]) => label) }))
  t.same(documented, [...all.values()].map(({ name, type, labelNames }) => ({ name, type, labelNames })))
  t.equal(all.size, 9)
})

t.test('the metrics are named and labelled as Prometheus advises', async t => {
  for (const { name, type, help, labelNames } of all.values()) {
    t.equal(name.endsWith('_total'), type === 'counter', name)
    t.notMatch(help, /\.$/)
    t.notOk(labelNames.some(label => ['run', 'id', 'key'].includes(label)), `${name}: names only`)
  }
})

t.test('docs/grafana.json is a dashboard of all metrics, and each expression is of them', async t => {
  const { title, panels, templating } = JSON.parse(read('grafana.json')) as Dashboard
  t.equal(title, 'fastify-background-tasks')
  t.equal(new Set(panels.map(({ id }) => id)).size, panels.length)
  const expressions = panels.flatMap(({ targets }) => targets.map(({ expr }) => expr))
  for (const expr of expressions) t.same(faultsOf(expr), [], expr)
  for (const { title, description, targets } of panels) {
    t.ok(description.length > 0 && targets.length > 0, title)
    t.equal(new Set(targets.map(({ refId }) => refId)).size, targets.length, title)
  }
  const variables = templating.list.map(({ name }) => name)
  for (const { name, query } of templating.list) if (typeof query === 'object') t.match(query.query, new RegExp(`^label_values\\(background_\\w+(\\{.*\\})?, ${name}\\)$`))
  t.same(templating.list.flatMap(({ query }) => typeof query === 'object' ? namedIn(query.query) : []).filter(metric => metric === undefined), [])
  for (const [, variable] of read('grafana.json').matchAll(/\$\{?(?!__)(\w+)/g)) t.ok(variables.includes(variable as string), variable as string)
  t.same(new Set(expressions.flatMap(namedIn).map(metric => metric?.name)), new Set(all.keys()))
  for (const [i, { gridPos: a }] of panels.entries()) {
    t.ok(a.x + a.w <= 24)
    for (const { gridPos: b } of panels.slice(i + 1)) t.notOk(a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h, 'no panel lies on another')
  }
})

t.test('docs/alerts.yml has rules of these metrics, and docs/metrics.md lists them', async t => {
  const { groups } = parse(read('alerts.yml')) as Rules
  const rules = groups.flatMap(({ rules }) => rules)
  for (const { alert, expr, labels, annotations: { summary, description }, for: wait = '0s' } of rules) {
    t.same(faultsOf(expr), [], alert)
    t.match(wait, /^\d+[smh]$/)
    t.match(labels, { severity: /^(warning|critical)$/ })
    const grouped = [.../by \(([^)]*)\)/.exec(expr)?.[1]?.split(', ') ?? []]
    for (const [, label] of summary.matchAll(/\$labels\.(\w+)/g)) t.ok(grouped.includes(label as string), `${alert}: the label ${label} is left after the aggregation`)
    t.ok(description.length > 20)
  }
  t.same([...read('metrics.md').matchAll(/^\| `(Background\w+)` \|/gm)].map(([, name]) => name), rules.map(({ alert }) => alert))
})

t.test('promtool accepts the rules', { skip: spawnSync('promtool', ['--version']).status !== 0 && 'promtool is not installed: the rules were checked by the tests above' }, async t => {
  const { status, stdout, stderr } = spawnSync('promtool', ['check', 'rules', fileOf('alerts.yml')], { encoding: 'utf8' })
  t.equal(status, 0, stdout + stderr)
})

t.test('the checks find what they look for', async t => {
  t.match(faultsOf('background_nothing'), [/no metric/])
  t.match(faultsOf('up'), [/no metric/])
  t.match(faultsOf('sum by (queue) (background_health)'), [/no label queue/])
  t.match(faultsOf('background_health{state="x"}'), [/no label state/])
  t.match(faultsOf('sum(background_health'), [/do not match/])
  t.match(faultsOf('background_runs_total'), [/is a counter/])
  t.match(faultsOf('rate(background_health[5m])'), [/is a gauge/])
})

t.test('example/metrics.ts gives an application GET /metrics', async t => {
  const app = Fastify()
  t.teardown(async () => { await app.close() })
  await app.register(backgroundTasks)
  app.addBackgroundTask('purge', { every: '1h' }, () => {})
  await app.register(example)
  const { statusCode, headers, body } = await app.inject('/metrics')
  t.equal(statusCode, 200)
  t.match(headers['content-type'], 'text/plain; version=0.0.4')
  t.match(body, 'background_health{task="purge"} 0')
  t.match(body, 'process_cpu_seconds_total')
})
