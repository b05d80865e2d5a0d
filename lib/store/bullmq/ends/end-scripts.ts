// How jobs have ended, read by Redis as one step.

export const endScripts = {
  /** Id of the last event of a queue. KEYS: the stream of events. */
  fbtLastEvent: {
    numberOfKeys: 1,
    lua: `
      local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
      return #last == 0 and '0-0' or last[1][1]`
  },
  /**
   * What has become of some jobs. KEYS: the sets of completed and failed jobs. ARGV: prefix of jobs, prefix of the marks of cancelled jobs, ids. Returns for each
   * its state ('pending' for one that has not ended), and its return value, or its reason and stacks.
   */
  fbtEnds: {
    numberOfKeys: 2,
    lua: `
      local ends = {}
      for i = 3, #ARGV do
        local id = ARGV[i]
        local job = ARGV[1] .. id
        if redis.call('ZSCORE', KEYS[1], id) then
          ends[#ends + 1] = { 'succeeded', redis.call('HGET', job, 'returnvalue') or '' }
        elseif redis.call('ZSCORE', KEYS[2], id) then
          ends[#ends + 1] = { 'failed', redis.call('HGET', job, 'failedReason') or '', redis.call('HGET', job, 'stacktrace') or '' }
        -- A key of another kind, or the hash of something else: its name is not the id of a job.
        elseif redis.call('TYPE', job).ok == 'hash' and tonumber(redis.call('HGET', job, 'timestamp')) then
          ends[#ends + 1] = { 'pending' }
        else
          ends[#ends + 1] = { redis.call('EXISTS', ARGV[2] .. id) == 1 and 'cancelled' or 'gone' }
        end
      end
      return ends`
  }
} as const
