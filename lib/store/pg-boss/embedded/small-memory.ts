import { totalmem } from 'node:os'
import { setFlagsFromString } from 'node:v8'

/** A process that may have less, in bytes, takes the measure below. */
const SMALL = 1.5 * 2 ** 30

let done = false

/**
 * V8 13 (Node 24) takes 600 MB to optimise one of PostgreSQL's functions, some seconds after the start, which kills a container of 512 MB; V8 12 and 14 (Node 22 and 26) do not. Where
 * memory is that short, V8 then leaves WebAssembly as its first compiler has made it: this costs a statement up to half of its speed, and holds for all WebAssembly in the process, as V8
 * has no narrower switch.
 */
export function spareMemory (): void {
  if (done || !process.versions.v8.startsWith('13.')) return
  done = true
  // Node says 0 if it does not know, and an enormous number where there is no limit.
  const limit = Math.min(process.constrainedMemory() || Infinity, totalmem())
  if (limit >= SMALL) return
  setFlagsFromString('--no-wasm-tier-up')
  setFlagsFromString('--no-wasm-dynamic-tiering')
}
