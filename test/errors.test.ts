import { readFile } from 'node:fs/promises'
import t from 'tap'
import { errorCodes } from '../lib/index.ts'

const statuses = {
  FST_BG_INVALID_OPTION: 500,
  FST_BG_INVALID_THIS: 500,
  FST_BG_DUPLICATE_NAME: 500,
  FST_BG_ALREADY_REGISTERED: 500,
  FST_BG_CLOSING: 503,
  FST_BG_START_TIMEOUT: 500,
  FST_BG_TIMEOUT: 500,
  FST_BG_SHUTDOWN: 503,
  FST_BG_SHUTDOWN_TIMEOUT: 500,
  FST_BG_CANCELLED: 500,
  FST_BG_GAVE_UP: 500,
  FST_BG_QUEUE_FULL: 503,
  FST_BG_INVALID_PAYLOAD: 500,
  FST_BG_UNKNOWN_STORE: 500,
  FST_BG_STORE_UNAVAILABLE: 503,
  FST_BG_STORE_LOCKED: 500,
  FST_BG_NOT_FOUND: 404
}

t.test('each error has its code and the status a route answers with', async t => {
  t.same(Object.keys(errorCodes), Object.keys(statuses))
  for (const [code, status] of Object.entries(statuses)) {
    const error = new (errorCodes[code as keyof typeof errorCodes] as new (...words: string[]) => Error)('first', 'second', 'third')
    t.match(error, { code, statusCode: status, name: 'FastifyError' })
    t.ok(error instanceof Error)
    t.notMatch(error.message, /%s|undefined/)
  }
})

t.test('docs/errors.md names the same codes and statuses as the code', async t => {
  const page = await readFile(new URL('../docs/errors.md', import.meta.url), 'utf8')
  const named = Object.fromEntries([...page.matchAll(/^\| `(FST_BG_\w+)` \| (\d+) \|/gm)].map(([, code, status]) => [code, Number(status)]))
  t.same(named, statuses)
})
