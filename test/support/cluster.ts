// A real Redis cluster for the tests: three masters of our own, which share the keys.
import { Cluster as Client, Redis as Node, type ClusterOptions } from 'ioredis'
import { freePort, Redis } from './redis.ts'
import { until } from './shared.ts'

/** What is needed of a tap test. */
interface Test { teardown (callback: () => unknown): void }

const SLOTS = 16_384
/** A replica takes over when its master was silent for so long, in milliseconds. */
const TIMEOUT = '1000'

export class Cluster {
  readonly masters: Redis[]
  readonly replicas: Redis[]

  private constructor (masters: Redis[], replicas: Redis[]) {
    this.masters = masters
    this.replicas = replicas
  }

  /** Starts the masters, each with a replica if it is to be `replicated`, and joins them. */
  static async start (t: Test, { replicated = false } = {}): Promise<Cluster> {
    const settings = ['--cluster-enabled', 'yes', '--cluster-announce-ip', '127.0.0.1', '--cluster-node-timeout', TIMEOUT, '--appendonly', 'yes', '--appendfsync', 'no', '--repl-diskless-sync-delay', '0']
    const start = async (): Promise<Redis> => await Redis.start(t, settings, await portWithBus())
    const masters = [await start(), await start(), await start()]
    const cluster = new Cluster(masters, replicated ? [await start(), await start(), await start()] : [])
    await cluster.#join()
    return cluster
  }

  /** A client of the cluster, as an application has one. */
  client (t: Test, options: ClusterOptions = {}): Client {
    const client = new Client(this.masters.map(({ port }) => ({ host: '127.0.0.1', port })), options)
    client.on('error', () => {})
    t.teardown(() => { client.disconnect() })
    return client
  }

  /** The number of the master that began with the keys of a prefix. */
  async numberOf (prefix: string): Promise<number> {
    return await this.ask(async ([first]) => Math.floor(await first.cluster('KEYSLOT', prefix) / SLOTS * this.masters.length))
  }

  /** Moves the keys of a prefix from one master to another, as `redis-cli --cluster reshard` does. */
  async move (prefix: string, from: number, to: number): Promise<void> {
    await this.ask(async nodes => {
      const [source, target] = [nodes[from], nodes[to]] as [Node, Node]
      const [slot, sourceId, targetId] = [await source.cluster('KEYSLOT', prefix), await idOf(source), await idOf(target)]
      await target.cluster('SETSLOT', slot, 'IMPORTING', sourceId)
      await source.cluster('SETSLOT', slot, 'MIGRATING', targetId)
      for (let keys; (keys = await source.cluster('GETKEYSINSLOT', slot, 10)).length > 0;) await source.migrate('127.0.0.1', (this.masters[to] as Redis).port, '', 0, 5_000, 'KEYS', ...keys)
      for (const node of [target, source, ...nodes.slice(0, this.masters.length)]) await node.cluster('SETSLOT', slot, 'NODE', targetId)
    })
  }

  /** Asks the nodes, masters first. */
  async ask<T> (question: (nodes: [Node, ...Node[]]) => Promise<T>): Promise<T> {
    const nodes = [...this.masters, ...this.replicas].map(({ port }) => new Node(port))
    try {
      return await question(nodes as [Node, ...Node[]])
    } finally {
      for (const node of nodes) node.disconnect()
    }
  }

  async #join (): Promise<void> {
    const { length } = this.masters
    const first = (i: number): number => Math.ceil(i * SLOTS / length)
    await this.ask(async nodes => {
      const [masters, replicas] = [nodes.slice(0, length), nodes.slice(length)]
      const all = async (isSo: (node: Node) => Promise<boolean>): Promise<void> => { await until(async () => (await Promise.all(nodes.map(isSo))).every(Boolean)) }
      // Not ADDSLOTSRANGE, which Redis has from 7 on.
      for (const [i, master] of masters.entries()) await master.cluster('ADDSLOTS', ...Array.from({ length: first(i + 1) - first(i) }, (_, slot) => first(i) + slot))
      // Those with the same epoch would first have to agree on others.
      for (const [i, node] of nodes.entries()) await node.call('CLUSTER', 'SET-CONFIG-EPOCH', i + 1)
      for (const node of nodes.slice(1)) await node.cluster('MEET', '127.0.0.1', (this.masters[0] as Redis).port)
      await all(async node => (await node.cluster('INFO') as string).includes(`cluster_known_nodes:${nodes.length}\r`))
      for (const [i, replica] of replicas.entries()) await replica.cluster('REPLICATE', await idOf(masters[i] as Node))
      await all(async node => (await node.cluster('INFO') as string).includes('cluster_state:ok'))
      // All know of the replicas, too: a client asks any of them.
      await all(async node => (await node.cluster('SLOTS')).every(slots => (slots as unknown[]).length === (replicas.length > 0 ? 4 : 3)))
      for (const replica of replicas) await until(async () => (await replica.info('replication')).includes('master_link_status:up'))
    })
  }
}

async function idOf (node: Node): Promise<string> {
  return await node.call('CLUSTER', 'MYID') as string
}

/** The nodes talk to each other on a second port, which is 10,000 higher. */
async function portWithBus (): Promise<number> {
  for (;;) {
    const port = await freePort()
    if (port + 10_000 < 65_536) return port
  }
}
