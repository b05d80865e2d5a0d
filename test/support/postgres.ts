import { type ChildProcess, execFile, execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync } from 'node:fs'
import { chown, mkdtemp, rm } from 'node:fs/promises'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import pg from 'pg'
import type { Test } from 'tap'

const WHY = 'NO POSTGRESQL: neither POSTGRES_URL is set nor a PostgreSQL server is installed. Queues in PostgreSQL were NOT tested.'
/** What pg-boss needs. */
const NODE = [22, 12] as const
const WHY_NODE = `NODE IS TOO OLD: pg-boss needs Node ${NODE.join('.')}, and this is ${process.versions.node}. Queues in PostgreSQL were NOT tested.`

const BIN = binaries()
const run = promisify(execFile)

/** Where the programs of the server are: Debian keeps them off the PATH. */
function binaries (): string | undefined {
  const root = '/usr/lib/postgresql'
  if (existsSync(root)) {
    const [newest] = readdirSync(root).filter(version => existsSync(join(root, version, 'bin/initdb'))).sort((a, b) => Number(b) - Number(a))
    if (newest !== undefined) return join(root, newest, 'bin')
  }
  const found = spawnSync('pg_config', ['--bindir'], { encoding: 'utf8' })
  const bin = found.status === 0 ? found.stdout.trim() : ''
  return bin !== '' && existsSync(join(bin, 'initdb')) ? bin : undefined
}

/** What to give a test that needs PostgreSQL as its options: it is skipped, loudly, where there is none, or Node is too old; where CI is set, that is a failure. */
export function needsPostgres (own = false): { skip?: string } {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
  const isOld = major < NODE[0] || (major === NODE[0] && minor < NODE[1])
  const there = (!own && process.env['POSTGRES_URL'] !== undefined) || BIN !== undefined
  if (there && !isOld) return {}
  const why = isOld ? WHY_NODE : WHY
  console.error(why)
  // A job of CI with an older Node tests that the package works without this store.
  if (!isOld && process.env['CI'] !== undefined && process.env['CI'] !== '' && process.platform !== 'win32') throw new Error(why)
  return { skip: why }
}

/** A PostgreSQL server that can be taken away. */
export class Postgres {
  readonly port: number
  readonly #dir: string
  readonly #settings: string[]
  #child: ChildProcess | undefined

  private constructor (port: number, dir: string, settings: string[]) {
    this.port = port
    this.#dir = dir
    this.#settings = settings
  }

  get url (): string { return this.urlOf(this.port) }

  /** The same behind another port, such as that of a proxy. */
  urlOf (port: number): string { return `postgres://postgres@127.0.0.1:${port}/postgres` }

  /** Makes one of our own, and starts it. */
  static async start (t: { teardown (callback: () => unknown): void }, settings: string[] = []): Promise<Postgres> {
    const dir = await mkdtemp(join(tmpdir(), 'background-tasks-pg-'))
    const { uid, gid } = identity()
    // The server refuses to run as root.
    if (uid !== undefined && gid !== undefined) await chown(dir, uid, gid)
    const postgres = new Postgres(await freePort(), dir, settings)
    execFileSync(join(BIN as string, 'initdb'), ['-D', join(dir, 'data'), '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--locale=C', '--no-sync'], { ...identity(), stdio: 'ignore', cwd: dir })
    t.teardown(async () => { await postgres.destroy() })
    await postgres.start()
    return postgres
  }

  /** Makes a standby of `primary`, and starts it: it copies what that has, and then follows it. */
  static async standby (t: { teardown (callback: () => unknown): void }, primary: Postgres): Promise<Postgres> {
    const dir = await mkdtemp(join(tmpdir(), 'background-tasks-pg-'))
    const { uid, gid } = identity()
    if (uid !== undefined && gid !== undefined) await chown(dir, uid, gid)
    const postgres = new Postgres(await freePort(), dir, primary.#settings)
    t.teardown(async () => { await postgres.destroy() })
    await run(join(BIN as string, 'pg_basebackup'), ['-D', join(dir, 'data'), '-d', primary.url, '-R', '-c', 'fast', '--no-sync'], { ...identity(), cwd: dir })
    await postgres.start()
    return postgres
  }

  async start (): Promise<void> {
    // Only a power cut loses something without fsync, and not a server that is killed.
    const settings = ['listen_addresses=127.0.0.1', `unix_socket_directories=${this.#dir}`, 'max_connections=200', 'shared_buffers=32MB', 'fsync=off', ...this.#settings].flatMap(setting => ['-c', setting])
    const child = spawn(join(BIN as string, 'postgres'), ['-D', join(this.#dir, 'data'), '-p', String(this.port), ...settings], { ...identity(), stdio: 'ignore', cwd: this.#dir })
    this.#child = child
    for (;;) {
      const client = new pg.Client({ connectionString: this.url })
      client.on('error', () => {})
      try {
        await client.connect()
        await client.end()
        return
      } catch {
        if (child.exitCode !== null) throw new Error(`postgres ended with ${child.exitCode}`)
        await new Promise(resolve => { setTimeout(resolve, 20) })
      }
    }
  }

  /** As a crash of the server would: `immediate` ends all its processes, and recovers at the next start. */
  async kill (): Promise<void> { await this.#end('SIGQUIT') }

  /** Kills it, and deletes what it has. */
  async destroy (): Promise<void> {
    this.thaw()
    await this.kill()
    await rm(this.#dir, { recursive: true, force: true })
  }

  /** It answers nobody, and closes no connection. */
  freeze (): void { this.#signal('SIGSTOP') }

  thaw (): void { this.#signal('SIGCONT') }

  /** As an administrator would, cutting all connections. */
  async stop (): Promise<void> { await this.#end('SIGINT') }

  async query (text: string, values: unknown[] = []): Promise<Array<Record<string, unknown>>> {
    const client = new pg.Client({ connectionString: this.url })
    await client.connect()
    try {
      return (await client.query(text, values)).rows as Array<Record<string, unknown>>
    } finally {
      await client.end()
    }
  }

  /** To the server first, so that it starts no more processes, and then to those that it has. */
  #signal (signal: NodeJS.Signals): void {
    const child = this.#child
    if (child?.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
    child.kill(signal)
    const all = execFileSync('ps', ['-A', '-o', 'pid=,ppid='], { encoding: 'utf8' }).trim().split('\n').map(line => line.trim().split(/\s+/).map(Number))
    for (const [pid, parent] of all) {
      if (pid === undefined || parent !== child.pid) continue
      try {
        process.kill(pid, signal)
      } catch {
        // It has just ended.
      }
    }
  }

  async #end (signal: NodeJS.Signals): Promise<void> {
    const child = this.#child
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const exited = once(child, 'exit')
    child.kill(signal)
    await exited
  }
}

let shared: Promise<Postgres> | undefined

/** Where a PostgreSQL is: a shared one, or one of our own, for all tests of a file. */
export async function postgresUrl (t: Test): Promise<string> {
  const { POSTGRES_URL } = process.env
  if (POSTGRES_URL !== undefined) return POSTGRES_URL
  shared ??= Postgres.start(t)
  return (await shared).url
}

let schemas = 0

/** A schema that nobody else uses. */
export function freshSchema (): string { return `t${process.pid}_${Date.now().toString(36)}_${++schemas}` }

/** Whom the server runs as: PostgreSQL refuses root. */
function identity (): { uid?: number, gid?: number } {
  if (process.getuid?.() !== 0) return {}
  const id = (flag: string): number => Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8' }))
  return { uid: id('-u'), gid: id('-g') }
}

async function freePort (): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}
