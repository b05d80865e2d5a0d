import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, statSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

/** The folder test/, from where programs are named. */
const tests = new URL('../', import.meta.url)

/** What is needed of a tap test. */
interface Test { teardown (callback: () => unknown): void }

/** One line of a process's log, as pino wrote it. */
export interface LogLine {
  level: number
  msg: string
  [key: string]: unknown
}

/** A program in a process of its own, and the log lines that it writes to stdout. */
export class Child {
  readonly lines: LogLine[] = []
  /** Resolves with exit code and signal, when it has ended and the last line is read. */
  readonly exit: Promise<{ code: number | null, signal: NodeJS.Signals | null }>
  readonly #process: ChildProcess
  readonly #arrived = new Set<() => void>()
  #ended = false
  #rest = ''

  /** `program` is relative to the folder test/; JavaScript is run with plain node. */
  constructor (t: Test, program: string, args: string[] = [], env: NodeJS.ProcessEnv = {}) {
    const path = fileURLToPath(new URL(program, tests))
    // execArgv carries tap's loaders, so that the child runs TypeScript and is counted in coverage.
    const loaders = path.endsWith('.ts') ? process.execArgv : []
    const child = spawn(process.execPath, [...loaders, path, ...args], {
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe']
    })
    t.teardown(() => { child.kill('SIGKILL') })
    this.#process = child
    createInterface({ input: child.stdout }).on('line', text => { this.#read(text) })
    child.stderr.on('data', (text: Buffer) => { this.#rest += text.toString() })
    // 'close' comes when the process has ended and its output is read.
    this.exit = once(child, 'close').then(([code, signal]) => {
      this.#ended = true
      this.#tell()
      return { code, signal }
    })
  }

  /** The messages, in order. */
  get messages (): string[] { return this.lines.map(({ msg }) => msg) }

  /** What it wrote that is no log line: on stderr, or as plain text. */
  get rest (): string { return this.#rest }

  /** The first line that is `wanted`, by its message or a test, as soon as there is one; rejects if the process ends without. */
  async line (wanted: string | ((line: LogLine) => boolean)): Promise<LogLine> {
    const test = typeof wanted === 'string' ? ({ msg }: LogLine) => msg === wanted : wanted
    for (;;) {
      const line = this.lines.find(test)
      if (line !== undefined) return line
      if (this.#ended) throw new Error(`the process ended without the line ${wanted}:\n${this.messages.join('\n')}\n${this.#rest}`)
      await new Promise<void>(resolve => { this.#arrived.add(resolve) })
    }
  }

  /** Resolves when it has written so many lines with that message; rejects if the process ends without. */
  async count (msg: string, count: number): Promise<void> {
    await this.line(line => line.msg === msg && this.messages.filter(one => one === msg).length >= count)
  }

  /** Where it listens, as soon as it does. */
  async address (): Promise<string> {
    const before = 'Server listening at '
    const { msg } = await this.line(({ msg }) => msg.startsWith(before))
    return msg.slice(before.length)
  }

  signal (signal: NodeJS.Signals): void {
    this.#process.kill(signal)
  }

  #read (text: string): void {
    if (text.startsWith('{')) this.lines.push(JSON.parse(text) as LogLine)
    else this.#rest += `${text}\n`
    this.#tell()
  }

  #tell (): void {
    for (const resolve of this.#arrived) resolve()
    this.#arrived.clear()
  }
}

/**
 * The build of a fixture, for tests that start many processes: plain node is up in half a second, and with tap's loaders it takes ten. Throws
 * if there is none, or one of other sources.
 */
export function built (fixture: string): string {
  const build = `../dist/test/fixtures/${fixture}.js`
  const sources = [`fixtures/${fixture}.ts`, ...readdirSync(new URL('../lib', tests), { recursive: true }).filter(file => String(file).endsWith('.ts')).map(file => `../lib/${String(file)}`)]
  const timeOf = (path: string): number => statSync(new URL(path, tests)).mtimeMs
  // `npm start` leaves no bundle, and tsc alone makes none.
  const bundle = '../dist/fastify-background-tasks.js'
  if ([build, bundle].some(file => !existsSync(new URL(file, tests)) || sources.some(source => timeOf(source) > timeOf(file)))) {
    throw new Error('dist/ is missing, or older than its sources: run "npm run build" first')
  }
  return build
}

/** Why a test of signals cannot run here, or false. */
export const noSignals = process.platform === 'win32' &&
  'NOT TESTED on Windows: there SIGTERM and SIGINT from another process kill at once, and no handler runs'
