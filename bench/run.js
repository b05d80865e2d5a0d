// Runs the benchmarks that are named, or all of them, one after another.
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const all = ['import', 'drift', 'footprint', 'queue', 'http', 'worker', 'dashboard']
const named = process.argv.slice(2)
for (const name of named.length > 0 ? named : all) {
  const { status } = spawnSync(process.execPath, [fileURLToPath(new URL(`${name}.js`, import.meta.url))], { stdio: 'inherit' })
  if (status !== 0) process.exitCode = 1
}
