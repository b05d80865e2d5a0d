import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import nodeModule from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type * as Engine from 'piscina'
import { invalid } from '../common/check.ts'
import { thread } from './thread.ts'

// The optional package piscina, and the file that its threads load. Not `createRequire` by its name: that is what the banner of many bundles imports.

const MAJOR = 5

/** The optional package piscina, as seen from this file, or from the module of the worker where a bundle has no address. Throws `FST_BG_INVALID_OPTION`. */
export function loadPiscina (href: string): typeof Engine {
  let engine: typeof Engine
  try {
    engine = nodeModule.createRequire(import.meta.url ?? href)('piscina') as typeof Engine
  } catch (cause) {
    throw invalid('worker() needs the package piscina, which is not installed. Run: npm install piscina', { cause })
  }
  if (parseInt(engine.version, 10) < MAJOR) throw invalid(`worker() needs the package piscina from version ${MAJOR} on; installed is ${engine.version}. Run: npm install piscina@latest`)
  return engine
}

let path: string | undefined

/**
 * Path of the file that a thread loads: `thread-entry.js` beside this one. In a bundle there is none beside it, so the code of the thread is written into a temporary
 * file, which is removed when the process ends. Throws `FST_BG_INVALID_OPTION`.
 */
export function entryFile (): string {
  path ??= besideThis() ?? written()
  return path
}

function besideThis (): string | undefined {
  try {
    const file = fileURLToPath(new URL('./thread-entry.js', import.meta.url))
    return existsSync(file) ? file : undefined
  } catch {
    // A bundle of CommonJS has no import.meta.url.
    return undefined
  }
}

function written (): string {
  let folder: string
  try {
    folder = mkdtempSync(join(tmpdir(), 'fastify-background-tasks-'))
    const file = join(folder, 'entry.cjs')
    writeFileSync(file, text())
    process.once('exit', () => { rmSync(folder, { recursive: true, force: true }) })
    return file
  } catch (cause) {
    throw invalid(`worker(): a bundle writes the code of its threads into the folder for temporary files, ${tmpdir()}, which failed. Make it writable (TMPDIR), or leave fastify-background-tasks out of the bundle.`, { cause })
  }
}

function text (): string {
  const source = thread.toString()
  // A bundler that keeps the names of functions (esbuild's keepNames) gives each one to a helper of its own, with its name as text.
  const [, helper = '__name'] = /([\w$]+)\([\w$]+,\s*["']hear["']\)/.exec(source) ?? []
  return `const ${helper} = one => one
exports.run = (${source})({
  threads: require('node:worker_threads'),
  timers: require('node:timers'),
  events: require('node:events'),
  util: require('node:util'),
  load: href => import(href)
})
`
}
