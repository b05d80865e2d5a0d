import { type Check, whole } from '../common/check.ts'
import { retry, type RetryOptions } from '../run/index.ts'

// Checks of options that belong to one run: `enqueue` and `schedule` take them.

/** `retry: 0` of a run: a policy too, so that the queue's own does not apply. */
const never: RetryOptions = { limit: 0, delay: 0, factor: 1, maxDelay: 0, jitter: false }
export const ownRetry: Check<RetryOptions> = value => retry(value) ?? never
/** Up to BullMQ's own limit. */
export const priority: Check<number> = whole(0, 2 ** 21 - 1)
