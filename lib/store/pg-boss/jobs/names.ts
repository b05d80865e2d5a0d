import { createHash } from 'node:crypto'

// How our names, keys and ids stand in PostgreSQL, which takes less than JavaScript does.

/** The longest name and key that stand as they are, in bytes: an index has room for little more than 2,000. */
const LONGEST = 500
const MARK = 'fbt-'
const UUID = /^[\da-f]{8}-[\da-f]{4}-[\da-f]{4}-[\da-f]{4}-[\da-f]{12}$/

/** The name of a queue in pg-boss, which takes letters, digits, and a few signs. Any other name is encoded. */
export function engineName (name: string): string {
  const fits = /^[\w.\-/]+$/.test(name) && !name.startsWith(MARK) && !name.startsWith('__pgboss__') && name.length <= 200
  if (fits) return name
  const encoded = `${MARK}${Buffer.from(name).toString('base64url')}`
  return encoded.length <= 200 ? encoded : `${MARK}${createHash('sha256').update(name).digest('hex')}`
}

/** A key as PostgreSQL can keep it: with NUL, lone surrogates, quotes and control characters escaped; a long one is hashed. Equal only for equal keys. */
export function engineKey (key: string): string {
  const escaped = JSON.stringify(key).slice(1, -1)
  return Buffer.byteLength(escaped) <= LONGEST ? escaped : `sha256:${createHash('sha256').update(escaped).digest('hex')}`
}

/** A key that another producer has given to pg-boss itself, or one of ours that was not hashed. */
export function keyOf (engineKey: string): string {
  try {
    return JSON.parse(`"${engineKey}"`) as string
  } catch {
    return engineKey
  }
}

export function isUuid (id: unknown): id is string {
  return typeof id === 'string' && UUID.test(id)
}

/** The id of a run as the engine can keep it: the ticks of a cluster task have ids of their own, which become UUIDs. */
export function engineId (id: string): string {
  if (isUuid(id)) return id
  const hex = createHash('sha256').update(String(id)).digest('hex')
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-${'89ab'[parseInt(hex.charAt(16), 16) % 4]}${hex.slice(17, 20)}-${hex.slice(20, 32)}`
}
