import { createHash } from 'node:crypto'

/**
 * A message to all processes of a queue: runs may begin, the first of them in some milliseconds; a run is to be cancelled; runs for which somebody
 * waits have ended; the queue was paused or resumed; it has a schedule that ticks before all others.
 */
export type Message =
  | { type: 'due', wait: number }
  | { type: 'cancel', id: string }
  | { type: 'ended', ids: string[] }
  | { type: 'paused' | 'resumed' | 'scheduled' }

/** The channel on which our statements notify: channels belong to the database, not to a schema. */
export function channelOf (schema: string): string {
  return `fbt_${createHash('sha224').update(schema).digest('hex').slice(0, 24)}`
}

/** The channel on which pg-boss notifies of the jobs that are added by its own `send`. The payload is the name of a queue. */
export function engineChannelOf (schema: string): string {
  return `pgboss_${createHash('sha224').update(schema).digest('hex').slice(0, 24)}`
}

/** Reads a notification: type, name of the queue in the engine, and what the type needs, separated by spaces. Undefined if it is none of ours. */
export function read (payload: string): { queue: string, message: Message } | undefined {
  const [type = '', queue = '', rest = ''] = payload.split(' ')
  switch (type) {
    case 'due':
      return { queue, message: { type, wait: Number(rest) } }
    case 'cancel':
      return { queue, message: { type, id: rest } }
    case 'ended':
      return { queue, message: { type, ids: rest.split(',') } }
    case 'paused':
    case 'resumed':
    case 'scheduled':
      return { queue, message: { type } }
    default:
      return undefined
  }
}
