import { svg } from './dom.ts'
import { at, counted, duration, now } from './format.ts'
import type { Overview, Task } from './types.ts'

const [BAR, GAP, HEIGHT, RUNS] = [6, 2, 28, 30] as const

/** The last runs, the oldest first. The height of a bar is its duration; colour and shape are the outcome: a full bar, one with a cross, an empty one, or a dot. */
export function strip (history: Task['history']): SVGElement {
  const runs = history.slice(0, RUNS).reverse()
  const longest = Math.max(1, ...runs.map(({ duration }) => duration))
  const width = RUNS * (BAR + GAP)
  const bars = runs.map((run, i) => {
    const x = width - (runs.length - i) * (BAR + GAP)
    // By the root, so that short ones can be told apart beside a long one.
    const height = Math.max(4, Math.sqrt(run.duration / longest) * (HEIGHT - 9))
    return svg('g', { class: `bar ${run.outcome}` }, svg('title', {}, `${run.outcome}, ${duration(run.duration)}, ${at(run.startedAt)}`), ...shape(run.outcome, x, height))
  })
  return svg('svg', { class: 'strip', viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: 'img', 'aria-label': summary(runs) }, svg('path', { class: 'ground', d: `M0 ${HEIGHT - 0.5}H${width}` }), bars)
}

function shape (outcome: string, x: number, height: number): SVGElement[] {
  const y = HEIGHT - 1 - height
  const middle = x + BAR / 2
  switch (outcome) {
    case 'succeeded': return [svg('rect', { x, y, width: BAR, height, rx: 1 })]
    case 'failed': return [svg('rect', { x, y, width: BAR, height, rx: 1 }), svg('path', { d: `M${x} ${y - 7}l${BAR} 5m0 -5l${-BAR} 5` })]
    case 'cancelled': return [svg('rect', { x: x + 0.75, y: y + 0.75, width: BAR - 1.5, height: height - 1.5, rx: 1 })]
    default: return [svg('circle', { cx: middle, cy: HEIGHT - 4, r: 1.8 })]
  }
}

function summary (runs: Task['history']): string {
  if (runs.length === 0) return 'No runs yet'
  const outcomes = ['succeeded', 'failed', 'cancelled', 'skipped'].flatMap(outcome => {
    const n = runs.filter(run => run.outcome === outcome).length
    return n > 0 ? [`${n} ${outcome}`] : []
  })
  return `Last ${counted(runs.length, 'run')}: ${outcomes.join(', ')}`
}

const MINUTE = 60_000

/** The runs that ended in each minute of the last hour. */
export function throughput (minutes: Overview['throughput']): SVGElement {
  const [width, height, bar] = [600, 72, 10]
  const last = Math.floor(now() / MINUTE)
  const most = Math.max(1, ...minutes.map(({ succeeded, failed, cancelled }) => succeeded + failed + cancelled))
  const bars = minutes.map(({ at: time, succeeded, failed, cancelled }) => {
    const x = width - (last - Math.floor(Date.parse(time) / MINUTE) + 1) * bar
    let y = height - 1
    const rects = ([['succeeded', succeeded], ['cancelled', cancelled], ['failed', failed]] as const).flatMap(([outcome, n]) => {
      const tall = n === 0 ? 0 : Math.max(2, n / most * (height - 6))
      y -= tall
      return n === 0 ? [] : [svg('rect', { class: outcome, x: x + 1, y, width: bar - 2, height: tall, rx: 1 })]
    })
    return svg('g', { class: 'bar' }, svg('title', {}, `${at(time)}: ${succeeded} succeeded, ${failed} failed, ${cancelled} cancelled`), rects)
  })
  const total = minutes.reduce((sum, { succeeded, failed, cancelled }) => sum + succeeded + failed + cancelled, 0)
  return svg('svg', { class: 'chart', viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: 'none', role: 'img', 'aria-label': `${counted(total, 'run')} ended in the last hour, at most ${most} in a minute` }, svg('path', { class: 'ground', d: `M0 ${height - 0.5}H${width}` }), bars)
}
