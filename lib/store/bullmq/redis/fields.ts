/** The fields of a hash or a stream entry in Redis, all of them texts. Empty if the hash is gone. */
export type Fields = Partial<Record<string, string>>

/** The fields that Redis gives as a flat list of names and values. */
export function fieldsOf (flat: string[]): Fields {
  const fields: Fields = {}
  for (let i = 0; i < flat.length; i += 2) fields[flat[i] as string] = flat[i + 1] as string
  return fields
}
