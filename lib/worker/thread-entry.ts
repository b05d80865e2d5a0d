import { setMaxListeners } from 'node:events'
import * as timers from 'node:timers'
import * as util from 'node:util'
import * as threads from 'node:worker_threads'
import { thread } from './thread.ts'

// The file that a thread loads, unless the package is bundled: see engine.ts.

/** Runs one run in this thread. */
export const run: ReturnType<typeof thread> = thread({ threads, timers, events: { setMaxListeners }, util, load: async href => await import(href) as Record<string, unknown> })
