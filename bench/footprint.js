// What do 10,000 and 100,000 timed tasks cost: memory each, CPU a tick, and the time to stop them all? Each contender in a process of its own.
import { section, spawnOne, table } from './report.js'

const contenders = ['fastify-background-tasks', 'its clock alone', 'setInterval', 'toad-scheduler', 'croner', 'node-cron']

let text = `## Footprint

Timed tasks with a period of five seconds, all with one handler. *Boot* is until all are declared and started, *bytes* what the heap holds more
for each, *CPU a tick* user and system time, *disarmed* until no timer is armed any more, *stop* until everything is closed.
*Its clock alone* is the heap with the one armed timer under the plugin: what a bare \`setInterval\` compares with. The rest of a task's bytes are its name,
options, state, logger and hooks.
`
for (const count of [10_000, 100_000]) {
  const rows = []
  for (const name of contenders) {
    try {
      const { boot, bytes, cpu, disarmed, stop } = await spawnOne('footprint-one.js', [name, String(count)])
      rows.push([name, boot.toFixed(0), bytes.toFixed(0), cpu.toFixed(1), disarmed.toFixed(1), stop.toFixed(1)])
    } catch (error) {
      rows.push([name, 'did not finish', '', '', '', String(error.signal ?? error.code)])
    }
  }
  text += `\n### ${count.toLocaleString('en')} tasks\n\n${table(['', 'boot, ms', 'bytes a task', 'CPU a tick, µs', 'disarmed, ms', 'stop, ms'], rows)}\n`
}
section('footprint', text)
