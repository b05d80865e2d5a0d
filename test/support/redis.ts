// A real Redis for the tests: the one of REDIS_URL, or a redis-server of our own on a free port of the loopback.
import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Test } from 'tap'

const WHY = 'NO REDIS: neither REDIS_URL is set nor a redis-server is installed. Durable queues and cluster tasks were NOT tested.'

/** What to give a test that needs Redis as its options: it is skipped, loudly, where there is none; where CI is set, that is a failure. */
export function needsRedis (own = false): { skip?: string } {
  const there = (!own && process.env['REDIS_URL'] !== undefined) || spawnSync('redis-server', ['--version']).status === 0
  if (there) return {}
  console.error(WHY)
  // There is none for Windows.
  if (process.env['CI'] !== undefined && process.env['CI'] !== '' && process.platform !== 'win32') throw new Error(WHY)
  return { skip: WHY }
}

/** A Redis that can be taken away. */
export class Redis {
  readonly port: number
  readonly #dir: string
  readonly #settings: string[]
  #child: ChildProcess | undefined

  private constructor (port: number, dir: string, settings: string[]) {
    this.port = port
    this.#dir = dir
    this.#settings = settings
  }

  get url (): string { return `redis://127.0.0.1:${this.port}` }

  /** Makes one of our own, and starts it. By default it keeps everything on disk. */
  static async start (t: { teardown (callback: () => unknown): void }, settings: string[] = ['--appendonly', 'yes', '--appendfsync', 'always'], port?: number): Promise<Redis> {
    const redis = new Redis(port ?? await freePort(), await mkdtemp(join(tmpdir(), 'background-tasks-')), settings)
    t.teardown(async () => {
      await redis.kill()
      await rm(redis.#dir, { recursive: true, force: true })
    })
    await redis.start()
    return redis
  }

  async start (): Promise<void> {
    const child = spawn('redis-server', ['--port', String(this.port), '--bind', '127.0.0.1', '--dir', this.#dir, '--save', '', ...this.#settings], { stdio: ['ignore', 'pipe', 'inherit'] })
    this.#child = child
    for await (const line of createInterface({ input: child.stdout })) {
      if (line.includes('Ready to accept connections')) break
    }
    child.stdout.resume()
  }

  /** As a power cut would. */
  async kill (): Promise<void> {
    const child = this.#child
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const exited = once(child, 'exit')
    child.kill('SIGKILL')
    await exited
  }

  /** It answers nobody, and closes no connection. */
  freeze (): void { this.#child?.kill('SIGSTOP') }

  thaw (): void { this.#child?.kill('SIGCONT') }
}

/** A Sentinel, which watches a primary under the name `main`, and promotes its replica when the primary does not answer for a second. */
export async function startSentinel (t: { teardown (callback: () => unknown): void }, primary: number): Promise<{ port: number }> {
  const dir = await mkdtemp(join(tmpdir(), 'background-tasks-'))
  const port = await freePort()
  // It writes to this file.
  await writeFile(join(dir, 'sentinel.conf'), [
    `port ${port}`, 'bind 127.0.0.1', `dir ${dir}`, `sentinel monitor main 127.0.0.1 ${primary} 1`,
    'sentinel down-after-milliseconds main 1000', 'sentinel failover-timeout main 3000'
  ].join('\n'))
  const child = spawn('redis-server', [join(dir, 'sentinel.conf'), '--sentinel'], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(async () => {
    const exited = once(child, 'exit')
    child.kill('SIGKILL')
    await exited
    await rm(dir, { recursive: true, force: true })
  })
  for await (const line of createInterface({ input: child.stdout })) {
    if (line.includes('+slave slave')) break
  }
  child.stdout.resume()
  return { port }
}

/** Where a Redis is: a shared one, or one of our own. */
export async function redisUrl (t: Test): Promise<string> {
  return process.env['REDIS_URL'] ?? (await Redis.start(t)).url
}

export async function freePort (): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}
