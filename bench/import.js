// What does the import of the package cost, on top of Fastify's? Each in a process of its own, with its files in the cache of the system.
import { median, section, spawnOne, table } from './report.js'

const ROUNDS = 21
const contenders = ['fastify', 'fastify-background-tasks', 'toad-scheduler', 'node-cron', 'bullmq']

const all = Object.fromEntries(contenders.map(name => [name, []]))
// The first round fills the cache.
for (let round = 0; round <= ROUNDS; round++) {
  for (const name of contenders) {
    const { ms } = await spawnOne('import-one.js', [name])
    if (round > 0) all[name].push(ms)
  }
}
const fastify = median(all.fastify)
section('import', `## Import

How long the first \`import\` takes: medians of ${ROUNDS} processes. That of Fastify includes one \`Fastify()\`, which loads ajv; the others are imported
after it, so that what they share with it is there.

${table(['', 'ms', 'of Fastify\'s'], contenders.map(name => [name, median(all[name]).toFixed(1), (median(all[name]) / fastify).toFixed(2)]))}
`)
