import type { RunEnd } from '../../queued-run.ts'
import { errorOf, isCancelled, valueOf } from '../jobs/index.ts'
import type { QueueEvent } from './event-reader.ts'

/** What a look at a job finds: its state, and its return value, or its reason and stacks. */
export type Found = [state: 'succeeded' | 'failed' | 'pending' | 'cancelled' | 'gone', first?: string, stacktrace?: string]

const cancelled: RunEnd = { outcome: 'cancelled', value: undefined, error: undefined }

/** How a job has ended, by its fields; undefined if it is gone, or has not ended. */
export function endOfFields ([state, first, stacktrace]: Found, maxCrashes: number): RunEnd | undefined {
  switch (state) {
    case 'succeeded':
      return { outcome: 'succeeded', value: valueOf(first), error: undefined }
    case 'failed':
      return { outcome: 'failed', value: undefined, error: errorOf({ failedReason: first, stacktrace }, maxCrashes) }
    case 'cancelled':
      return cancelled
    case 'pending':
    case 'gone':
      return undefined
  }
}

/** How a job has ended, by the event of it: all there is of a job that is not kept. */
export function endByEvent ({ event, returnvalue, failedReason = '' }: QueueEvent): RunEnd {
  if (event === 'failed') return { outcome: 'failed', value: undefined, error: { name: 'Error', message: failedReason, code: undefined, stack: undefined } }
  return isCancelled(returnvalue) ? cancelled : { outcome: 'succeeded', value: valueOf(returnvalue), error: undefined }
}
