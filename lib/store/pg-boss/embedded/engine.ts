import type { Clock, Timer } from '../../../time/index.ts'
import { type EnginePackage, findEngine } from './engine-package.ts'
import { EngineThread } from './engine-thread.ts'
import { loadSqlite } from './folder-lock.ts'
import { Folder, MEMORY, otherMajor, pathOf } from './folder.ts'
import type { ThreadData } from './messages.ts'
import { spareMemory } from './small-memory.ts'
import { readTemplate, unpack } from './template.ts'

export interface EngineOptions {
  /** The folder of the database, as `checkEmbedded` returns it. */
  dataDir: string
}

/**
 * Checks what needs no folder yet, and returns the absolute path of `dataDir`: a path, its `file:` URL, or `memory://`. Throws `FST_BG_INVALID_OPTION` also if PGlite is not installed, or
 * this Node has no SQLite.
 */
export function checkEmbedded (dataDir: string): string {
  findEngine()
  loadSqlite()
  return dataDir === MEMORY ? MEMORY : pathOf(dataDir)
}

type EngineListener = ConstructorParameters<typeof EngineThread>[1]

/** How long the engine may take to close, in milliseconds. Killed, it recovers at its next start, from its log. */
const CLOSE_TIMEOUT = 2_000

/**
 * For a process that has one database and 512 MB: 128 MB of shared buffers would be copied for nothing, as the files are in the system's cache. Nobody reads PostgreSQL's log but for what
 * is fatal.
 */
const settings = ['shared_buffers = 8MB', 'max_connections = 5', 'wal_buffers = 1MB', 'min_wal_size = 2MB', 'max_wal_size = 16MB', 'log_min_messages = fatal', 'log_min_error_statement = panic']

/** A log of 16 MB a segment is most of a database that is empty. scripts/template.js does the same. */
const initdb = ['--wal-segsize=1']

/** The engine on its folder, from start to start: at most one thread at a time. */
export class Engine {
  readonly #package: EnginePackage
  /** Undefined for one in memory. */
  readonly #folder: Folder | undefined
  readonly #clock: Clock
  #thread: EngineThread | undefined
  /** The start that goes on. It never rejects. */
  #starting: Promise<void> | undefined
  #closed = false

  /** Locks the folder. Throws `FST_BG_INVALID_OPTION` or `FST_BG_STORE_LOCKED`. */
  constructor ({ dataDir }: EngineOptions, clock: Clock) {
    this.#package = findEngine()
    spareMemory()
    this.#clock = clock
    this.#folder = dataDir === MEMORY ? undefined : Folder.open(dataDir, this.#package, new Date(clock.wall()))
  }

  /** Where its data is, for a text. */
  get place (): string { return this.#folder?.path ?? MEMORY }

  /** Starts a thread, and makes the database if there is none. Resolves when it answers. */
  async start (listener: EngineListener): Promise<EngineThread> {
    const start = this.#start(listener)
    this.#starting = start.then(() => {}, () => {})
    return await start
  }

  /** Ends the thread, in whatever state, and gives the folder free. */
  async close (): Promise<void> {
    this.#closed = true
    const thread = this.#thread
    // One that starts has nothing to write yet that the next start would miss.
    if (thread?.isReady !== true) thread?.kill()
    else await this.#closeThread(thread)
    await this.#starting
    await this.#thread?.ended
    this.#folder?.close()
  }

  async #start (listener: EngineListener): Promise<EngineThread> {
    // The files of the one before must be closed.
    await this.#thread?.ended
    if (this.#folder === undefined) return await this.#open({ dataDir: MEMORY, template: await readTemplate(this.#package.series) }, listener)
    if (!this.#folder.exists) await this.#create(this.#folder)
    try {
      return await this.#open({ dataDir: this.#folder.database, template: undefined }, listener)
    } catch (error) {
      const [, found, installed] = /initialized by PostgreSQL version (\d+), which is not compatible with this version (\d+)/.exec((error as Error).message) ?? []
      throw found === undefined || installed === undefined ? error : otherMajor(this.#folder.path, found, installed)
    }
  }

  /** Makes a database: from the template, or by `initdb` in a thread of its own, whose memory is free again afterwards. */
  async #create (folder: Folder): Promise<void> {
    const dataDir = await folder.begin()
    const template = await readTemplate(this.#package.series)
    if (template !== undefined) {
      await unpack(template, dataDir, () => !this.#closed)
    } else {
      const thread = await this.#open({ dataDir, template: undefined }, { notified () {}, died () {} })
      await this.#closeThread(thread)
    }
    this.#throwIfClosed()
    await folder.commit()
  }

  async #open (data: Pick<ThreadData, 'dataDir' | 'template'>, listener: EngineListener): Promise<EngineThread> {
    this.#throwIfClosed()
    const thread = new EngineThread({ ...data, engine: this.#package.path, settings, initdb }, listener)
    this.#thread = thread
    await thread.ready
    return thread
  }

  async #closeThread (thread: EngineThread): Promise<void> {
    thread.close()
    const limit: Timer = this.#clock.after(CLOSE_TIMEOUT, () => { thread.kill() })
    await thread.ended
    limit.cancel()
  }

  #throwIfClosed (): void {
    if (this.#closed) throw new Error('closed')
  }
}
