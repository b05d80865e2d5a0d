import { setTimeout as sleep } from 'node:timers/promises'
import type { Action, Monkey } from './engines/index.ts'
import { LEASE, TURN } from './rules.ts'
import type { Worker, World } from './world.ts'

/** How many workers there are. */
const [FEW, MANY] = [2, 4]

/** Torments the world for some time, at random. Afterwards the world is as it should be, and two workers or more are alive. */
export async function torment (world: World, below: (limit: number) => number, ms: number): Promise<Record<string, number>> {
  const { journal, engine } = world
  const done: Record<string, number> = {}
  const healing = new Set<Promise<void>>()
  let isServerAway = false

  /** Does something to a worker or to the server that ends after some time. */
  const disturb = (id: string, text: string, begin: () => unknown, end: () => unknown, during: number): void => {
    journal.write('disturb', { id, text })
    const heal = async (): Promise<void> => {
      await begin()
      await sleep(during)
      await end()
      journal.write('undisturb', { id, text })
    }
    const healed = heal().finally(() => { healing.delete(healed) })
    healing.add(healed)
  }
  const takeServer: Monkey['takeServer'] = (text, begin, end, during) => {
    if (isServerAway) return false
    isServerAway = true
    disturb('server', text, begin, async () => {
      await end()
      isServerAway = false
    }, during)
    return true
  }
  const one = (): Worker | undefined => world.alive[below(world.alive.length)]
  const start = async (): Promise<void> => { await world.start(below(2 ** 31)) }

  const actions: Action[] = [
    { name: 'SIGKILL', weight: 3, act: worker => { world.kill(worker) } },
    { name: 'SIGTERM', weight: 3, act: worker => { world.terminate(worker) } },
    { name: 'start', weight: 3, act: async () => { if (world.alive.length < MANY) await start(); else return false } },
    { name: 'block', weight: 3, act: worker => { world.tell(worker, { do: 'block', ms: below(3 * LEASE) }) } },
    { name: 'clock', weight: 2, act: worker => { world.tell(worker, { do: 'turn', ms: below(2 * TURN) - TURN }) } },
    { name: 'drop', weight: 3, act: ({ name, proxy }) => { disturb(name, 'drop', () => { proxy.drop() }, () => {}, 15_000) } },
    { name: 'stall', weight: 3, act: ({ name, proxy }) => { disturb(name, 'stall', () => { proxy.stall() }, () => { proxy.resume() }, below(4 * LEASE)) } },
    { name: 'cut', weight: 2, act: ({ name, proxy }) => { disturb(name, 'cut', () => { proxy.cut() }, () => {}, 1_000) } },
    ...engine.actions({ world, below, takeServer }),
    { name: 'cancel', weight: 5, act: worker => { world.tell(worker, { do: 'cancel' }) } },
    { name: 'remove', weight: 3, act: worker => { world.tell(worker, { do: 'remove' }) } },
    { name: 'retryFailed', weight: 1, act: worker => { world.tell(worker, { do: 'retryFailed' }) } },
    { name: 'pause', weight: 1, act: worker => { world.tell(worker, { do: 'pause' }) } }
  ]
  const weights = actions.reduce((sum, { weight }) => sum + weight, 0)

  const until = performance.now() + ms
  while (performance.now() < until) {
    while (world.alive.length < FEW) await start()
    await sleep(100 + below(1_200))
    let at = below(weights)
    const action = actions.find(({ weight }) => (at -= weight) < 0)
    const worker = one()
    if (action === undefined || worker === undefined || await action.act(worker) === false) continue
    done[action.name] = (done[action.name] ?? 0) + 1
  }

  await Promise.all(healing)
  while (world.alive.length < FEW) await start()
  for (const worker of world.alive) world.tell(worker, { do: 'turn', ms: 0 })
  // First nobody schedules any more: a schedule that is made again after its end would begin with a gap.
  for (const order of ['quiet', 'unschedule'] as const) await Promise.all(world.alive.map(async worker => await world.ask(worker, { do: order }).catch(() => {})))
  return done
}
