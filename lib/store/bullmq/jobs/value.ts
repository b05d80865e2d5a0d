// What a handler returned, as BullMQ keeps it: its `returnvalue`, which is JSON. BullMQ writes nothing and null alike, and knows no cancelled jobs:
// these two are an object with one key.

const MARK = 'fastify-background-tasks'

/** What a cancelled job returns to BullMQ, which removes it. Only the event of its end has it. */
export const CANCELLED: object = { [MARK]: 'cancelled' }

/** What a job returns to BullMQ. `json`: what the handler returned. */
export function returnValueOf (json: string | undefined): unknown {
  return json === 'null' ? { [MARK]: null } : json === undefined ? undefined : JSON.parse(json)
}

/** Whether a return value says that the job was cancelled. */
export function isCancelled (text: string | undefined): boolean {
  return text === JSON.stringify(CANCELLED)
}

/** What the handler returned, by BullMQ's return value. Another program may have written that: what is no JSON is nothing. */
export function valueOf (text: string | undefined): unknown {
  if (text === undefined || text === 'null') return undefined
  if (text === `{"${MARK}":null}`) return null
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
