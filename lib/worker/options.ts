import { statSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'
import { check, invalid, show, whole } from '../common/check.ts'
import { kinds } from '../common/option-names.ts'
import { duration, type Duration } from '../time/index.ts'

/** Options of `worker()`. */
export interface WorkerOptions {
  /**
   * The most threads of the file; further runs wait for one. All workers of an application that name the same file share them. Default: the number of
   * cores less one, at least 1.
   */
  threads?: number | undefined
  /** How long a handler may go on after its signal has aborted, before its thread is ended. Default `'1s'`. */
  killAfter?: Duration | undefined
  /** The most heap of a thread, in MB. A thread that needs more ends, and fails its run. Default: that of Node. */
  memory?: number | undefined
}

/** A worker, checked. What was not given is undefined. */
export interface Definition {
  /** Address of the module, which selects the threads. */
  href: string
  /** Path of the module, for messages. */
  path: string
  /** Name of the export. */
  name: string
  threads: number | undefined
  memory: number | undefined
  killAfter: number
}

const checks = { threads: whole(1), killAfter: duration, memory: whole(1) }

/** Checks the arguments of `worker()`. Throws `FST_BG_INVALID_OPTION`. */
export function definition (url: unknown, given: unknown): Definition {
  const { href, path, name } = moduleOf(url)
  const { threads, memory, killAfter = 1_000 } = check(`worker() of ${path}`, given, checks, kinds)
  return { href, path, name, threads, memory, killAfter }
}

/** The number of threads where nobody says another. */
export function defaultThreads (): number {
  return Math.max(1, availableParallelism() - 1)
}

function moduleOf (url: unknown): { href: string, path: string, name: string } {
  if (!isUrl(url)) throw invalid(`worker() takes the URL of a module; received ${show(url)}. Pass new URL('./file.js', import.meta.url), or pathToFileURL(path) in CommonJS.`)
  if (url.protocol !== 'file:') throw invalid(`worker() takes the URL of a file; received ${show(url.href)}. Pass new URL('./file.js', import.meta.url).`)
  const module = new URL(url.href)
  const name = decodeURIComponent(module.hash.slice(1))
  module.hash = ''
  const path = pathOf(module)
  checkFile(path)
  return { href: module.href, path, name: name === '' ? 'default' : name }
}

/** Whether a value is a URL, also one of another realm. */
function isUrl (value: unknown): value is URL {
  const { href, protocol } = Object(value) as Record<string, unknown>
  return typeof value === 'object' && typeof href === 'string' && typeof protocol === 'string'
}

function pathOf (module: URL): string {
  try {
    return fileURLToPath(module)
  } catch (cause) {
    throw invalid(`worker() takes the URL of a file; received ${show(module.href)}: ${(cause as Error).message}.`, { cause })
  }
}

function checkFile (path: string): void {
  const found = statSync(path, { throwIfNoEntry: false })
  if (found?.isFile() === true) return
  const source = path.replace(/\.([cm]?)js$/, '.$1ts')
  const hint = source !== path && statSync(source, { throwIfNoEntry: false }) !== undefined ? ` There is ${source}: name that one where Node runs TypeScript itself, or compile it.` : ' The URL is relative to the file that names it; a bundler has to be told to build the module of a worker as well.'
  throw invalid(`worker(): ${found === undefined ? 'there is no file' : 'this is no file:'} ${path}.${hint}`)
}
