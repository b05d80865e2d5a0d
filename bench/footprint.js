// What do 10,000 and 100,000 timed tasks cost: memory each, CPU a tick, and the time to stop them all? Each contender in a process of its own.
import { median, section, spawnOne, table } from './report.js'

const contenders = ['fastify-background-tasks', 'its clock alone', 'setInterval', 'toad-scheduler', 'croner', 'node-cron']

const ROUNDS = { 10_000: 7, 100_000: 3 }

let text = `## Footprint

Timed tasks with a period of five seconds, all with one handler: medians of ${ROUNDS[10_000]} and ${ROUNDS[100_000]} rounds in processes of their own, in turn. *Boot* is until all are declared and started, *bytes* what the heap holds more
for each, *CPU a tick* user and system time of the first tick of each, *disarmed* until no timer is armed for any of them, *stop* until everything is closed.
*Its clock alone* is the heap with the one armed timer under the plugin: what a bare \`setInterval\` compares with. The rest of a task's bytes are its name,
options, state, logger and hooks. One that has run keeps some 200 bytes more for each of its last 30 runs.
`
for (const count of [10_000, 100_000]) {
  const all = Object.fromEntries(contenders.map(name => [name, []]))
  const failed = {}
  for (let round = 0; round < ROUNDS[count]; round++) {
    for (const name of contenders) {
      if (name in failed) continue
      try {
        all[name].push(await spawnOne('footprint-one.js', [name, String(count)]))
      } catch (error) {
        failed[name] = String(error.signal ?? error.code)
      }
    }
  }
  const rows = contenders.map(name => {
    if (name in failed) return [name, 'did not finish', '', '', '', failed[name]]
    const of = (key, digits) => median(all[name].map(one => one[key])).toFixed(digits)
    return [name, of('boot', 0), of('bytes', 0), of('cpu', 1), of('disarmed', 1), of('stop', 1)]
  })
  text += `\n### ${count.toLocaleString('en')} tasks\n\n${table(['', 'boot, ms', 'bytes a task', 'CPU a tick, µs', 'disarmed, ms', 'stop, ms'], rows)}\n`
}
section('footprint', text)
