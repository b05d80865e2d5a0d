// What do 10,000 and 100,000 timed tasks cost: memory each, CPU a tick, and the time to stop them all? Each contender in a process of its own.
import { median, section, spawnOne, table, WITHOUT_CODE } from './report.js'

const OURS = 'fastify-background-tasks'
const PEERS = ['setInterval', 'toad-scheduler', 'croner', 'node-cron']
const contenders = [OURS, 'its clock alone', ...PEERS]

const ROUNDS = { 10_000: 7, 100_000: 3 }

let text = `## Footprint

Timed tasks with a period of five seconds, all with one handler: medians of ${ROUNDS[10_000]} and ${ROUNDS[100_000]} rounds in processes of their own, in turn. Each scheduler is run
with Fastify: started when the application is ready, stopped when it closes. *Boot* is until all are declared and started, *CPU a tick* user and system time of the first tick of each,
*disarmed* until no timer is armed for any of them, *stop* how long \`app.close()\` takes; that of an application without tasks is in each.
*Bytes* is what the heap holds more for each before it has run; names, and the code, are there before. *Its clock alone* is the heap with the one armed timer under the plugin.
A task of ours that has run keeps some 200 bytes for each of its last 30 runs, which no other does.
`
for (const count of [10_000, 100_000]) {
  const all = Object.fromEntries(contenders.map(name => [name, []]))
  const failed = {}
  for (let round = 0; round < ROUNDS[count]; round++) {
    for (const name of contenders) {
      if (name in failed) continue
      try {
        const memory = await spawnOne('footprint-one.js', [name, String(count), 'memory'], WITHOUT_CODE)
        all[name].push({ ...memory, ...await spawnOne('footprint-one.js', [name, String(count), 'time']) })
      } catch (error) {
        failed[name] = String(error.signal ?? error.code)
      }
    }
  }
  const of = (name, key) => median(all[name].map(one => one[key]))
  const rows = contenders.map(name => {
    if (name in failed) return [name, 'did not finish', '', '', '', failed[name]]
    return [name, ...Object.entries({ boot: 0, bytes: 0, cpu: 1, disarmed: 1, stop: 1 }).map(([key, digits]) => of(name, key).toFixed(digits))]
  })
  text += `\n### ${count.toLocaleString('en')} tasks\n\n${table(['', 'boot, ms', 'bytes a task', 'CPU a tick, µs', 'disarmed, ms', 'stop, ms'], rows)}\n`
  for (const name of PEERS) {
    if (!(name in failed) && (of(name, 'bytes') <= of(OURS, 'bytes') || of(name, 'stop') <= of(OURS, 'stop'))) process.exitCode = 1
  }
}
section('footprint', text)
