// Makes the template of the embedded store's database, which the package ships: a tar of a new database, compressed. It takes some seconds and 800 MB of memory, so it is kept for
// the next build with the same PGlite.
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { brotliCompressSync, constants } from 'node:zlib'

/** Part of the name in the cache: raise it when what is below changes. */
const FORM = 1

const root = fileURLToPath(new URL('..', import.meta.url))
const { version } = JSON.parse(readFileSync(join(root, 'node_modules/@electric-sql/pglite/package.json'), 'utf8'))
const cache = join(root, 'node_modules/.cache/fastify-background-tasks')
const cached = join(cache, `pglite-${version}-${FORM}.tar.br`)
const folder = join(root, 'dist')

if (!existsSync(cached)) {
  mkdirSync(cache, { recursive: true })
  writeFileSync(cached, compress(await newDatabase()))
}
mkdirSync(folder, { recursive: true })
copyFileSync(cached, join(folder, `pglite-${/^\d+\.\d+/.exec(version)[0]}.tar.br`))

async function newDatabase () {
  const { PGlite } = await import('@electric-sql/pglite')
  const engine = await PGlite.create('memory://', { initDbStartParams: ['--wal-segsize=1', '-c', 'min_wal_size=2MB', '-c', 'max_wal_size=2MB'] })
  // Without it the log has what initdb has written.
  await engine.exec('CHECKPOINT')
  const tar = Buffer.from(await (await engine.dumpDataDir('none')).arrayBuffer())
  await engine.close()
  return tar
}

/** 26 MB become 0.8 MB: the three databases in it are copies, 7 MB apart, which a large window finds. */
function compress (tar) {
  return brotliCompressSync(tar, { params: { [constants.BROTLI_PARAM_QUALITY]: 9, [constants.BROTLI_PARAM_LGWIN]: constants.BROTLI_MAX_WINDOW_BITS, [constants.BROTLI_PARAM_SIZE_HINT]: tar.length } })
}
