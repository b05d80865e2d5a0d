import type { Test } from 'tap'
import { Child, noSignals } from './child.ts'

/** A program of a page of docs/, that listens. */
export class Program extends Child {
  /** `path` is that of the compiled program, relative to the folder test/. */
  constructor (t: Test, path: string, env: NodeJS.ProcessEnv = {}) {
    super(t, path, [], { PORT: '0', ...env })
  }

  async get (path: string): Promise<Response> {
    return await fetch(`${await this.address()}${path}`)
  }

  async json<T> (path: string): Promise<T> {
    return await (await this.get(path)).json() as T
  }

  async send (method: string, path: string, body?: object): Promise<Response> {
    return await fetch(`${await this.address()}${path}`, { method, ...body !== undefined && { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) } })
  }

  /** Ends it as a deploy does, and checks that it went well. */
  async end (t: Test): Promise<void> {
    this.signal('SIGTERM')
    t.same(await this.exit, { code: 0, signal: null }, 'it exits with 0')
    t.equal(this.rest, '', 'nothing on stderr')
  }
}

/** Options of a test that sends signals, and needs what `other` says. */
export function needsSignals (other: { skip?: string } = {}): { skip?: string } {
  return noSignals === false ? other : { skip: noSignals }
}
