// In which order the keeper of leases renews and looks for the dead, when its timer comes late.
import t from 'tap'
import { ActiveJobs } from '../../../lib/store/bullmq/active/active-jobs.ts'
import type { QueueContext } from '../../../lib/store/bullmq/context.ts'
import type { RunJob } from '../../../lib/store/bullmq/jobs/index.ts'
import { LeaseKeeper } from '../../../lib/store/bullmq/active/lease-keeper.ts'
import { turns } from '../../support/fakes.ts'

const LEASE = 1_000
const INTERVAL = LEASE / 4

/** Two keepers in one process, of which each has one job. */
function keepers (): { did: string[], late: (ms: number) => void, look: (index: 0 | 1, ms?: number) => Promise<string[]>, answers: Array<() => void>, stop: () => void } {
  let now = 0
  const did: string[] = []
  const looks: Array<() => void> = []
  const answers: Array<() => void> = []
  const keepers = ['one', 'two'].map((name, index) => {
    const clock = { now: () => now, after: (_ms: number, callback: () => void) => { looks[index] = callback; return { cancel () {} } } }
    const context = {
      leases: { lease: LEASE, maxCrashes: 5 },
      options: { clock, log: { warn () {}, bindings: () => ({}) }, name },
      scripts: { async hold (id: string) { did.push(`renew ${id}`); return 'held' } },
      redis: {
        async call (ask: () => Promise<unknown>) {
          const answer = await ask()
          if (name === 'two') await new Promise<void>(resolve => { answers.push(resolve) })
          return answer
        }
      }
    } as unknown as QueueContext
    const jobs = new ActiveJobs(clock as never, { abort () { did.push('lost') } } as never)
    const keeper = new LeaseKeeper(context, jobs, () => ({ async moveStalledJobsToWait () { did.push(`${name} looks for the dead`) } }) as never)
    keeper.start()
    jobs.add({ id: name, token: 'token', attemptsStarted: 1 } as RunJob)
    return keeper
  })
  return {
    did,
    answers,
    late (ms) {
      now += ms
      for (const keeper of keepers) keeper.blocked({ ms, after: now - ms, until: now, reported: new Set() })
    },
    async look (index, ms = 0) {
      now += ms
      looks[index]?.()
      await turns(5)
      return did.splice(0)
    },
    stop () { keepers.forEach(keeper => { keeper.stop() }) }
  }
}

t.test('after a blocked event loop it renews its leases, and looks for the dead when all of the process have renewed theirs', async t => {
  const { look, late, answers, stop } = keepers()
  t.same(await look(0, INTERVAL), ['renew one', 'one looks for the dead'])
  t.same(await look(0, INTERVAL), ['renew one', 'one looks for the dead'])
  late(3 * LEASE)
  t.same(await look(0), ['renew one'], 'the other has not renewed yet')
  t.same(await look(1), ['renew two'], 'which Redis has not answered')
  t.same(await look(0, INTERVAL), ['renew one'])
  answers.shift()?.()
  await turns(5)
  t.same(await look(0, INTERVAL), ['two looks for the dead', 'renew one', 'one looks for the dead'])
  stop()
})

t.test('an answer to a renewal from before the block says nothing about the leases after it', async t => {
  const { look, late, answers, stop } = keepers()
  t.same(await look(1, INTERVAL), ['renew two'])
  late(3 * LEASE)
  answers.shift()?.()
  await turns(5)
  t.same(await look(1), ['renew two'], 'its first answer comes from before')
  t.same(await look(0), ['renew one'])
  answers.shift()?.()
  await turns(5)
  t.same(await look(0, INTERVAL), ['two looks for the dead', 'renew one', 'one looks for the dead'])
  stop()
})
