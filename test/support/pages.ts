// The documents and the programs in them. Also used by scripts/first-steps.js, from the build.
import { spawn } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'

// The root of the tree, from the sources as from dist/.
const here = new URL('../../', import.meta.url)
const root = here.pathname.endsWith('/dist/') ? new URL('../', here) : here

/** The text of a file of the tree. */
export function read (path: string): string {
  return readFileSync(new URL(path, root), 'utf8').replaceAll('\r\n', '\n')
}

/** Names of the files in a folder of the tree that end so. */
export function filesIn (folder: string, end: string): string[] {
  return readdirSync(new URL(folder, root)).filter(name => name.endsWith(end)).sort()
}

/** The pages with programs: the README, and each page of docs/. */
export const pages = ['README.md', ...filesIn('docs/', '.md').map(name => `docs/${name}`)]

/** A block of a page. */
export interface Block {
  /** As its first line names it; undefined if that names no file. */
  name: string | undefined
  text: string
  /** What the program prints: the `text` block below, with at most one paragraph in between. */
  output: string | undefined
}

/** A page without the code of other libraries, which stands below a paragraph that ends with "Before:" or says whose it is, as in "Before, with BullMQ:". */
function withoutOthers (page: string): string {
  return page.replaceAll(/^([^\n`]*\bbefore\b[^\n.]*:\n\n)```\w+\n.*?^```$/gmsi, '$1')
}

/** The programs of a page, in JavaScript and TypeScript. */
export function blocksOf (page: string): Block[] {
  const fences = /^```([jt]s|javascript|typescript)\n(.*?)^```$(?:\n\n(?:[^\n`#|][^\n]*\n|`[^`\n][^\n]*\n)*\n?```text\n(.*?)^```$)?/gms
  return [...withoutOthers(page).matchAll(fences)].map(([, , text = '', output]) => ({
    name: /^\/\/ ([\w.-]+\.(ts|js|cjs))\n/.exec(text)?.[1],
    text,
    output
  }))
}

/** What a program prints, without what differs from run to run: times, ids, ports, the machine. */
export function normal (output: string): string {
  const lines = output.split('\n').map(line => line.trimEnd()
    .replaceAll(/"(?:time|pid|hostname)":(?:"[^"]*"|\d+),?/g, '')
    .replaceAll(/"(run|reqId)":"[^"]*"/g, '"$1":"…"')
    .replaceAll(/"(duration|delay)":\d+(?:\.\d+)?/g, '"$1":…')
    .replaceAll(/\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b/g, '…')
    .replaceAll(/\b\d{4}-\d\d-\d\dT[\d:.]+Z/g, '…')
    .replaceAll(/(?:127\.0\.0\.1|\[::1\]|localhost):\d+/g, '127.0.0.1:3000'))
  // A server listens on both addresses of localhost where there are two.
  const kept = lines.filter((line, i) => line !== '' && !(line.includes('Server listening at') && lines[i - 1] === line))
  // Fastify's own stream writes in the background: when the process exits, its last lines may come out of order.
  const end = kept.indexOf('^C') + 1
  return (end === 0 ? kept : [...kept.slice(0, end), ...kept.slice(end).sort()]).join('\n')
}

/** Servers listen on a port that is free, as several programs run at the same time. */
const freePort = `import { Server } from 'node:net'
const { listen } = Server.prototype
Server.prototype.listen = function (...given) {
  if (typeof given[0] === 'object' && given[0]?.port !== undefined) given[0] = { ...given[0], port: 0 }
  return listen.apply(this, given)
}`

/** How a program ran. */
export interface Ran { output: string, errors: string, code: number | null, signal: string | null }

/**
 * Runs a program as its page says. After the lines above `^C` it gets a SIGINT. One that ends neither by that nor by itself is ended when it has printed what it
 * should, and a little later, so that more than that is seen, too. Its time is up after half a minute. `args` are those of the program;
 * with `ends` it must end by itself.
 */
export async function runProgram (folder: string, file: string, expected: string, { node = process.execPath, args = [], ends = false }: { node?: string, args?: string[], ends?: boolean } = {}): Promise<Ran> {
  const interrupts = expected.includes('^C\n')
  const [before = ''] = expected.split('^C\n')
  const enough = normal(before).split('\n').length
  const child = spawn(node, [`--import=data:text/javascript,${encodeURIComponent(freePort)}`, file, ...args], { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] })
  const lines: string[] = []
  let errors = ''
  let ended: NodeJS.Timeout | undefined
  const timeout = setTimeout(() => { child.kill('SIGKILL') }, 30_000)
  child.stderr.on('data', (data: Buffer) => { errors += data.toString() })
  createInterface(child.stdout).on('line', line => {
    lines.push(line)
    if (ended !== undefined || ends || normal(lines.join('\n')).split('\n').length < enough) return
    ended = setTimeout(() => {
      if (interrupts) lines.push('^C')
      child.kill(interrupts ? 'SIGINT' : 'SIGKILL')
    }, 300)
  })
  return await new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code, signal) => {
      clearTimeout(timeout)
      clearTimeout(ended)
      resolve({ output: normal(lines.join('\n')), errors, code, signal })
    })
  })
}
