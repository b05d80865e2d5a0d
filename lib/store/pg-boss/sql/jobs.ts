/* The table of pg-boss, and what stands in it. Everything that leans on its layout is in this file: look here first when a version of pg-boss changes it.
 *
 * A run is a row of `job`, which pg-boss partitions by the name of the queue. `created` and `retry` are the states of a waiting run, or of a delayed one if `start_after` is
 * ahead; `active`, `completed` and `failed` are ours. A cancelled run is deleted.
 *
 * - `data` is a text of JSON inside of the jsonb: as jsonb it would lose the order of keys, and PostgreSQL refuses NUL and lone surrogates.
 * - `priority` is the negative of ours: in pg-boss the higher number is first.
 * - `created_on` is the order within a priority, which an interrupted run keeps.
 * - `retry_count` counts how often the run was begun, less one, as pg-boss does. It is the fence: who settles or renews names the count with which he has claimed the run.
 * - `heartbeat_on` is when its process last renewed the lease. One that was taken over keeps it until somebody claims it: its process may still have it back.
 * - `singleton_key` is the key, `group_tier` 'started' if that is free when the run begins.
 * - `output` has what we know of its attempts: how many have ended, how many processes have died under it, progress, the last error, and the value; texts of JSON, too.
 *
 * pg-boss itself must neither expire our jobs nor give them up: their heartbeat is ours (`heartbeat_seconds` null), and their limits are as high as can be.
 */

/** Longer than anybody waits, in seconds. */
const FOREVER = 2_000_000_000
const NEVER = "'9999-01-01'::timestamptz"

/** What `select` reads of a job. The times are microseconds since the epoch, as texts. */
const COLUMNS = `j.id::text AS id, j.state::text AS state, j.data, j.output, j.priority, j.singleton_key AS key, j.retry_count AS starts,
  ${micros('j.created_on')} AS created, ${micros('j.start_after')} AS due, ${micros('j.started_on')} AS started, ${micros('j.completed_on')} AS completed`

const NOW = 'clock_timestamp()'
/**
 * The name of the queue, which the planner is not to know: of a name that stood in no job when the server last analyzed the table it expects one job, and reads all of the queue to find it.
 */
const QUEUE = '(SELECT $1::text)'
/** What we know of the attempts of a job. Another program may have written anything. */
const OUTPUT = "CASE WHEN jsonb_typeof(j.output) = 'object' THEN j.output ELSE '{}' END"

function micros (column: string): string {
  return `(extract(epoch FROM ${column}) * 1000000)::bigint::text`
}

/** A time from microseconds since the epoch, which are a text. */
function timeOf (value: string): string {
  return `('epoch'::timestamptz + ${value}::float8 * interval '1 microsecond')`
}

/** The planner expects a hundred rows of a JSON, for which it would rather read all runs of the queue. With a limit that it does not know it expects ten, and looks each of them up. */
function some (json: string): string {
  return `LIMIT json_array_length(${json}::text::json)`
}

function numberIn (field: string): string {
  return `CASE WHEN jsonb_typeof(j.output -> '${field}') = 'number' THEN (j.output ->> '${field}')::int ELSE 0 END`
}

export type JobStatements = ReturnType<typeof jobStatements>

/** The statements about jobs. `$1` of each is the name of the queue, unless it says otherwise; `channel` is where all processes hear of what happens. */
export function jobStatements (schema: string, channel: string) {
  const s = `"${schema}"`
  const job = `${s}.job`
  const isWaiting = 'j.state < \'active\' AND j.start_after <= now()'
  const isDelayed = 'j.state < \'active\' AND j.start_after > now()'
  /* Conditions for a row that is looked up by its id. Cast to text, so that no index of states matches: where the planner expects few rows in a state, it rates that index as highly as the primary key. */
  const isActive = "j.state::text = 'active'"
  const isUnended = "j.state::text IN ('created', 'retry', 'active')"
  /** What its process has, or may have back. */
  const isHeld = `(${isActive} OR (j.state::text = 'retry' AND j.heartbeat_on IS NOT NULL))`
  const tell = (payload: string): string => `pg_notify('${channel}', ${payload})`
  /** Notifies that runs may begin, the first of them at `due`: in how many milliseconds, as the clocks of processes differ. */
  const tellDue = (due: string): string => tell(`'due ' || $1::text || ' ' || greatest(0, ceil(extract(epoch FROM ${due} - ${NOW}) * 1000))::text`)
  /** Notifies of ends for which somebody waits. `ended` has the column `id`. */
  const tellEnded = (ended: string): string => `SELECT ${tell("'ended ' || $1::text || ' ' || string_agg(w.run::text, ',')")}
    FROM ${s}.fbt_wait w WHERE w.queue = $1 AND w.run IN (SELECT id FROM ${ended}) HAVING count(*) > 0`
  const releaseKeys = (ended: string): string => `DELETE FROM ${s}.fbt_key k USING ${ended} e WHERE k.queue = $1 AND k.key = e.singleton_key AND k.run = e.id`

  /**
   * Those of a relation `given`, with id and starts, that are still whose they are. Each is looked up by its id, whatever the planner believes to know of the table: that is
   * what OFFSET 0 is for. And each is locked, in the order of ids: a claim by another process that is just being committed counts, and what follows is done as a whole or not.
   */
  const heldOf = (columns: string): string => `
        SELECT ${columns} FROM (SELECT * FROM given ORDER BY id) g
        CROSS JOIN LATERAL (SELECT singleton_key, group_tier, started_on, output, retry_count, state, heartbeat_on FROM ${job} WHERE name = ${QUEUE} AND id = g.id OFFSET 0 FOR UPDATE) j
        WHERE j.retry_count = g.starts AND ${isHeld}`

  /** Inserts the runs of a relation `given`: n, id, data, priority, wait, at, key, tier. */
  const insertion = (where: string): string => `
    INSERT INTO ${job} (id, name, data, priority, start_after, created_on, singleton_key, group_tier, keep_until, retry_limit, expire_seconds, deletion_seconds, policy)
    SELECT id, $1, to_jsonb(data), -priority, coalesce(${timeOf('at * 1000')}, c.now + wait * interval '1 millisecond'), c.now + n * interval '1 microsecond',
      key, tier, ${NEVER}, 1000000, ${FOREVER}, 0, 'standard'
    FROM given, (SELECT ${NOW} AS now) c WHERE ${where}
    ON CONFLICT DO NOTHING`

  /** Claims the first runs. `limit` is a number or a parameter, `condition` what must be so. */
  const claiming = (limit: string, condition: string): string => `
    WITH next AS (
      SELECT id FROM ${job} j WHERE name = ${QUEUE} AND ${isWaiting} AND NOT blocked ${condition}
      ORDER BY priority DESC, created_on LIMIT ${limit} FOR UPDATE SKIP LOCKED
    ), claimed AS (
      UPDATE ${job} j SET state = 'active', started_on = ${NOW}, heartbeat_on = ${NOW}, completed_on = NULL,
        retry_count = CASE WHEN started_on IS NULL THEN retry_count ELSE retry_count + 1 END, expire_seconds = ${FOREVER}, heartbeat_seconds = NULL
      FROM next WHERE j.name = ${QUEUE} AND j.id = next.id
      RETURNING ${COLUMNS}, j.group_tier
    ), freed AS (
      DELETE FROM ${s}.fbt_key k USING claimed c WHERE c.group_tier = 'started' AND k.queue = $1 AND k.key = c.key AND k.run = c.id::uuid
    )
    SELECT * FROM claimed`

  /** With a number that it knows, the server keeps the plan; with another one it makes the plan each time, which takes longer than the claim. In most claims one run has ended, and one begins. */
  const claims = (condition = ''): { one: string, several: string } => ({ one: claiming('1', condition), several: claiming('$2', condition) })

  return {
    /**
     * Adds runs: `$2` is their JSON, `$3` the transaction that it must be in, or null. Returns the ids of those whose key another run has, and whether the transaction was
     * that one. A run whose id is known is not added.
     */
    add: `
      WITH given AS (
        SELECT * FROM json_to_recordset($2::text::json) AS x (n int, id uuid, data text, priority int, wait float8, at float8, key text, tier text)
        WHERE $3::text IS NULL OR pg_current_xact_id()::text = $3
      ), keyed AS (
        INSERT INTO ${s}.fbt_key (queue, key, run) SELECT $1, key, id FROM given WHERE key IS NOT NULL ORDER BY key
        ON CONFLICT DO NOTHING RETURNING run
      ), added AS (${insertion('key IS NULL OR id IN (SELECT run FROM keyed)')} RETURNING start_after),
      told AS (SELECT ${tellDue('due')} FROM (SELECT min(start_after) AS due FROM added) a WHERE due IS NOT NULL)
      SELECT (SELECT count(*) FROM told) AS told, (SELECT count(*) FROM given)::int AS count,
        ARRAY(SELECT id::text FROM given WHERE key IS NOT NULL AND id NOT IN (SELECT run FROM keyed)) AS refused`,

    /** The transaction that this statement is in. */
    transaction: 'SELECT pg_current_xact_id()::text AS id',

    /** Which runs have the keys of the text array `$2`, and whether they still wait or run. */
    keys: `
      SELECT k.key, k.run::text AS run, EXISTS (SELECT 1 FROM ${job} j WHERE j.name = ${QUEUE} AND j.id = k.run AND ${isUnended}) AS lives
      FROM ${s}.fbt_key k WHERE k.queue = $1 AND k.key = ANY($2::text[])`,

    /** Frees the key `$2`, if the run `$3` has it, which is gone. */
    freeKey: `DELETE FROM ${s}.fbt_key WHERE queue = $1 AND key = $2 AND run = $3::uuid`,

    /** Claims one run, or at most `$2`, unless the queue is paused, or runs one at a time. */
    claim: claims(`AND NOT EXISTS (SELECT 1 FROM ${s}.fbt_queue q WHERE q.queue = $1 AND (q.paused OR q.exclusive))`),

    /** The same, for who has locked the row of the queue. */
    claimLocked: claims(),

    /** Locks the row of the queue, so that one process at a time claims. `$2`: length of the window of the rate, in milliseconds. */
    lockQueue: `
      SELECT paused, exclusive, CASE WHEN rate_since + $2::float8 * interval '1 millisecond' > ${NOW} THEN rate_count ELSE 0 END AS used,
        extract(epoch FROM rate_since + $2::float8 * interval '1 millisecond' - ${NOW})::float8 * 1000 AS left
      FROM ${s}.fbt_queue WHERE queue = $1 FOR UPDATE`,

    /** Whether a run is active anywhere. */
    isActive: `SELECT EXISTS (SELECT 1 FROM ${job} WHERE name = ${QUEUE} AND state = 'active') AS active`,

    /** Counts `$3` runs in the window of the rate, whose length `$2` is. */
    countRate: `
      UPDATE ${s}.fbt_queue SET
        rate_count = CASE WHEN rate_since + $2::float8 * interval '1 millisecond' > ${NOW} THEN rate_count ELSE 0 END + $3::int,
        rate_since = CASE WHEN rate_since + $2::float8 * interval '1 millisecond' > ${NOW} THEN rate_since ELSE ${NOW} END
      WHERE queue = $1`,

    /** In how many milliseconds the first delayed run may begin; null if there is none. One look into an index for each state. */
    nextDue: `
      SELECT extract(epoch FROM least(
        (SELECT start_after FROM ${job} WHERE name = ${QUEUE} AND state = 'created' AND NOT blocked AND start_after > now() ORDER BY start_after LIMIT 1),
        (SELECT start_after FROM ${job} WHERE name = ${QUEUE} AND state = 'retry' AND NOT blocked AND start_after > now() ORDER BY start_after LIMIT 1)
      ) - ${NOW})::float8 * 1000 AS wait`,

    /**
     * Settles attempts: `$2` is their JSON, `$3` and `$4` for how many seconds pg-boss keeps a run that succeeded or failed: 0 for ever, -1 not at all. `$5`: whether other
     * processes wait for an end before they begin another run. Returns the ids of those that were still ours.
     */
    settle: `
      WITH given AS (
        SELECT * FROM json_to_recordset($2::text::json) AS x (id uuid, starts int, outcome text, value text, error text, wait float8) ${some('$2')}
      ), held AS (
        ${heldOf(`g.id, j.singleton_key, j.group_tier, g.value, g.error, g.wait, row_number() OVER (ORDER BY j.started_on) AS n,
          ${OUTPUT} AS output, ${numberIn('attempts')} AS attempts,
          CASE WHEN j.output -> 'cancel' IS NOT NULL AND g.outcome IN ('interrupted', 'retry') THEN 'cancelled' ELSE g.outcome END AS outcome`)}
      ), ended AS (
        SELECT *, outcome = 'cancelled' OR (outcome = 'succeeded' AND $3::int < 0) OR (outcome = 'failed' AND $4::int < 0) AS removed
        FROM held WHERE outcome NOT IN ('interrupted', 'retry')
      ), removed AS (
        DELETE FROM ${job} j USING ended e WHERE j.name = ${QUEUE} AND j.id = e.id AND e.removed AND ${isHeld} RETURNING j.id
      ), settled AS (
        UPDATE ${job} j SET
          state = (CASE h.outcome WHEN 'succeeded' THEN 'completed' WHEN 'failed' THEN 'failed' ELSE 'retry' END)::${s}.job_state,
          start_after = CASE WHEN h.outcome = 'retry' THEN ${NOW} + h.wait * interval '1 millisecond' ELSE j.start_after END,
          completed_on = CASE WHEN h.outcome IN ('succeeded', 'failed') THEN ${NOW} + h.n * interval '1 microsecond' END,
          heartbeat_on = NULL,
          deletion_seconds = CASE h.outcome WHEN 'succeeded' THEN $3::int WHEN 'failed' THEN $4::int ELSE j.deletion_seconds END,
          output = (h.output - 'cancel') || CASE WHEN h.outcome = 'interrupted' THEN '{}'
            ELSE jsonb_strip_nulls(jsonb_build_object('attempts', h.attempts + 1, 'error', h.error, 'value', h.value)) END
        FROM held h WHERE j.name = ${QUEUE} AND j.id = h.id AND ${isHeld} AND h.id NOT IN (SELECT id FROM ended WHERE removed)
        RETURNING j.id, j.state, j.start_after
      ), freed AS (${releaseKeys('ended')}),
      taken AS (
        INSERT INTO ${s}.fbt_key (queue, key, run) SELECT $1, singleton_key, id FROM held WHERE outcome IN ('interrupted', 'retry') AND group_tier = 'started' AND singleton_key IS NOT NULL
        ORDER BY singleton_key ON CONFLICT DO NOTHING
      ), told_waiting AS (
        INSERT INTO ${s}.fbt_end (queue, run, outcome, value, error, ended_on)
        SELECT $1, id, outcome, value, error, ${NOW} FROM ended e WHERE removed OR EXISTS (SELECT 1 FROM ${s}.fbt_wait w WHERE w.queue = $1 AND w.run = e.id)
        ON CONFLICT (queue, run) DO UPDATE SET outcome = excluded.outcome, value = excluded.value, error = excluded.error, ended_on = excluded.ended_on
      ), told AS (${tellEnded('ended')}),
      due AS (SELECT ${tellDue('due')} FROM (SELECT CASE WHEN $5::boolean THEN now() ELSE min(start_after) END AS due FROM settled WHERE state = 'retry' OR $5::boolean) a WHERE due IS NOT NULL)
      SELECT ARRAY(SELECT id::text FROM settled UNION ALL SELECT id::text FROM removed) AS ids, (SELECT count(*) FROM told) + (SELECT count(*) FROM due) AS told`,

    /** Renews the leases of `$2`, a JSON of ids and counts. Takes back a run that was taken over and that nobody has claimed. Returns those that are ours, and whether somebody cancels them. */
    renew: `
      WITH given AS (SELECT * FROM json_to_recordset($2::text::json) AS x (id uuid, starts int) ${some('$2')}),
      held AS (${heldOf('g.id, g.starts')})
      UPDATE ${job} j SET heartbeat_on = ${NOW}, state = 'active'
      FROM held h WHERE j.name = ${QUEUE} AND j.id = h.id AND j.retry_count = h.starts AND ${isHeld}
      RETURNING j.id::text AS id, j.output -> 'cancel' IS NOT NULL AS cancelled`,

    /**
     * Takes over the runs of queues (`$1`, a text array) whose lease of `$2` milliseconds is over: they wait again, or fail when `$3` processes have died under them, with
     * the error `$4`; one that somebody cancels is deleted. Returns them.
     */
    takeOver: `
      WITH dead AS (
        SELECT j.name, j.id, j.singleton_key, j.group_tier, j.output -> 'cancel' IS NOT NULL AS cancelled, ${numberIn('crashes')} + 1 AS crashes, ${numberIn('attempts')} AS attempts
        FROM ${job} j WHERE j.name = ANY($1::text[]) AND j.state = 'active' AND coalesce(j.heartbeat_on, j.started_on) < ${NOW} - $2::float8 * interval '1 millisecond'
        FOR UPDATE SKIP LOCKED
      ), ended AS (SELECT *, cancelled AS removed, CASE WHEN cancelled THEN 'cancelled' ELSE 'failed' END AS outcome FROM dead WHERE cancelled OR crashes >= $3::int),
      removed AS (DELETE FROM ${job} j USING ended e WHERE j.name = e.name AND j.id = e.id AND e.removed),
      moved AS (
        UPDATE ${job} j SET
          state = (CASE WHEN d.crashes >= $3::int THEN 'failed' ELSE 'retry' END)::${s}.job_state,
          completed_on = CASE WHEN d.crashes >= $3::int THEN ${NOW} END,
          heartbeat_on = CASE WHEN d.crashes >= $3::int THEN NULL ELSE j.heartbeat_on END,
          output = ${OUTPUT} || jsonb_build_object('crashes', d.crashes) || CASE WHEN d.crashes >= $3::int THEN jsonb_build_object('attempts', d.attempts + 1, 'error', $4::text) ELSE '{}' END
        FROM dead d WHERE j.name = d.name AND j.id = d.id AND NOT d.cancelled
        RETURNING j.name AS queue, ${COLUMNS}
      ), freed AS (DELETE FROM ${s}.fbt_key k USING ended e WHERE k.queue = e.name AND k.key = e.singleton_key AND k.run = e.id),
      taken AS (
        INSERT INTO ${s}.fbt_key (queue, key, run) SELECT name, singleton_key, id FROM dead
        WHERE group_tier = 'started' AND singleton_key IS NOT NULL AND NOT cancelled AND crashes < $3::int ORDER BY name, singleton_key ON CONFLICT DO NOTHING
      ), told_waiting AS (
        INSERT INTO ${s}.fbt_end (queue, run, outcome, error, ended_on) SELECT name, id, outcome, $4::text, ${NOW} FROM ended e
        WHERE removed OR EXISTS (SELECT 1 FROM ${s}.fbt_wait w WHERE w.queue = e.name AND w.run = e.id) ON CONFLICT DO NOTHING
      ), told AS (SELECT ${tell("'ended ' || name || ' ' || id::text")} FROM ended),
      due AS (SELECT ${tell("'due ' || name || ' 0'")} FROM (SELECT DISTINCT name FROM dead) d)
      SELECT *, (SELECT count(*) FROM told) + (SELECT count(*) FROM due) AS told FROM moved`,

    /** Asks for the end of the active run `$2`, wherever it runs. Returns a row if it is active. */
    askCancel: `
      WITH asked AS (UPDATE ${job} j SET output = ${OUTPUT} || '{"cancel": true}' WHERE name = ${QUEUE} AND id = $2::uuid AND ${isActive} RETURNING id)
      SELECT id, ${tell("'cancel ' || $1::text || ' ' || id::text")} FROM asked`,

    /** Deletes the run `$2`, if it is in a state of the text array `$3`. `$4`: whether it counts as cancelled. Returns its state. */
    delete: `
      WITH gone AS (
        DELETE FROM ${job} WHERE name = ${QUEUE} AND id = $2::uuid AND state::text = ANY($3::text[]) RETURNING id, state, singleton_key
      ), freed AS (${releaseKeys('gone')}),
      forgotten AS (DELETE FROM ${s}.fbt_end f USING gone g WHERE NOT $4::boolean AND f.queue = $1 AND f.run = g.id),
      cancelled AS (
        INSERT INTO ${s}.fbt_end (queue, run, outcome, ended_on) SELECT $1, id, 'cancelled', ${NOW} FROM gone WHERE $4::boolean
        ON CONFLICT (queue, run) DO UPDATE SET outcome = excluded.outcome, value = NULL, error = NULL, ended_on = excluded.ended_on
      ), told AS (${tellEnded('gone')})
      SELECT state::text AS state, (SELECT count(*) FROM told) AS told FROM gone`,

    /** Deletes at most `$2` runs in a state. Returns their number. */
    clear: Object.fromEntries(Object.entries({ waiting: isWaiting, delayed: isDelayed, succeeded: "j.state = 'completed'", failed: "j.state = 'failed'" }).map(([state, condition]) => [state, `
      WITH found AS (SELECT id FROM ${job} j WHERE name = ${QUEUE} AND ${condition} LIMIT $2 FOR UPDATE SKIP LOCKED),
      gone AS (DELETE FROM ${job} j USING found f WHERE j.name = ${QUEUE} AND j.id = f.id RETURNING j.id, j.singleton_key),
      freed AS (${releaseKeys('gone')}),
      forgotten AS (DELETE FROM ${s}.fbt_end e USING gone g WHERE e.queue = $1 AND e.run = g.id),
      told AS (SELECT ${tell("'ended ' || $1::text || ' ' || w.run::text")} FROM ${s}.fbt_wait w WHERE w.queue = $1 AND w.run IN (SELECT id FROM gone))
      SELECT (SELECT count(*) FROM gone)::int AS count, (SELECT count(*) FROM told) AS told`])) as Record<'waiting' | 'delayed' | 'succeeded' | 'failed', string>,

    /** Makes failed runs wait again: the run `$2`, or all if that is null. Leaves those whose key another run has. Returns how many were found, and how many wait again. */
    retry: `
      WITH found AS (
        SELECT id, singleton_key, group_tier FROM ${job} WHERE name = ${QUEUE} AND state = 'failed' AND ($2::uuid IS NULL OR id = $2::uuid) FOR UPDATE
      ), keyed AS (
        INSERT INTO ${s}.fbt_key (queue, key, run) SELECT DISTINCT ON (singleton_key) $1, singleton_key, id FROM found WHERE singleton_key IS NOT NULL ORDER BY singleton_key
        ON CONFLICT DO NOTHING RETURNING run
      ), moved AS (
        UPDATE ${job} j SET state = 'retry', completed_on = NULL, start_after = ${NOW}, heartbeat_on = NULL, output = ${OUTPUT} - 'crashes' - 'cancel'
        FROM found f WHERE j.name = ${QUEUE} AND j.id = f.id AND (f.singleton_key IS NULL OR f.id IN (SELECT run FROM keyed)) RETURNING j.id
      ), forgotten AS (DELETE FROM ${s}.fbt_end e USING moved m WHERE e.queue = $1 AND e.run = m.id),
      told AS (SELECT ${tell("'due ' || $1::text || ' 0'")} FROM moved LIMIT 1)
      SELECT (SELECT count(*) FROM found)::int AS found, (SELECT count(*) FROM moved)::int AS moved, (SELECT singleton_key FROM found LIMIT 1) AS key, (SELECT count(*) FROM told) AS told`,

    counts: `
      SELECT count(*) FILTER (WHERE ${isWaiting})::int AS waiting, count(*) FILTER (WHERE ${isDelayed})::int AS delayed, count(*) FILTER (WHERE state = 'active')::int AS active,
        count(*) FILTER (WHERE state = 'completed')::int AS succeeded, count(*) FILTER (WHERE state = 'failed')::int AS failed
      FROM ${job} j WHERE name = ${QUEUE}`,

    /** Since when the run waits that has waited longest. */
    waitingSince: `SELECT ${micros('min(greatest(j.created_on, j.start_after))')} AS since FROM ${job} j WHERE name = ${QUEUE} AND ${isWaiting}`,

    /** The run `$2`. */
    get: `SELECT ${COLUMNS}, j.start_after > now() AS later FROM ${job} j WHERE name = ${QUEUE} AND id = $2::uuid`,

    /** The runs of the uuid array `$2`: whether they have ended, and how those have that are gone, and how many milliseconds ago. */
    ends: `
      SELECT g.id::text AS id, j.state::text AS state, j.output, e.outcome, e.value, e.error, extract(epoch FROM ${NOW} - e.ended_on)::float8 * 1000 AS age
      FROM unnest($2::uuid[]) AS g (id)
      LEFT JOIN LATERAL (SELECT state, output FROM ${job} WHERE name = ${QUEUE} AND id = g.id OFFSET 0) j ON true
      LEFT JOIN ${s}.fbt_end e ON e.queue = $1 AND e.run = g.id`,

    /** Says that somebody waits for the runs of the text array `$2`, for another `$3` milliseconds. */
    wait: `
      INSERT INTO ${s}.fbt_wait (queue, run, until) SELECT $1, id::uuid, ${NOW} + $3::float8 * interval '1 millisecond' FROM unnest($2::text[]) AS g (id) ORDER BY id
      ON CONFLICT (queue, run) DO UPDATE SET until = greatest(fbt_wait.until, excluded.until)`,

    /** A page of a state: at most `$2` runs, behind the position `$3` …, or from the first. */
    page: {
      first: pages(job, isWaiting, isDelayed, false),
      next: pages(job, isWaiting, isDelayed, true)
    },

    /** Keeps the progress `$4` of the run `$2`, begun `$3`. */
    progress: `UPDATE ${job} j SET output = ${OUTPUT} || jsonb_build_object('progress', $4::text) WHERE name = ${QUEUE} AND id = $2::uuid AND retry_count = $3::int AND ${isActive}`,

    /** Deletes ended runs: of the state `$2` all behind the first `$3`, and those older than `$4` milliseconds; either may be null. */
    trim: `
      DELETE FROM ${job} j WHERE name = ${QUEUE} AND state = $2::text::${s}.job_state AND (
        completed_on < ${NOW} - $4::float8 * interval '1 millisecond'
        OR $3::int IS NOT NULL AND (completed_on, id) <= (SELECT completed_on, id FROM ${job} WHERE name = ${QUEUE} AND state = $2::text::${s}.job_state ORDER BY completed_on DESC, id DESC OFFSET $3::int LIMIT 1)
      )`,

    /** All that messages would say of a queue, where they do not arrive. */
    look: `
      SELECT (SELECT paused FROM ${s}.fbt_queue WHERE queue = $1) AS paused,
        EXISTS (SELECT 1 FROM ${job} j WHERE name = ${QUEUE} AND ${isWaiting} AND NOT blocked) AS waiting,
        (SELECT min(next_on) FROM ${s}.fbt_schedule WHERE queue = $1) - extract(epoch FROM ${NOW})::float8 * 1000 AS next`,
    /** What stands about a queue: null where nobody has said anything. */
    settings: `SELECT paused, exclusive FROM ${s}.fbt_queue WHERE queue = $1`,
    exists: `SELECT 1 FROM ${s}.queue WHERE name = ${QUEUE}`,
    /** `$2`: whether one run at a time is active; null leaves it alone. */
    limit: `INSERT INTO ${s}.fbt_queue (queue, exclusive) VALUES ($1, coalesce($2::boolean, false)) ON CONFLICT (queue) DO UPDATE SET exclusive = coalesce($2::boolean, fbt_queue.exclusive)`,
    pause: `
      WITH changed AS (INSERT INTO ${s}.fbt_queue (queue, paused) VALUES ($1, $2::boolean) ON CONFLICT (queue) DO UPDATE SET paused = excluded.paused RETURNING paused)
      SELECT ${tell("CASE WHEN paused THEN 'paused ' ELSE 'resumed ' END || $1::text")} FROM changed`,
    recall: `SELECT value FROM ${s}.fbt_number WHERE queue = $1 AND name = $2`,
    raise: `
      INSERT INTO ${s}.fbt_number (queue, name, value) VALUES ($1, $2, $3::float8)
      ON CONFLICT (queue, name) DO UPDATE SET value = greatest(fbt_number.value, excluded.value)`,
    /** Deletes what nobody needs any more. No parameters. */
    sweep: `DELETE FROM ${s}.fbt_wait WHERE until < now() - interval '1 minute'; DELETE FROM ${s}.fbt_end WHERE ended_on < now() - interval '10 minutes'`,
    /** Time of the database, in milliseconds since the epoch. */
    time: `SELECT extract(epoch FROM ${NOW})::float8 * 1000 AS now`,

    /** For the ticks of schedules, which add runs, too. */
    fragments: { insertion, tellDue, lives: (id: string): string => `EXISTS (SELECT 1 FROM ${job} j WHERE j.name = ${QUEUE} AND j.id = ${id} AND ${isUnended})` }
  }
}

function pages (job: string, isWaiting: string, isDelayed: string, behind: boolean): Record<'waiting' | 'delayed' | 'active' | 'succeeded' | 'failed', string> {
  const page = (condition: string, order: string, position: string): string => `
    SELECT ${COLUMNS}, j.start_after > now() AS later FROM ${job} j WHERE name = ${QUEUE} AND ${condition} ${behind ? `AND ${position}` : ''} ORDER BY ${order} LIMIT $2`
  const from = timeOf('$3')
  const ended = (state: string): string => page(`j.state = '${state}'`, 'j.completed_on DESC, j.id DESC', `(j.completed_on, j.id) < (${from}, $4::uuid)`)
  return {
    waiting: page(isWaiting, 'j.priority DESC, j.created_on, j.id', `j.priority <= $5::int AND (j.priority < $5::int OR (j.created_on, j.id) > (${from}, $4::uuid))`),
    delayed: page(isDelayed, 'j.start_after, j.id', `(j.start_after, j.id) > (${from}, $4::uuid)`),
    active: page("j.state = 'active'", 'j.started_on, j.id', `(j.started_on, j.id) > (${from}, $4::uuid)`),
    succeeded: ended('completed'),
    failed: ended('failed')
  }
}
