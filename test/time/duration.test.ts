import t from 'tap'
import { formatDuration, parseDuration } from '../../lib/time/duration.ts'

t.test('a number is milliseconds, a text is the sum of its parts', async t => {
  const cases: [unknown, number][] = [
    [0, 0], [1.5, 1.5], [2 ** 40, 2 ** 40],
    ['500ms', 500], ['30s', 30_000], ['10m', 600_000], ['2h', 7_200_000], ['1d', 86_400_000], ['1w', 604_800_000],
    ['1h30m', 5_400_000], ['1m1ms', 60_001], ['1w1d1h1m1s1ms', 694_861_001], ['0s', 0], ['90m', 5_400_000], ['52w', 31_449_600_000]
  ]
  for (const [given, ms] of cases) t.equal(parseDuration(given), ms, String(given))
})

t.test('whatever is not strictly a duration is refused', async t => {
  const cases = [
    '', ' ', '5', '5000', '5 parsecs', '5 s', '1 h', '1h 30m', '-1s', '+1s', '1month', '1y', '1.5h', '30m1h', '1h1h', '1H', 's', 'ms', '1e3ms', '1s\n',
    '99999999999999999999w', -1, -0.1, NaN, Infinity, -Infinity, 2 ** 53, null, undefined, true, {}, [], ['1s'], 5n, new Date(), () => 5
  ]
  for (const given of cases) t.equal(parseDuration(given), undefined, String(given))
})

t.test('a duration is shown as it would be written', async t => {
  const cases: [number, string][] = [[0, '0ms'], [250, '250ms'], [8_000, '8s'], [9_500, '9s500ms'], [5_400_000, '1h30m'], [0.4, '0ms'], [694_861_001, '1w1d1h1m1s1ms']]
  for (const [ms, text] of cases) {
    t.equal(formatDuration(ms), text)
    t.equal(parseDuration(text), Math.round(ms))
  }
})
