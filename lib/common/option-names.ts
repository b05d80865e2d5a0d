// The names of options: which kind of task each belongs to, and what other libraries call it. Only errors read this file.

/** Options of every task. */
export const sharedKeys = ['enabled', 'grace', 'logLevel'] as const
/** Options of every task with a handler. */
export const handlerKeys = ['timeout', 'onGiveUp'] as const
/** Options that only a queue takes. */
export const queueKeys = ['schema', 'store', 'concurrency', 'maxSize', 'onFull', 'rate', 'maxPayload', 'keep'] as const
/** Options that a timed task takes. */
export const timedKeys = ['retry', 'every', 'cron', 'timezone', 'immediate', 'overlap', 'misfire', 'jitter', 'exclude', 'cluster'] as const
/** Options that a hosted service takes. */
export const hostedKeys = ['start', 'stop', 'startTimeout'] as const
/** Options of `enqueue` that no task has. */
const enqueueKeys = ['delay', 'runAt', 'priority', 'key', 'keyUntil', 'reqId'] as const
/** Options of the plugin. */
const pluginKeys = ['autostart', 'shutdownTimeout', 'stores', 'onRun'] as const

/** Option keys of other kinds of task, each with the kind it belongs to. */
export type OtherKinds = Record<string, string>

/** The kind that each option of a task belongs to. */
const taskKinds: OtherKinds = {
  ...allTo(queueKeys, 'a queue, which is declared with addBackgroundQueue()'),
  restart: 'a service; a timed task and a queue have "retry"',
  ...allTo(sharedKeys, 'a task'),
  ...allTo(handlerKeys, 'a task with a handler'),
  ...allTo(timedKeys, 'a timed task, which has "every" or "cron"'),
  retry: 'a timed task or a queue; a service has "restart"',
  ...allTo(hostedKeys, 'a hosted service, which is declared without a handler: (name, { start, stop })')
}

/** Every option of every kind of task. */
export const taskKeys: string[] = Object.keys(taskKinds)

/** What each option belongs to: the hint for whoever passes it somewhere else. */
export const kinds: OtherKinds = {
  ...allTo(enqueueKeys, 'a call of queue.enqueue(payload, options)'),
  ...allTo(pluginKeys, 'the plugin: app.register(backgroundTasks, options)'),
  ...taskKinds
}

/** What other libraries call an option: in lower case, with our names for it, the most likely first. */
const words: Record<string, readonly string[]> = {
  // When it runs: setInterval, toad-scheduler, node-cron, cron, node-schedule, Agenda, Quartz.NET.
  ...allAs(['interval', 'period', 'schedule', 'repeat', 'frequency', 'milliseconds', 'repeatevery', 'trigger'], ['every', 'cron', 'delay']),
  ...allAs(['delay'], ['every', 'cron', 'delay']),
  ...allAs(['crontime', 'cronexpression', 'crontab', 'pattern', 'expression', 'rule', 'cronschedule'], ['cron']),
  ...allAs(['tz', 'timezone', 'timezoneid', 'utcoffset', 'zone'], ['timezone']),
  ...allAs(['runoninit', 'runimmediately', 'startnow', 'runonstart', 'runatstart', 'immediately', 'fireoninit'], ['immediate']),
  ...allAs(['nooverlap', 'protect', 'preventoverrun', 'waitforcompletion', 'disallowconcurrentexecution', 'allowoverlap', 'maxrunning'], ['overlap']),
  ...allAs(['recovermissedexecutions', 'catchup', 'misfirepolicy', 'misfireinstruction'], ['misfire']),
  ...allAs(['skip', 'skipif', 'holidays', 'filter', 'calendar'], ['exclude']),
  ...allAs(['lock', 'leader', 'distributed', 'singleinstance', 'onenode', 'clustered'], ['cluster']),
  ...allAs(['randomdelay', 'maxrandomdelay'], ['jitter']),
  // Failure: BullMQ, Agenda, pg-boss, p-retry, async-retry.
  ...allAs(['retries', 'attempts', 'maxretries', 'maxattempts', 'retrylimit', 'tries', 'retrycount', 'maxtries'], ['retry', 'limit']),
  ...allAs(['backoff', 'retrydelay', 'retrybackoff', 'backoffstrategy'], ['retry', 'delay', 'factor']),
  ...allAs(['mintimeout', 'minretrydelay', 'initialdelay'], ['delay', 'retry']),
  ...allAs(['maxtimeout', 'maxbackoff', 'maxretrydelay', 'retrydelaymax'], ['maxDelay', 'retry']),
  ...allAs(['onerror', 'onfailed', 'onfailure', 'errorhandler', 'catch'], ['onGiveUp', 'onRun']),
  ...allAs(['restartpolicy', 'respawn', 'autorestart'], ['restart']),
  // Limits: fastq, p-queue, better-queue, bottleneck, BullMQ, pg-boss.
  ...allAs(['workers', 'parallelism', 'maxconcurrency', 'maxconcurrent', 'parallel', 'teamsize', 'poolsize', 'maxthreads', 'batchsize'], ['concurrency', 'threads']),
  ...allAs(['concurrency'], ['threads']),
  ...allAs(['capacity', 'size', 'maxlength', 'highwater', 'highwatermark', 'maxqueue', 'maxqueued'], ['maxSize', 'count', 'limit']),
  ...allAs(['limit', 'max'], ['maxSize', 'limit', 'count']),
  ...allAs(['limiter', 'ratelimit', 'throttle', 'mintime'], ['rate']),
  ...allAs(['duration', 'timewindow', 'window'], ['per', 'within', 'timeout']),
  ...allAs(['ttl', 'expirein', 'expireinseconds', 'maxruntime', 'jobtimeout', 'executiontimeout', 'deadline'], ['timeout', 'age']),
  ...allAs(['removeoncomplete', 'removeonfail', 'retention', 'deleteafter', 'history'], ['keep']),
  ...allAs(['overflow', 'onoverflow'], ['onFull']),
  ...allAs(['maxbytes', 'maxpayloadsize', 'bodylimit', 'payloadlimit'], ['maxPayload']),
  // Data: BullMQ, Agenda, pg-boss.
  ...allAs(['jobid', 'id', 'unique', 'dedupe', 'deduplication', 'deduplicationid', 'singletonkey', 'idempotencykey'], ['key']),
  ...allAs(['startafter', 'eta', 'runafter', 'scheduledfor', 'at', 'when'], ['runAt', 'delay', 'cron']),
  ...allAs(['prio', 'importance'], ['priority']),
  ...allAs(['requestid', 'correlationid', 'traceid'], ['reqId']),
  ...allAs(['data', 'body', 'args', 'arguments'], ['payload', 'schema']),
  ...allAs(['validate', 'validation', 'validator', 'payload'], ['schema']),
  // Start and stop: IHostedService, close-with-grace, BullMQ.
  ...allAs(['disabled', 'autorun', 'autostart', 'scheduled', 'active'], ['enabled', 'autostart']),
  ...allAs(['graceperiod', 'draintimeout', 'drain'], ['grace', 'shutdownTimeout']),
  ...allAs(['closetimeout', 'stoptimeout', 'gracefulshutdowntimeout', 'shutdowndelay'], ['shutdownTimeout', 'grace']),
  ...allAs(['timeout'], ['shutdownTimeout']),
  ...allAs(['onstart', 'setup', 'init', 'startasync', 'up'], ['start']),
  ...allAs(['onstop', 'teardown', 'destroy', 'stopasync', 'down', 'onclose'], ['stop']),
  ...allAs(['loglevel', 'level', 'verbosity'], ['logLevel']),
  ...allAs(['middleware', 'interceptor', 'wrap', 'use', 'scope'], ['onRun']),
  // Engines: BullMQ, ioredis, pg-boss, piscina.
  ...allAs(['redis', 'client', 'url', 'uri', 'host', 'port', 'createclient', 'db'], ['connection', 'connectionString', 'store']),
  ...allAs(['adapter', 'backend', 'engine', 'storage', 'driver'], ['store', 'stores']),
  ...allAs(['lockduration', 'stalledinterval', 'locktimeout', 'visibilitytimeout', 'heartbeatseconds'], ['lease', 'timeout']),
  ...allAs(['maxstalledcount', 'maxstalled'], ['maxCrashes']),
  ...allAs(['keyprefix', 'namespace'], ['prefix']),
  ...allAs(['terminatetimeout', 'killtimeout', 'killdelay'], ['killAfter']),
  ...allAs(['resourcelimits', 'maxmemory', 'heap', 'maxoldgenerationsizemb', 'memorylimit'], ['memory'])
}

/** Our names for what another library calls `word`, the most likely first. */
export function namesFor (word: string): readonly string[] {
  const key = word.toLowerCase().replaceAll(/[-_\s]/g, '')
  return Object.hasOwn(words, key) ? words[key] as readonly string[] : []
}

function allTo (keys: readonly string[], kind: string): OtherKinds {
  return Object.fromEntries(keys.map(key => [key, kind]))
}

function allAs (theirs: string[], ours: readonly string[]): Record<string, readonly string[]> {
  return Object.fromEntries(theirs.map(word => [word, ours]))
}
