// A TCP proxy that does to connections what networks do to them.
import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net'

/** What is needed of a tap test. */
interface Test { teardown (callback: () => unknown): void }

interface Pair { client: Socket, upstream: Socket, dropped: boolean, abandoned: boolean }

/** Listens on a port of the loopback, and passes everything on to another. */
export class Proxy {
  readonly #server: Server
  readonly #pairs = new Set<Pair>()
  #target: number
  #stalled = false
  /** Whether the server was left alone. */
  abandoned = false

  private constructor (server: Server, target: number) {
    this.#server = server
    this.#target = target
    server.on('connection', client => { this.#accept(client) })
  }

  static async start (t: Test, target: number): Promise<Proxy> {
    const server = createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    const proxy = new Proxy(server, target)
    t.teardown(() => { proxy.stop() })
    return proxy
  }

  get port (): number { return (this.#server.address() as AddressInfo).port }

  get url (): string { return `redis://127.0.0.1:${this.port}` }

  /** How many connections are open. */
  get size (): number { return this.#pairs.size }

  /** Drops the open connections without a word, as a firewall does that has forgotten them: neither side hears of it. New ones work. */
  drop (): void {
    for (const pair of this.#pairs) {
      pair.dropped = true
      // Still read, so that nobody notices by a full buffer.
      pair.client.resume()
      pair.upstream.destroy()
    }
  }

  /** Leaves the server alone with the open connections, as a machine does that has lost its power: it does not hear that they are closed, until `stop()`. */
  abandon (): void {
    this.abandoned = true
    for (const pair of this.#pairs) pair.abandoned = true
  }

  /** Passes nothing on until `resume()`; nothing is lost. New connections wait, too. */
  stall (): void {
    this.#stalled = true
    for (const { client } of this.#pairs) client.pause()
    this.stallAnswers()
  }

  /** Passes no answer on until `resume()`; what is sent arrives. */
  stallAnswers (): void {
    for (const { upstream } of this.#pairs) upstream.pause()
  }

  /** Passes on the answers that have come since `stallAnswers()`, and none after them. */
  passAnswers (): void {
    for (const { upstream } of this.#pairs) upstream.read()
  }

  resume (): void {
    this.#stalled = false
    for (const { client, upstream } of this.#pairs) {
      client.resume()
      upstream.resume()
    }
  }

  /** Cuts the open connections: both sides hear of it. */
  cut (): void {
    for (const { client, upstream } of this.#pairs) {
      client.destroy()
      upstream.destroy()
    }
  }

  /** Sends new connections to another port. Open ones stay where they are. */
  redirect (port: number): void {
    this.#target = port
  }

  stop (): void {
    this.cut()
    this.#server.close()
  }

  #accept (client: Socket): void {
    const upstream = connect(this.#target, '127.0.0.1')
    const pair: Pair = { client, upstream, dropped: false, abandoned: false }
    this.#pairs.add(pair)
    client.setNoDelay(true)
    upstream.setNoDelay(true)
    client.on('data', data => { if (!pair.dropped && !pair.abandoned) upstream.write(data) })
    upstream.on('data', data => { if (!pair.abandoned) client.write(data) })
    client.on('error', () => {}).on('close', () => {
      if (pair.abandoned) return
      upstream.destroy()
      this.#pairs.delete(pair)
    })
    upstream.on('error', () => {}).on('close', () => { if (!pair.dropped) client.destroy() })
    if (this.#stalled) {
      client.pause()
      upstream.pause()
    }
  }
}
