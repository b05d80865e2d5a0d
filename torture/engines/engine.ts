import type { Store } from '../../lib/store/store.ts'
import type { Listed } from '../rules.ts'
import type { Worker, World } from '../world.ts'

/** Something that the monkey does. */
export interface Action {
  name: string
  /** How often it does this, beside the others. */
  weight: number
  /** Does it, and returns `false` if it cannot now. */
  act (worker: Worker): unknown
}

/** What an engine needs of the monkey. */
export interface Monkey {
  readonly world: World
  /** A random whole number below `limit`. */
  below (limit: number): number
  /** Does something to the server that ends after some milliseconds. Returns `false` while something else is done to it. */
  takeServer (text: string, begin: () => unknown, end: () => unknown, during: number): boolean
}

/** The server of a store, which can be tormented. */
export interface Engine {
  /** Where it listens now. */
  readonly port: number
  /** Its address behind another port, that of a proxy. */
  urlOf (port: number): string
  /** What the monkey can do to it. */
  actions (monkey: Monkey): Action[]
  /** Finds what is left in it after everything has ended, and would grow. */
  leftovers (listed: Listed[]): Promise<string[]>
}

/** A kind of engine, as `--store` names it. */
export interface EngineKind {
  /** Why this machine cannot have one; undefined if it can. */
  unfit (): string | undefined
  /** Starts a server of our own. */
  start (t: { teardown (callback: () => unknown): void }): Promise<Engine>
  /** The store of a worker. */
  store (url: string): Store
}
