import { invalid, show } from './check.ts'

/** Checks what a handler says of how far it is. Throws `FST_BG_INVALID_OPTION`. */
export function checkProgress (task: string, value: unknown): void {
  const fits = typeof value === 'number' ? value >= 0 && value <= 1 : typeof value === 'object' && value !== null
  if (!fits) throw invalid(`run.progress() of "${task}" takes a fraction from 0 to 1, or an object; received ${show(value)}.`)
}
