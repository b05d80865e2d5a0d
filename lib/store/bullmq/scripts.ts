import { endScripts } from './ends/end-scripts.ts'
import { addScripts } from './jobs/add-scripts.ts'
import { pageScripts } from './jobs/page-scripts.ts'
import type { Client } from './redis/client.ts'
import { scheduleScripts } from './schedules/schedule-scripts.ts'

// Commands that BullMQ does not have. Redis runs each script as one step, so that no other process can come in between.

const scripts = {
  ...pageScripts,
  ...addScripts,
  ...endScripts,
  ...scheduleScripts,
  // Renews the lock of a job. Takes an expired one back, unless another process has taken the job since: then it is not in the list of active jobs, or
  // was begun again (ats). BullMQ notes in a set which jobs may be stalled. A Redis that is full refuses SET and LPUSH, if they are the first that a
  // script writes: it takes PEXPIRE and LREM.
  fbtHold: {
    numberOfKeys: 4,
    lua: `
      local holder = redis.call('GET', KEYS[1])
      if holder and holder ~= ARGV[2] then return 0 end
      if holder then
        redis.call('PEXPIRE', KEYS[1], ARGV[4])
      else
        if redis.call('EXISTS', KEYS[4]) == 0 then return -1 end
        if redis.call('HGET', KEYS[4], 'ats') ~= ARGV[3] then return 0 end
        if redis.call('LREM', KEYS[2], 1, ARGV[1]) == 0 then return 0 end
        redis.call('LPUSH', KEYS[2], ARGV[1])
        redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[4])
      end
      redis.call('SREM', KEYS[3], ARGV[1])
      return 1`
  },
  // Takes a key for a job, unless another job has it that still exists.
  fbtTakeKey: {
    numberOfKeys: 1,
    lua: `
      local holder = redis.call('GET', KEYS[1])
      if holder and holder ~= ARGV[1] and redis.call('EXISTS', ARGV[2] .. holder) == 1 then return 0 end
      redis.call('SET', KEYS[1], ARGV[1])
      return 1`
  },
  // Removes a link to a parent that is no JSON, and a number of attempts that is no number: BullMQ could not even fail such a job.
  fbtMend: {
    numberOfKeys: 1,
    lua: `
      local parent = redis.call('HGET', KEYS[1], 'parent')
      if parent and not pcall(cjson.decode, parent) then redis.call('HDEL', KEYS[1], 'parent') end
      local attempts = redis.call('HGET', KEYS[1], 'atm')
      if attempts and not string.match(attempts, '^%d+$') then redis.call('HDEL', KEYS[1], 'atm') end`
  },
  // How often the job was taken from a process that had died, and whose it is.
  fbtCrashes: {
    numberOfKeys: 1,
    lua: "return redis.call('HMGET', KEYS[1], 'stc', 'data', 'deid')"
  },
  fbtRaise: {
    numberOfKeys: 1,
    lua: `
      local value = redis.call('HGET', KEYS[1], ARGV[1])
      if not value or tonumber(value) < tonumber(ARGV[2]) then redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end`
  }
} as const

export class Scripts {
  readonly #client: Client
  /** The key of one part of the queue in Redis. */
  readonly #toKey: (type: string) => string

  constructor (client: Client, toKey: (type: string) => string) {
    this.#client = client
    this.#toKey = toKey
    for (const [name, definition] of Object.entries(scripts)) client.defineCommand(name, definition)
  }

  /** Renews the lock of a job that was begun so many times. Resolves to whether this process has it, another one may have it, or nobody. */
  async hold (id: string, token: string, begun: number, lease: number): Promise<'held' | 'taken' | 'gone'> {
    const keys = [this.#toKey(`${id}:lock`), this.#toKey('active'), this.#toKey('stalled'), this.#toKey(id)]
    const answer = await this.#client.runCommand('fbtHold', [...keys, id, token, String(begun), lease])
    return answer === 1 ? 'held' : answer === -1 ? 'gone' : 'taken'
  }

  /** Takes a key for a job. Resolves to whether the job has it. */
  async takeKey (key: string, id: string): Promise<boolean> {
    return await this.#client.runCommand('fbtTakeKey', [this.#toKey(`de:${key}`), id, this.#toKey('')]) === 1
  }

  /** Removes from a job what would keep BullMQ from failing it. */
  async mend (id: string): Promise<void> {
    await this.#client.runCommand('fbtMend', [this.#toKey(id)])
  }

  /** How many processes have died under a job, and its data and key. */
  async crashes (id: string): Promise<{ crash: number, data: string | null, key: string | null }> {
    const [crash, data, key] = await this.#client.runCommand('fbtCrashes', [this.#toKey(id)]) as Array<string | null>
    return { crash: Number(crash), data: data ?? null, key: key ?? null }
  }

  async recall (name: string): Promise<number | undefined> {
    const value = await this.#client.hget(this.#toKey('shared'), name)
    return value === null ? undefined : Number(value)
  }

  async raise (name: string, value: number): Promise<void> {
    await this.#client.runCommand('fbtRaise', [this.#toKey('shared'), name, value])
  }
}
