import { existsSync } from 'node:fs'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { brotliDecompress } from 'node:zlib'

// A new database as a file: a tar that scripts/template.js makes with PGlite when the package is built. `initdb` in the engine itself needs 700 MB of memory and 3 s of a processor,
// which kills a container of 512 MB at the first start.

const decompress = promisify(brotliDecompress)

/** The build puts it into dist/, beside the bundle. Tests run the sources, and dist/lib. */
const folders = ['./', '../../../../dist/', '../../../../']

/** The tar of a new database of that series of PGlite; undefined where there is none: in a bundle, or with a later PGlite. */
export async function readTemplate (series: string): Promise<Uint8Array<ArrayBuffer> | undefined> {
  const { url } = import.meta as { url?: string }
  if (url === undefined) return undefined
  const file = folders.map(folder => fileURLToPath(new URL(`${folder}pglite-${series}.tar.br`, url))).find(existsSync)
  if (file === undefined) return undefined
  const tar = await decompress(await readFile(file))
  return new Uint8Array(tar.buffer as ArrayBuffer, tar.byteOffset, tar.length)
}

const BLOCK = 512

/** Writes what a tar holds, with the rights that PostgreSQL wants. Asks before each file whether to go on. */
export async function unpack (tar: Uint8Array, folder: string, goOn: () => boolean): Promise<void> {
  const made = new Set<string>()
  for (let at = 0; at + BLOCK <= tar.length && tar[at] !== 0;) {
    const { name, size, isFolder } = headerAt(tar, at)
    const path = join(folder, name)
    const parent = isFolder ? path : dirname(path)
    if (!made.has(parent)) await mkdir(parent, { recursive: true, mode: 0o700 })
    made.add(parent)
    if (!goOn()) return
    if (!isFolder) await writeFile(path, tar.subarray(at + BLOCK, at + BLOCK + size), { mode: 0o600 })
    at += BLOCK + Math.ceil(size / BLOCK) * BLOCK
  }
}

/** Reads a header of ustar: names are short here, and no links. */
function headerAt (tar: Uint8Array, at: number): { name: string, size: number, isFolder: boolean } {
  const field = (from: number, length: number): string => Buffer.from(tar.subarray(at + from, at + from + length)).toString('latin1').replace(/\0.*$/s, '')
  return { name: field(0, 100), size: parseInt(field(124, 12), 8), isFolder: field(156, 1) === '5' }
}
