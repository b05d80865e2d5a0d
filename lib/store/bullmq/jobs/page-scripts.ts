// One page of jobs, read by Redis as one step: ids with the fields of their jobs, also of those whose fields are gone.

const fieldsOf = `
  local function fieldsOf(id) return redis.call('HGETALL', ARGV[1] .. id) end`

export const pageScripts = {
  /**
   * A job, in whatever state. What is in no set and not active waits: to look for it in the list of waiting jobs would take longer, the longer that
   * is. KEYS: the job, its lock, the sets of completed, failed and delayed jobs, the list of active ones. ARGV: id. Returns state, score in
   * the set of delayed jobs, and fields; null for what is no job.
   */
  fbtGet: {
    numberOfKeys: 6,
    lua: `
      local id = ARGV[1]
      local fields = redis.pcall('HGETALL', KEYS[1])
      -- A key of another kind: its name is not the id of a job.
      if fields.err then return nil end
      if redis.call('ZSCORE', KEYS[3], id) then return { 'succeeded', '', fields } end
      if redis.call('ZSCORE', KEYS[4], id) then return { 'failed', '', fields } end
      local score = redis.call('ZSCORE', KEYS[5], id)
      if score then return { 'delayed', score, fields } end
      if redis.call('EXISTS', KEYS[2]) == 1 or redis.call('LPOS', KEYS[6], id) then return { 'active', '', fields } end
      if #fields == 0 or not tonumber(redis.call('HGET', KEYS[1], 'timestamp')) then return nil end
      return { 'waiting', '', fields }`
  },
  /**
   * The fields of the jobs at the ends of what waits: the next one of those without priority, and the first and the last of those with one, which may wait for ever.
   * KEYS: the list, and the sorted set. ARGV: prefix of jobs.
   */
  fbtOldest: {
    numberOfKeys: 2,
    lua: `${fieldsOf}
      local ends = {}
      local function add(id) if id then ends[#ends + 1] = fieldsOf(id) end end
      add(redis.call('LINDEX', KEYS[1], -1))
      add(redis.call('ZRANGE', KEYS[2], 0, 0)[1])
      add(redis.call('ZRANGE', KEYS[2], -1, -1)[1])
      return ends`
  },
  /**
   * A page of a sorted set, which goes on behind a score and an id, whether these are still there or not.
   * ARGV: prefix of jobs, 'up' or 'down', number of jobs, then score and id, if there are. Returns id, score and fields of each job.
   */
  fbtSetPage: {
    numberOfKeys: 1,
    lua: `${fieldsOf}
      local key, down, count, score, last = KEYS[1], ARGV[2] == 'down', tonumber(ARGV[3]), ARGV[4], ARGV[5]
      -- By bytes, as Redis orders members of one score. Lua's own comparison depends on the locale.
      local function isBefore(a, b)
        for i = 1, math.min(#a, #b) do
          local x, y = string.byte(a, i), string.byte(b, i)
          if x ~= y then return x < y end
        end
        return #a < #b
      end
      local from = 0
      if score then
        local now = redis.call('ZSCORE', key, last)
        if now and tonumber(now) == tonumber(score) then
          from = redis.call(down and 'ZREVRANK' or 'ZRANK', key, last) + 1
        else
          from = down and redis.call('ZCOUNT', key, '(' .. score, '+inf') or redis.call('ZCOUNT', key, '-inf', '(' .. score)
          for _, id in ipairs(redis.call(down and 'ZREVRANGEBYSCORE' or 'ZRANGEBYSCORE', key, score, score)) do
            if down and isBefore(id, last) or not down and isBefore(last, id) then break end
            from = from + 1
          end
        end
      end
      local found = redis.call(down and 'ZREVRANGE' or 'ZRANGE', key, from, from + count - 1, 'WITHSCORES')
      local page = {}
      for i = 1, #found, 2 do page[#page + 1] = { found[i], found[i + 1], fieldsOf(found[i]) } end
      return page`
  },
  /**
   * A page of a list, whose next job is at its tail. A list has no positions that last, so the page goes on at the first anchor that is still
   * there: a job just before the position, or just behind it. A job that has left the list and come back has been started once more, and is
   * none. If no anchor is left, it goes on from the tail. It leaves out the jobs that an earlier page of this listing has shown.
   * KEYS: the list, the hash of shown jobs and their pages. ARGV: prefix of jobs, number of jobs of the page, number of further ids, how long to
   * keep the hash in ms, number of the page from 0; then for each anchor 1 if it is before the position, its id, and how often it was started.
   * Returns id, starts and fields of each job; further ones have no fields.
   */
  fbtListPage: {
    numberOfKeys: 2,
    lua: `${fieldsOf}
      local list, shown, limit, further = KEYS[1], KEYS[2], tonumber(ARGV[2]), tonumber(ARGV[3])
      local length, number = redis.call('LLEN', list), tonumber(ARGV[5])
      -- Counted from the tail; undefined if no anchor is left.
      local from
      if number == 0 then from = 0 end
      for i = 6, #ARGV, 3 do
        if from then break end
        local id = ARGV[i + 1]
        if redis.call('EXISTS', ARGV[1] .. id) == 1 and (redis.call('HGET', ARGV[1] .. id, 'ats') or '') == ARGV[i + 2] then
          local at = redis.call('LPOS', list, id, 'RANK', -1)
          if at then from = length - at - (ARGV[i] == '1' and 0 or 1) end
        end
      end
      local ids = {}
      local chunk, at = from and limit + further or 1000, from or 0
      while at < length and #ids < limit + further do
        local found = redis.call('LRANGE', list, -(at + chunk), -(at + 1))
        for i = #found, 1, -1 do
          local page = number > 0 and redis.call('HGET', shown, found[i])
          if not page or tonumber(page) >= number then ids[#ids + 1] = found[i] end
        end
        at = at + chunk
      end
      local page, fresh = {}, {}
      for i = 1, math.min(#ids, limit + further) do
        local id = ids[i]
        local starts = redis.call('HGET', ARGV[1] .. id, 'ats') or ''
        page[i] = { id, starts, i <= limit and fieldsOf(id) or {} }
        if i <= limit then
          fresh[#fresh + 1] = id
          fresh[#fresh + 1] = ARGV[5]
        end
      end
      -- Only for a listing that goes on. A Redis that takes no writes lists all the same.
      if #ids > limit then
        redis.pcall('HSET', shown, unpack(fresh))
        redis.pcall('PEXPIRE', shown, ARGV[4])
      end
      return page`
  }
} as const
