// Makes what `exports` of package.json points at, from what tsc has put into dist/lib: one file for each entry, and beside the main one all that it loads, as one file.
// Node needs 60 ms for a hundred small files, and 20 ms for one.
//
// Rollup, not esbuild: it leaves `require('bullmq')` as it is, so that the bundlers of our users see it.
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { rollup } from '@rollup/wasm-node'

const dist = fileURLToPath(new URL('../dist/', import.meta.url))

const { exports } = JSON.parse(await readFile(new URL('../package.json', import.meta.url), 'utf8'))
/** The name of each file in dist/, and what in dist/lib it is made of: where its types are. */
const entries = Object.fromEntries(Object.values(exports)
  .filter(({ types }) => types !== undefined)
  .map(({ types, default: file }) => [basename(file, '.js'), types.replace('./dist/lib/', '').replace(/\.d\.ts$/, '.js')]))
/** What threads load: alone, so that it needs nothing beside it. */
const thread = { 'thread-entry': 'worker/thread-entry.js' }

/** What the main entry loads. Its name is in stack traces, and readable.ts knows the frames of the package by it. */
const main = 'fastify-background-tasks'

/** @param {Record<string, string>} entries @param {import('@rollup/wasm-node').GetManualChunk} [manualChunks] */
async function write (entries, manualChunks) {
  const bundle = await rollup({
    input: Object.fromEntries(Object.entries(entries).map(([name, path]) => [name, inLib(path)])),
    external: id => !/^(\.|\/|[A-Za-z]:)/.test(id),
    treeshake: false,
    plugins: [{ name: 'maps', load }],
    // A helper that tsc writes asks for `this`, and does without.
    onwarn: ({ code, message }) => { if (code !== 'THIS_IS_UNDEFINED') throw new Error(message) }
  })
  await bundle.write({
    dir: dist,
    chunkFileNames: '[name].js',
    sourcemap: true,
    sourcemapExcludeSources: true,
    // A name in a stack is that of the source.
    minifyInternalExports: false,
    ...manualChunks === undefined ? {} : { manualChunks }
  })
  await bundle.close()
}

function inLib (path) {
  return join(dist, 'lib', path)
}

/** Reads a file with the map to its source, which `npm start` does not make. */
async function load (id) {
  const map = `${id}.map`
  return { code: await readFile(id, 'utf8'), ...existsSync(map) ? { map: JSON.parse(await readFile(map, 'utf8')) } : {} }
}

let loadedByMain
function mainChunk (id, { getModuleInfo }) {
  loadedByMain ??= reach(inLib(entries.index))
  if (loadedByMain.has(id)) return main
  // What both stores with an engine share.
  return id.replaceAll('\\', '/').includes('/store/engines/') ? 'engines' : undefined

  function reach (entry) {
    const found = new Set()
    const visit = id => {
      const info = getModuleInfo(id)
      if (found.has(id) || info === null || info.isExternal) return
      found.add(id)
      info.importedIds.forEach(visit)
    }
    visit(entry)
    return found
  }
}

await write(entries, mainChunk)
await write(thread)
