import { invalid } from '../common/check.ts'
import { messageOf } from '../common/errors.ts'
import type { Call } from './call.ts'
import type { ThreadResult } from './messages.ts'
import { decodeThrown } from './thrown.ts'

/** The error of a run whose module cannot be used, or whose value cannot be cloned. */
export function refusedError ({ definition: { path }, run: { task } }: Call, { 'fastify-background-tasks': kind, what = '', thrown }: ThreadResult): Error {
  if (kind === 'not cloned') return invalid(`The worker ${path} of "${task}" returned a value that cannot be copied to the server: ${withoutDot(what)}. Return plain data.`)
  if (thrown === undefined) return invalid(`The worker ${path} of "${task}" ${what}. Export a function under that name, or name another one in the URL: new URL('./file.js#name', import.meta.url).`)
  const cause = decodeThrown(thrown)
  const hint = cause instanceof SyntaxError
    ? ` To see where, run: node --check ${JSON.stringify(path)}`
    : (Object(cause) as { code?: unknown }).code === 'ERR_UNKNOWN_FILE_EXTENSION' ? ' Node runs TypeScript by itself from 22.18 on: before that, compile the file, and name the result.' : ''
  return invalid(`The worker ${path} of "${task}" ${what}: ${withoutDot(messageOf(cause))}.${hint}`, { cause })
}

/** The error of a run whose thread has died, or never got it. */
export function deathError ({ definition: { path }, run: { task, payload: sent } }: Call, error: Error & { code?: string }, memory: number | undefined): unknown {
  const payload = cloneFailure(sent)
  if (payload !== undefined) return invalid(`The payload of "${task}" cannot be copied to the thread of its worker ${path}: ${withoutDot(payload.message)}. Keep plain data in it: the schema's validator made it so.`, { cause: payload })
  if (error.code === 'ERR_WORKER_OUT_OF_MEMORY') {
    const limit = memory === undefined ? 'the memory of a thread' : `${memory} MB of heap`
    return invalid(`The worker ${path} of "${task}" needs more than ${limit}, and its thread has ended. Raise "memory", or work in smaller pieces.`, { cause: error })
  }
  const [, code] = /^worker exited with code: (\d+)$/.exec(error.message) ?? []
  if (code !== undefined) return invalid(`The worker ${path} of "${task}" ended its thread before it returned, with process.exit(${code}). Return a value, or throw an error.`, { cause: error })
  return error
}

/** The error of runs for which no thread could be started. */
export function startError ({ definition: { path }, run: { task } }: Call, cause: Error & { code?: string } | undefined, memory: number | undefined): Error {
  const why = memory !== undefined && cause?.code === 'ERR_WORKER_OUT_OF_MEMORY' ? `${memory} MB of heap are too few to start. Raise "memory": 16 is little` : messageOf(cause)
  return invalid(`No thread could be started for the worker ${path} of "${task}": ${why}.`, cause && { cause })
}

/** A message without its full stop, for the middle of another one. */
function withoutDot (message: string): string {
  return message.replace(/\.$/, '')
}

function cloneFailure (value: unknown): Error | undefined {
  try {
    structuredClone(value)
    return undefined
  } catch (error) {
    return error as Error
  }
}
