// A cron task runs at wall times of a zone. `nextRuns` says which; `trigger` runs it now, and tells how that went.
import Fastify from 'fastify'
import backgroundTasks from 'fastify-background-tasks'

const app = Fastify()
await app.register(backgroundTasks)

const weekend = (due: Date): boolean => ['Sat', 'Sun'].includes(due.toLocaleDateString('en', { weekday: 'short', timeZone: 'Asia/Seoul' }))

const report = app.addBackgroundTask('nightly-report', { cron: '0 2 * * *', timezone: 'Asia/Seoul', exclude: weekend }, async ({ attempt, log }) => {
  log.info('at work')
  return `report written at attempt ${attempt}`
})

await app.ready()

const inSeoul = (due: Date): string => due.toLocaleString('en-GB', { weekday: 'long', hour: '2-digit', minute: '2-digit', timeZone: 'Asia/Seoul' })
const nights = new Set(report.nextRuns(10).map(inSeoul))
console.log(`${nights.size} nights a week:`)
for (const night of [...nights].sort()) console.log(night)

const { outcome, value } = await report.trigger().finished
console.log(`${outcome}: ${value}`)
await app.close()

// Output:
// 5 nights a week:
// Friday 02:00
// Monday 02:00
// Thursday 02:00
// Tuesday 02:00
// Wednesday 02:00
// succeeded: report written at attempt 1
