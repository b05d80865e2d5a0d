import { part } from './api.ts'
import { type Child, h, svg } from './dom.ts'
import { ago, at, bytes, count, duration, every, now, viewerZone } from './format.ts'
import type { Details, OneRun, Task } from './types.ts'

/** The shape that stands before a word: a state is never told by colour alone. */
const shapes: Record<string, [tone: string, path: string]> = {
  ok: ['good', 'M3 8.5l3.2 3.2L13 5'],
  succeeded: ['good', 'M3 8.5l3.2 3.2L13 5'],
  completed: ['good', 'M3 8.5l3.2 3.2L13 5'],
  running: ['good', 'M5 3.5v9l7-4.5z'],
  active: ['good', 'M5 3.5v9l7-4.5z'],
  idle: ['quiet', 'M8 4.5V8l2.5 1.5M8 2a6 6 0 100 12A6 6 0 008 2z'],
  waiting: ['quiet', 'M4 4h8M4 8h8M4 12h5'],
  delayed: ['quiet', 'M8 4.5V8l2.5 1.5M8 2a6 6 0 100 12A6 6 0 008 2z'],
  paused: ['warn', 'M5.5 4v8M10.5 4v8'],
  backoff: ['warn', 'M12.5 8A4.5 4.5 0 118 3.5h3M9.5 1.5l2 2-2 2'],
  degraded: ['warn', 'M8 2.5L14 13.5H2zM8 6.5v3M8 11.5v.1'],
  stopping: ['warn', 'M4.5 4.5h7v7h-7z'],
  stopped: ['quiet', 'M4.5 4.5h7v7h-7z'],
  cancelled: ['quiet', 'M3 8h10'],
  skipped: ['quiet', 'M4 4l4 4-4 4M9 4l4 4-4 4'],
  failed: ['bad', 'M4 4l8 8M12 4l-8 8'],
  failing: ['bad', 'M4 4l8 8M12 4l-8 8']
}

export function icon (name: string): SVGElement {
  const [tone, d] = shapes[name] ?? ['quiet', 'M3 8h10']
  return svg('svg', { class: `icon ${tone}`, viewBox: '0 0 16 16', 'aria-hidden': 'true' }, svg('path', { d }))
}

/** A state or an outcome: its shape and its word. */
export function badge (name: string): HTMLElement {
  return h('span', { class: `badge ${shapes[name]?.[0] ?? 'quiet'}` }, icon(name), name)
}

export function time (value: string | undefined, zone?: string): Child {
  return value === undefined ? '–' : h('time', { datetime: value, title: `${at(value)}${zone === undefined || zone === viewerZone ? '' : `, ${at(value, zone)} in ${zone}`}` }, ago(value))
}

/** Relative, and absolute in the task's zone and in the viewer's. */
export function whenIn (value: string, zone: string | undefined): Child {
  const zones = zone === undefined || zone === viewerZone ? [viewerZone] : [zone, viewerZone]
  return [h('strong', {}, ago(value)), ...zones.map(one => h('span', { class: 'muted' }, ` ${at(value, one)} ${one}`))]
}

export function panel (title: Child, ...children: Child[]): HTMLElement {
  return h('section', { class: 'panel' }, h('h2', {}, title), children)
}

/** What stands where there is nothing yet: what would fill it, with the lines of code. */
export function empty (text: string, code?: string): HTMLElement {
  return h('div', { class: 'empty' }, h('p', {}, text), code !== undefined && h('pre', { tabindex: 0 }, h('code', {}, code)))
}

export function facts (...pairs: Array<[string, Child] | false | undefined>): HTMLElement {
  return h('dl', { class: 'facts' }, pairs.flatMap(pair => pair === false || pair === undefined ? [] : [h('div', {}, h('dt', {}, pair[0]), h('dd', {}, pair[1]))]))
}

export function error (value: { name: string, message: string, code?: string | undefined, stack?: string | undefined } | undefined): Child {
  if (value === undefined) return false
  const { name, message, code, stack } = value
  return h('div', { class: 'error' },
    h('p', {}, h('strong', {}, name), code !== undefined && h('code', {}, ` ${code}`), ': ', message),
    stack !== undefined && h('details', {}, h('summary', {}, 'Stack'), h('pre', { tabindex: 0 }, stack)))
}

export function progress (value: number | string | undefined): Child {
  if (typeof value === 'string') return h('code', { class: 'progress-text' }, value)
  if (value === undefined) return false
  const percent = Math.round(value * 100)
  return h('span', { class: 'progress' }, h('progress', { max: 1, value, 'aria-label': 'Progress' }), `${percent} %`)
}

/** A payload or a result. */
export function content (value: OneRun['run']['payload'], none: string): Child {
  if (value === undefined) return h('p', { class: 'muted' }, none)
  if (value.text === undefined) return h('p', { class: 'muted' }, value.hidden)
  return [h('pre', { tabindex: 0 }, value.text), value.cut === true && h('p', { class: 'muted' }, `The first 10 kB of ${bytes(value.bytes ?? 0)}.`)]
}

/** When a task runs, in words. */
export function timing (value: Task['timing'], words: Record<string, string>): string {
  if (value?.every !== undefined) return every(value.every)
  if (value?.cron === undefined) return ''
  return words[value.cron] ?? value.cron
}

export function taskLink (name: string, kind: string): HTMLElement {
  return h('a', { href: kind === 'queue' ? `#/queues/${part(name)}` : `#/tasks/${part(name)}` }, name)
}

export function taken (from: string | undefined, to?: string): string {
  return from === undefined ? '–' : duration(Math.max(0, (to === undefined ? now() : Date.parse(to)) - Date.parse(from)))
}

/** The options that are in effect. */
export function settings (value: Details['settings']): HTMLElement {
  return h('details', { class: 'panel' }, h('summary', {}, h('h2', {}, 'Options in effect')),
    facts(...Object.entries(value).map(([key, one]): [string, Child] => [key, h('code', {}, setting(key, one))])))
}

const durations = new Set(['every', 'timeout', 'grace', 'jitter', 'delay', 'maxDelay', 'within', 'per', 'age', 'startTimeout'])

function setting (key: string, value: unknown): string {
  if (typeof value === 'number') return durations.has(key) ? duration(value) : count(value)
  if (typeof value !== 'object' || value === null) return value === true ? 'yes' : value === false ? 'no' : String(value)
  return Object.entries(value).map(([key, one]) => `${key} ${setting(key, one)}`).join(', ')
}
