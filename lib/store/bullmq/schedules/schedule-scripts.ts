import { addingLua } from '../jobs/add-scripts.ts'

// Schedules as they stand in Redis, changed and run as one step each.
//
// KEYS of all: the times (a sorted set of keys by the time of their next tick, with its jitter), the names (a sorted set of keys in the order of their bytes), the
// definitions (a hash of JSON by key), and the states (a hash by key: generation, due time of the next tick, due time of the last tick that has
// enqueued a run, and the id of that run, separated by spaces). A generation is a number that changes with the definition.

const stateOf = `
  local function stateOf(key)
    local state = redis.call('HGET', KEYS[4], key)
    if not state then return nil end
    return string.match(state, '^(%S+) (%S+) (%S+) (%S+)$')
  end
  local function keep(key, generation, due, last, id)
    redis.call('HSET', KEYS[4], key, generation .. ' ' .. due .. ' ' .. last .. ' ' .. id)
  end`

export const scheduleScripts = {
  /**
   * Adds or replaces a schedule. ARGV: key, definition, due time, time with jitter. Returns the due time of the next tick, and 1 if no other schedule
   * ticks before it, so that all processes have to hear of it.
   */
  fbtSchedule: {
    numberOfKeys: 4,
    lua: `${stateOf}
      local key = ARGV[1]
      local generation, due, last, id = stateOf(key)
      if generation and redis.call('HGET', KEYS[3], key) == ARGV[2] then return { due, 0 } end
      redis.call('HSET', KEYS[3], key, ARGV[2])
      redis.call('ZADD', KEYS[2], 0, key)
      redis.call('ZADD', KEYS[1], ARGV[4], key)
      keep(key, string.format('%d', (tonumber(generation) or 0) + 1), ARGV[3], last or '-', id or '-')
      local first = redis.call('ZRANGE', KEYS[1], 0, 0)
      return { ARGV[3], first[1] == key and 1 or 0 }`
  },
  /** Removes a schedule. ARGV: key. Returns 1 if there was one. */
  fbtUnschedule: {
    numberOfKeys: 4,
    lua: `
      redis.call('ZREM', KEYS[1], ARGV[1])
      redis.call('HDEL', KEYS[3], ARGV[1])
      redis.call('HDEL', KEYS[4], ARGV[1])
      return redis.call('ZREM', KEYS[2], ARGV[1])`
  },
  /** A page. ARGV: prefix, number of schedules, and the key behind which it goes on, if there is one. Returns key, definition and state of each. */
  fbtSchedules: {
    numberOfKeys: 4,
    lua: `
      local from = ARGV[3] and '(' .. ARGV[3] or ARGV[1] == '' and '-' or '[' .. ARGV[1]
      -- No byte of a text in UTF-8 is 255.
      local to = ARGV[1] == '' and '+' or '(' .. ARGV[1] .. string.char(255)
      local page = {}
      for _, key in ipairs(redis.call('ZRANGEBYLEX', KEYS[2], from, to, 'LIMIT', 0, ARGV[2])) do
        page[#page + 1] = { key, redis.call('HGET', KEYS[3], key) or '', redis.call('HGET', KEYS[4], key) or '' }
      end
      return page`
  },
  /**
   * What is due. ARGV: the time, the most schedules, and a number from 0 to 1: of more than that many, each process takes others. Returns the time of the next tick,
   * and key, time, definition and state of each schedule that is due.
   */
  fbtDue: {
    numberOfKeys: 4,
    lua: `
      local most = tonumber(ARGV[2])
      local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
      if not first[1] or tonumber(first[2]) > tonumber(ARGV[1]) then return { first[2] or '' } end
      local more = redis.call('ZCOUNT', KEYS[1], '-inf', ARGV[1]) - most
      local from = more > 0 and math.floor(more * tonumber(ARGV[3])) or 0
      local found = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'WITHSCORES', 'LIMIT', from, most)
      local due = { first[2] }
      for i = 1, #found, 2 do
        local definition, state = redis.call('HGET', KEYS[3], found[i]), redis.call('HGET', KEYS[4], found[i])
        if definition and state then
          due[#due + 1] = { found[i], found[i + 1], definition, state }
        else
          -- Redis has lost a part of it, as by an eviction: nobody could run it, and all would look again and again.
          redis.call('ZREM', KEYS[1], found[i])
        end
      end
      return due`
  },
  /**
   * Claims ticks, and adds their jobs. A tick is ours if the schedule is still at it. With overlap 'skip' it adds no job while the run before waits or runs.
   * Jobs with a priority are added by BullMQ's own commands, in the same transaction: one whose tick is not ours gets a stand-in here, so that BullMQ takes it for known
   * and adds nothing; fbtUnclaim removes the stand-ins. Where the client sends the transaction again, as it has lost the answer, the job is there already.
   * Further KEYS: list of waiting jobs, marker. ARGV: prefix of jobs, their name, time, then of each tick: key, generation, due time, next due time, its time with
   * jitter, 'skip' or 'allow', due time of the run, number of jobs, and id and data of each; the data is empty if BullMQ adds it.
   */
  fbtClaim: {
    numberOfKeys: 6,
    lua: `${stateOf}${addingLua}
      local prefix, i, added = ARGV[1], 4, false
      while i <= #ARGV do
        local key, count = ARGV[i], tonumber(ARGV[i + 7])
        local generation, due, last, id = stateOf(key)
        local ours = generation == ARGV[i + 1] and due == ARGV[i + 2]
        local adds = ours and count > 0
        if adds and ARGV[i + 5] == 'skip' and id ~= '-' then
          adds = redis.call('EXISTS', prefix .. id) == 0 or redis.call('HEXISTS', prefix .. id, 'finishedOn') == 1
        end
        if ours then
          if adds then last, id = ARGV[i + 6], ARGV[i + 6 + 2 * count] end
          keep(key, generation, ARGV[i + 3], last, id)
          if ARGV[i + 4] == 'inf' then redis.call('ZREM', KEYS[1], key) else redis.call('ZADD', KEYS[1], ARGV[i + 4], key) end
        end
        for j = i + 8, i + 6 + 2 * count, 2 do
          local plain = ARGV[j + 1] ~= ''
          if adds and plain then
            addPlain(prefix, KEYS[5], ARGV[j], ARGV[2], ARGV[j + 1], ARGV[3])
            added = true
          elseif not adds and not plain and redis.call('EXISTS', prefix .. ARGV[j]) == 0 then
            redis.call('HSET', prefix .. ARGV[j], 'fbt', '1')
          end
        end
        i = i + 8 + 2 * count
      end
      if added then wake(KEYS[6]) end
      return 1`
  },
  /** Removes the stand-ins. ARGV: prefix of jobs, ids. */
  fbtUnclaim: {
    numberOfKeys: 4,
    lua: `
      for i = 2, #ARGV do
        local job = ARGV[1] .. ARGV[i]
        if redis.call('HEXISTS', job, 'fbt') == 1 then redis.call('DEL', job) end
      end
      return 1`
  }
} as const
