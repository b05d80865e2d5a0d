import t from 'tap'
import { Activity } from '../../../lib/run/past/activity.ts'

const MINUTE = 60_000
const at = (minute: number): Date => new Date(minute * MINUTE)

t.test('runs count in the minute in which they ended, for an hour', async t => {
  const activity = new Activity()
  activity.ended('succeeded', 100 * MINUTE)
  activity.ended('succeeded', 101 * MINUTE - 1)
  activity.ended('failed', 101 * MINUTE)
  activity.ended('skipped', 101 * MINUTE)
  activity.ended('cancelled', 102 * MINUTE)
  t.same(activity.minutes(102 * MINUTE), [
    { at: at(100), succeeded: 2, failed: 0, cancelled: 0 },
    { at: at(101), succeeded: 0, failed: 1, cancelled: 0 },
    { at: at(102), succeeded: 0, failed: 0, cancelled: 1 }
  ])
  t.same(activity.minutes(160 * MINUTE).map(({ at }) => at), [at(101), at(102)], 'sixty minutes, with the one that runs')
  activity.ended('succeeded', 160 * MINUTE)
  t.same(activity.minutes(160 * MINUTE).map(({ at }) => at), [at(101), at(102), at(160)], 'the same place of the ring is used again')
  t.same(activity.minutes(99 * MINUTE), [], 'nor what is ahead of a clock that was set back')
})

t.test('the last twenty failures are remembered, the newest first', async t => {
  const activity = new Activity()
  const error = new Error('no')
  for (let i = 0; i < 25; i++) activity.failed('task', String(i), i, error)
  t.equal(activity.failures.length, 20)
  t.same(activity.failures[0], { task: 'task', id: '24', at: new Date(24), error })
  t.equal(activity.failures.at(-1)?.id, '5')
})
