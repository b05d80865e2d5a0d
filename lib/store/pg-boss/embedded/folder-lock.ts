import { readFileSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { invalid } from '../../../common/check.ts'
import { errorCodes } from '../../../common/errors.ts'

/** What the owner writes beside the lock, so that another process can name it. */
interface Owner {
  pid: number
  host: string
  since: string
  program: string
}

/** What we use of Node's SQLite. */
interface Sqlite {
  DatabaseSync: new (path: string) => Database
}
interface Database {
  exec (sql: string): void
  close (): void
}

/** SQLite's code for a database that somebody else has locked. */
const SQLITE_BUSY = 5

/**
 * The lock of a folder: one process has it, and in that process one store. Two PGlites on one folder overwrite each other's files without a word.
 *
 * Node has no lock of the operating system, but its SQLite uses one: an exclusive transaction on an empty file, held for as long as the store is open. The system ends it with the
 * process, however that dies. A file with a process id would have to be judged: ids are used again, each container has a process 1, and two that take over at once must not both win.
 */
export class FolderLock {
  #database: Database | undefined

  private constructor (database: Database) {
    this.#database = database
  }

  /** Takes the lock. Throws `FST_BG_STORE_LOCKED` if somebody else has it. */
  static take (folder: string, now: Date): FolderLock {
    const { DatabaseSync } = loadSqlite()
    const database = new DatabaseSync(join(folder, 'lock'))
    try {
      database.exec('PRAGMA busy_timeout = 0; PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE')
      const owner: Owner = { pid: process.pid, host: hostname(), since: now.toISOString(), program: process.argv.slice(0, 2).join(' ') }
      writeFileSync(ownerFile(folder), `${JSON.stringify(owner)}\n`)
      return new FolderLock(database)
    } catch (error) {
      database.close()
      throw (error as { errcode?: number }).errcode === SQLITE_BUSY ? lockedError(folder) : error
    }
  }

  /** Gives the folder free. Idempotent. */
  release (): void {
    this.#database?.close()
    this.#database = undefined
  }
}

function ownerFile (folder: string): string {
  return join(folder, 'owner.json')
}

function lockedError (folder: string): Error {
  return new errorCodes.FST_BG_STORE_LOCKED(`The folder ${folder} is in use: ${ownerOf(folder)}. An embedded store is for one process: stop that one, give this one a folder of its own, or use a PostgreSQL server, which processes share.`)
}

function ownerOf (folder: string): string {
  let owner: Owner
  try {
    owner = JSON.parse(readFileSync(ownerFile(folder), 'utf8')) as Owner
  } catch {
    // It has the lock, and has not written yet.
    return 'another process has just opened it'
  }
  const { pid, host, since, program } = owner
  if (pid === process.pid && host === hostname()) return `this process (${pid}) has opened it with another pgBoss(). Applications in one process share a store if they get the same one`
  return `process ${pid}${host === hostname() ? '' : ` on ${host}`} has opened it at ${since} (${program})`
}

/** Node's own SQLite, without its warning on Node 22 that it is experimental: what is used of it has not changed since. Throws `FST_BG_INVALID_OPTION` where there is none. */
export function loadSqlite (): Sqlite {
  const { emitWarning } = process
  process.emitWarning = () => {}
  try {
    const sqlite = process.getBuiltinModule?.('node:sqlite') as Sqlite | undefined
    if (sqlite !== undefined) return sqlite
  } finally {
    process.emitWarning = emitWarning
  }
  throw invalid(`pgBoss({ dataDir }) needs Node 22.13 or later, which has SQLite, for the lock of the folder; this is ${process.version}.`)
}
