import { inspect, type InspectOptions } from 'node:util'
import { fileURLToPath } from 'node:url'
import { readableCopy, toError } from './errors.ts'

// What console.log, JSON.stringify and a store show of runs, tasks and errors: a few telling lines, and never the insides of the server.

/** An error as a store, JSON and `console.log` keep it. */
export interface StoredError {
  /** Its `name`, such as `'TypeError'`. */
  name: string
  /** Its message. */
  message: string
  /** Its `code`, where that is a string. */
  code: string | undefined
  /** Its stack, where one is known. */
  stack: string | undefined
}

/** The stored form of a thrown value. */
export function storedError (thrown: unknown): StoredError {
  const { name, message, stack } = readableCopy(withoutOurFrames(toError(thrown)))
  return { name, message, code: codeOf(thrown), stack }
}

/** What JSON shows of what a run threw; undefined if it threw nothing. */
export function errorJson (thrown: unknown): StoredError | undefined {
  return thrown === undefined ? undefined : storedError(thrown)
}

function codeOf (thrown: unknown): string | undefined {
  try {
    const { code } = Object(thrown) as { code?: unknown }
    return typeof code === 'string' ? code : undefined
  } catch {
    return undefined
  }
}

/** What `console.log` shows of an object with those fields. Those that are undefined are left out. */
export function inspected (name: string, fields: object, depth: number, options: InspectOptions): string {
  const told = Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined))
  return `${name} ${depth < 0 ? '{ … }' : inspect(told, { ...options, depth })}`
}

/** The folders of this package, as they stand in a stack. Empty in a bundle of the user's, where our frames are in the same file as theirs. */
const folders = ourFolders(import.meta.url)
/** What is ours in them: the sources, what tsc makes of them, and what scripts/bundle.js makes of that. */
const ours = /^(?:dist\/)?lib\/|^dist\/[\w-]+\.js\b/

function ourFolders (url: string | undefined): string[] {
  // A bundler of the user's may name a file as our bundle is named, in a folder dist/: only an installed package is known by it.
  const [, tree, installed] = /^(file:.*\/)(?:dist\/)?lib\/common\/readable\.[jt]s$|^(file:.*\/node_modules\/fastify-background-tasks\/)dist\/fastify-background-tasks\.js$/.exec(url ?? '') ?? []
  const root = tree ?? installed
  return root === undefined ? [] : [root, fileURLToPath(root)]
}

/**
 * The error, whose stack begins with the frames of whoever called this package: the frames of the package above them are cut off. Looked at only when an
 * error is logged or recorded, as reading a stack costs some microseconds.
 */
export function withoutOurFrames (error: Error): Error {
  try {
    const { stack } = error
    if (folders.length === 0 || typeof stack !== 'string') return error
    const lines = stack.split('\n')
    const first = lines.findIndex(isFrame)
    if (first < 0 || !isOurs(lines[first] as string)) return error
    const next = lines.findIndex((line, i) => i > first && !isOurs(line))
    error.stack = [...lines.slice(0, first), ...next < 0 ? [] : lines.slice(next)].join('\n')
  } catch {
    // A frozen error, or one whose stack throws.
  }
  return error
}

/** Makes the stack of an error of ours begin where `method` was called, with as many frames as Node keeps. */
export function calledBy (error: unknown, method: (...given: never[]) => unknown): unknown {
  if (error instanceof Error && String((error as { code?: unknown }).code).startsWith('FST_BG_')) Error.captureStackTrace(error, method)
  return error
}

function isFrame (line: string): boolean {
  return /^\s+at /.test(line)
}

function isOurs (line: string): boolean {
  return isFrame(line) && folders.some(folder => {
    const at = line.indexOf(folder)
    return at >= 0 && ours.test(line.slice(at + folder.length).replaceAll('\\', '/'))
  })
}
