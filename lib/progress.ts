import { invalid, show } from './check.ts'
import type { Progress } from './run.ts'

/** Checks what a handler says of how far it is, and copies it: the handler may go on with its object. Throws `FST_BG_INVALID_OPTION`. */
export function checkProgress (task: string, value: unknown): Progress {
  if (typeof value === 'number' && value >= 0 && value <= 1) return value
  if (typeof value !== 'object' || value === null) throw invalid(`run.progress() of "${task}" takes a fraction from 0 to 1, or an object; received ${show(value)}.`)
  try {
    return JSON.parse(JSON.stringify(value)) as object
  } catch (error) {
    throw invalid(`run.progress() of "${task}" takes an object that can be written as JSON; received ${show(value)}.`, { cause: error })
  }
}
