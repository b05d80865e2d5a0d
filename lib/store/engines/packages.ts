import nodeModule from 'node:module'
import { invalid } from '../../common/check.ts'
import { toError } from '../../common/errors.ts'

// How an adapter loads its optional packages.
//
// A bundler puts into its bundle what a call of `require` with a literal name needs, and it takes a package that is not there for an error of run
// time if the call is inside of a `try`. An `import` would be asynchronous, and fails the whole file where the package is missing. So an adapter calls
// `require('bullmq')` itself. Without a bundler there is no `require` in an ES module: then, and where a bundler was told to leave the package out, Node's
// own loads it, here.

/** `error` says why there is none in the bundle, `caller` who needs it, `advice` what to run. Throws `FST_BG_INVALID_OPTION`. */
export function loadByNode<T> (caller: string, name: string, error: unknown, advice: string): T {
  try {
    return nodeRequire(error)(name) as T
  } catch (cause) {
    const { code, message } = toError(cause) as Error & { code?: string }
    // The packages that it needs itself may be missing, too.
    const why = code === 'MODULE_NOT_FOUND' && !message.includes(`'${name}'`) ? `cannot be loaded (${message.split('\n')[0]})` : 'is not installed'
    throw invalid(`${caller} needs the package ${name}, which ${why}. Run: ${advice}`, { cause })
  }
}

/** Node's `require` from this file. Throws `error` in a bundle in CommonJS, which has no address, and whose own `require` has just failed. */
export function nodeRequire (error: unknown): NodeJS.Require {
  const { url } = import.meta as { url?: string }
  if (url === undefined) throw error
  // Not by its name, which the banner of many a bundle declares.
  return nodeModule.createRequire(url)
}
