import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { rename, rm } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { invalid, show } from '../../../common/check.ts'
import type { EnginePackage } from './engine-package.ts'
import { FolderLock } from './folder-lock.ts'

/** The `dataDir` that lives in the memory of the process. */
export const MEMORY = 'memory://'

/** The path of a `dataDir`: absolute, whatever the process's working directory will be. Throws `FST_BG_INVALID_OPTION`. */
export function pathOf (dataDir: string): string {
  try {
    if (dataDir.startsWith('file:')) return fileURLToPath(dataDir)
  } catch (cause) {
    throw invalid(`pgBoss(): option "dataDir" is no address of a local folder: ${show(dataDir)}. Pass a path, such as './.data'.`, { cause })
  }
  if (/^[a-z][a-z+.-]+:\/\//i.test(dataDir)) throw invalid(`pgBoss(): option "dataDir" must be the path of a folder, its file: URL, or '${MEMORY}'; received ${show(dataDir)}.`)
  return resolve(dataDir)
}

/**
 * The folder of an embedded store, open in this process: `lock`, `owner.json`, and the database in `postgres/`. A new database is made in `postgres.new/`, and renamed when it is whole, so
 * that a process which dies during its first start leaves none behind that is half made.
 */
export class Folder {
  readonly path: string
  readonly #lock: FolderLock

  private constructor (path: string, lock: FolderLock) {
    this.path = path
    this.#lock = lock
  }

  /** Makes it if need be, and locks it. Throws `FST_BG_INVALID_OPTION` if it cannot be used, `FST_BG_STORE_LOCKED` if another process uses it. */
  static open (path: string, engine: EnginePackage, now: Date): Folder {
    if (existsSync(join(path, 'PG_VERSION'))) {
      throw invalid(`pgBoss(): the folder ${path} (option "dataDir") is itself a database of PostgreSQL, which another program has made. Pass another folder.`)
    }
    const folder = new Folder(path, lock(path, now))
    try {
      folder.#checkMajor(engine)
      return folder
    } catch (error) {
      folder.close()
      throw error
    }
  }

  /** The database. */
  get database (): string { return join(this.path, 'postgres') }

  /** Whether there is a database. */
  get exists (): boolean { return existsSync(join(this.database, 'PG_VERSION')) }

  /** Where to make a new database: an empty place, whatever a process has left there that died. */
  async begin (): Promise<string> {
    const path = `${this.database}.new`
    await rm(path, { recursive: true, force: true })
    return path
  }

  /** The new database is whole. */
  async commit (): Promise<void> {
    await rename(`${this.database}.new`, this.database)
  }

  /** Gives it free for another process. Idempotent. */
  close (): void {
    this.#lock.release()
  }

  #checkMajor ({ major }: EnginePackage): void {
    if (!this.exists || major === undefined) return
    const found = readFileSync(join(this.database, 'PG_VERSION'), 'utf8').trim()
    if (found !== major) throw otherMajor(this.path, found, major)
  }
}

/** The folder was written by another major of PostgreSQL. */
export function otherMajor (path: string, found: string, installed: string): Error {
  return invalid(`pgBoss(): the folder ${path} (option "dataDir") was written by PostgreSQL ${found}, and the installed @electric-sql/pglite is PostgreSQL ${installed}, which cannot read it. Install the version of @electric-sql/pglite that has written it, and let its runs end; then remove the folder, or pass another one.`)
}

function lock (path: string, now: Date): FolderLock {
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 })
    return FolderLock.take(path, now)
  } catch (error) {
    const { code, message } = error as Error & { code?: string }
    if (code?.startsWith('FST_BG_') === true) throw error
    throw invalid(`pgBoss(): the folder ${path} (option "dataDir") cannot be used: ${message}. Pass a folder into which this process may write.`, { cause: error })
  }
}
