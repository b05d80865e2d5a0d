import cronstrue from '#cronstrue'

/** The words of each expression, by the expression. */
export function allWords (expressions: Iterable<string | undefined>): Record<string, string> {
  const pairs = [...new Set(expressions)].map(cron => [cron, cron === undefined ? undefined : wordsOf(cron)])
  return Object.fromEntries(pairs.filter(([, text]) => text !== undefined)) as Record<string, string>
}

const words = new Map<string, string>()

/** A cron expression in words; undefined where there are none. */
function wordsOf (cron: string): string | undefined {
  const known = words.get(cron)
  if (known !== undefined) return known
  const found = describe(cron)
  // Tenants may bring expressions by the thousand.
  if (words.size >= 1_000) words.clear()
  if (found !== undefined) words.set(cron, found)
  return found
}

function describe (cron: string): string | undefined {
  try {
    return cronstrue.toString(cron, { use24HourTimeFormat: true })
  } catch {
    // An expression that croner knows and cronstrue does not: it is shown as it is.
    return undefined
  }
}
