/** Health of one task, or of all tasks. */
export type HealthStatus = 'ok' | 'degraded' | 'failing'

/** Health of one task, with the reason. */
export interface Condition {
  /** The health. */
  status: HealthStatus
  /** Why it is not `ok`. */
  reason?: string
}

/** A service is failing after this many failed lives in a row; a timed task after this many ticks skipped behind one run. A queue is not degraded by fewer failures. */
export const IN_A_ROW = 3
/** A queue is degraded when most of this many last runs failed, and not for one bad payload. */
export const LAST_RUNS = 10
/** A timed task is failing when a tick has not run this many milliseconds after it was due. */
export const OVERDUE = 60_000

const order: readonly HealthStatus[] = ['ok', 'degraded', 'failing']

/** The worst condition; `ok` if there is none. */
export function worst (conditions: Iterable<Condition>): Condition {
  let found: Condition = { status: 'ok' }
  for (const condition of conditions) {
    if (order.indexOf(condition.status) > order.indexOf(found.status)) found = condition
  }
  return found
}
