// Jobs without delay, priority and key, which are most. They are added as docs/stores.md tells producers in other languages: that is five times as fast as
// BullMQ's script for one job, of which a transaction of ten thousand would hold up Redis for half a second.

/**
 * Lua functions that add such a job. `wait` and `marker` are keys; `prefix` is that of jobs. A client that loses its connection before the answer sends the command
 * again: a job that is there is not added again.
 */
export const addingLua = `
  local function addPlain(prefix, wait, id, name, data, now)
    if redis.call('EXISTS', prefix .. id) == 1 then return end
    redis.call('HSET', prefix .. id, 'name', name, 'data', data, 'opts', '{}', 'timestamp', now, 'delay', '0', 'priority', '0')
    redis.call('LPUSH', wait, id)
  end
  local function wake(marker) redis.call('ZADD', marker, 0, '0') end`

export const addScripts = {
  /** Adds jobs. KEYS: list of waiting jobs, marker. ARGV: prefix of jobs, name, time, then id and data of each. Returns 1. */
  fbtAddPlain: {
    numberOfKeys: 2,
    lua: `${addingLua}
      for i = 4, #ARGV, 2 do addPlain(ARGV[1], KEYS[1], ARGV[i], ARGV[2], ARGV[i + 1], ARGV[3]) end
      wake(KEYS[2])
      return 1`
  }
} as const
