// A failover by DNS: the name of the host leads to another address.
import dns from 'node:dns'
import { createClient } from 'redis'
import t, { type Test } from 'tap'
import { open, timeUntil } from '../../support/connections.ts'
import { needsRedis, Redis } from '../../support/redis.ts'

const options = needsRedis(true)
const fast = ['--appendonly', 'yes', '--appendfsync', 'no']
const clients = {
  'a URL': (url: string) => url,
  'a client of redis': (url: string) => createClient({ url }).on('error', () => {}) as never
}

// Addresses of the loopback beside 127.0.0.1 need no set-up on Linux only.
const twoAddresses = process.platform === 'linux' ? options : { skip: 'NOT TESTED: needs two addresses of the loopback' }
for (const [name, make] of Object.entries(clients)) {
  for (const end of ['kill', 'freeze'] as const) {
    t.test(`${name}: when a server ${end === 'kill' ? 'dies' : 'hangs'}, the store goes where its name points now, within 15 s`, twoAddresses, async t => {
      const first = await Redis.start(t, fast)
      await Redis.start(t, [...fast, '--bind', '127.0.0.2', '--port', String(first.port)])
      const names = await resolveTo(t, '127.0.0.1')
      const { run } = await open(t, make(`redis://${names.host}:${first.port}`))
      await run(0)
      names.address = '127.0.0.2'
      const began = performance.now()
      await first[end]()
      await timeUntil(async () => { await run(1) })
      const took = performance.now() - began
      first.thaw()
      t.ok(took < 15_000, `${took} ms`)
    })
  }
}

/** A name of a host, and the address that it has at the moment. */
async function resolveTo (t: Test, address: string): Promise<{ host: string, address: string }> {
  const { lookup } = dns
  const entry = { host: `redis-${Math.random()}.test`, address }
  dns.lookup = ((host: string, options: { all?: boolean }, callback: (error: null, ...found: unknown[]) => void) => {
    if (host !== entry.host) return lookup(host, options as never, callback as never)
    if (options.all === true) callback(null, [{ address: entry.address, family: 4 }])
    else callback(null, entry.address, 4)
  }) as typeof lookup
  t.teardown(() => { dns.lookup = lookup })
  return entry
}
