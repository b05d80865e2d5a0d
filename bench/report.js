// Writes a section of docs/benchmarks.md: what was measured stands between two markers, so that each benchmark keeps the others'.
import { execFile } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const file = new URL('../docs/benchmarks.md', import.meta.url)
const title = '# Benchmarks\n\nWritten by `npm run bench`. Each table is one run on one machine, side by side: read the ratios, not the digits.\n'

export function section (name, text) {
  mkdirSync(new URL('.', file), { recursive: true })
  let all = title
  try { all = readFileSync(file, 'utf8') } catch {}
  const [begin, end] = [`<!-- ${name} -->\n`, `<!-- /${name} -->\n`]
  const machine = `Node ${process.version}, ${cpus().length} cores.`
  const made = `${begin}${text.trim()}\n\n${machine}\n${end}`
  const [from, to] = [all.indexOf(begin), all.indexOf(end)]
  writeFileSync(file, from < 0 ? `${all}\n${made}` : all.slice(0, from) + made + all.slice(to + end.length))
  console.log(`\n${text.trim()}\n`)
}

export function table (head, rows) {
  return [head, head.map(() => '---'), ...rows].map(row => `| ${row.join(' | ')} |`).join('\n')
}

/** Runs one contender in a process of its own, and gives what it printed. */
export async function spawnOne (script, args, flags = []) {
  const path = fileURLToPath(new URL(script, import.meta.url))
  const { stdout } = await promisify(execFile)(process.execPath, ['--expose-gc', '--max-old-space-size=8192', ...flags, path, ...args], { timeout: 300_000, maxBuffer: 2 ** 30 })
  // What stands before the last line is a contender's own: node-cron warns of each tick that it has missed.
  return JSON.parse(stdout.trim().split('\n').at(-1))
}

/** Flags under which the heap grows by objects alone: compiled code, which grows and is thrown away when V8 sees fit, is neither made nor dropped. */
export const WITHOUT_CODE = ['--no-flush-bytecode', '--no-opt', '--no-sparkplug']

export function median (numbers) {
  const sorted = [...numbers].sort((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)]
}
