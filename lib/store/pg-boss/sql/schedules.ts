import type { JobStatements } from './jobs.ts'

export type ScheduleStatements = ReturnType<typeof scheduleStatements>

/** The statements about schedules. `$1` of each is the name of the queue; a key is given and returned as the hex of its bytes. */
export function scheduleStatements (schema: string, channel: string, { fragments: { insertion, tellDue, lives } }: JobStatements) {
  const s = `"${schema}"`
  const hash = (key: string): string => `sha256(decode(${key}, 'hex'))`
  const columns = "encode(key, 'hex') AS key, definition, generation, due, last_due AS last"
  return {
    /**
     * Adds the schedule `$2` with the definition `$3`, due at `$4`, with jitter `$5`; an equal one changes nothing. Returns when it is due, whether it was changed, and whether no other
     * one ticks before it, so that all processes have to hear of it.
     */
    set: `
      WITH changed AS (
        INSERT INTO ${s}.fbt_schedule AS f (queue, hash, key, definition, generation, due, next_on) VALUES ($1, ${hash('$2')}, decode($2, 'hex'), $3::text, 1, $4::float8, $5::float8)
        ON CONFLICT (queue, hash) DO UPDATE SET definition = excluded.definition, generation = f.generation + 1, due = excluded.due, next_on = excluded.next_on
        WHERE f.definition <> excluded.definition
        RETURNING due
      ), told AS (
        SELECT pg_notify('${channel}', 'scheduled ' || $1::text) FROM changed
        WHERE NOT EXISTS (SELECT 1 FROM ${s}.fbt_schedule WHERE queue = $1 AND next_on < $5::float8 AND hash <> ${hash('$2')})
      )
      SELECT coalesce((SELECT due FROM changed), (SELECT due FROM ${s}.fbt_schedule WHERE queue = $1 AND hash = ${hash('$2')})) AS due, (SELECT count(*) FROM told)::int AS first`,

    delete: `DELETE FROM ${s}.fbt_schedule WHERE queue = $1 AND hash = ${hash('$2')} RETURNING 1`,

    /** A page of at most `$2` schedules whose key begins with `$3`, behind the key `$4`, if that is not null. In the order of bytes: the index has the beginning of each key. */
    list: `
      SELECT ${columns} FROM ${s}.fbt_schedule
      WHERE queue = $1 AND substring(key, 1, length(decode($3, 'hex'))) = decode($3, 'hex')
        AND substring(key, 1, 200) >= substring(coalesce(decode($4, 'hex'), decode($3, 'hex')), 1, 200) AND ($4::text IS NULL OR key > decode($4, 'hex'))
      ORDER BY substring(key, 1, 200), key LIMIT $2`,

    /** When the next schedule is due, in milliseconds since the epoch, and the time of the database. */
    next: `SELECT (SELECT min(next_on) FROM ${s}.fbt_schedule WHERE queue = $1) AS next, extract(epoch FROM clock_timestamp())::float8 * 1000 AS now`,

    /** At most `$2` schedules that are due at `$3`, any of them: each process takes others. */
    due: `
      SELECT * FROM (SELECT ${columns}, next_on AS at FROM ${s}.fbt_schedule WHERE queue = $1 AND next_on <= $3::float8 ORDER BY next_on LIMIT 4 * $2::int) d
      ORDER BY random() LIMIT $2::int`,

    /**
     * Claims ticks, and adds their runs: `$2` is the JSON of the ticks, `$3` that of the runs. A tick is ours if its schedule is still at it. With overlap 'skip' it adds no run while
     * the run before waits or runs.
     */
    claim: `
      WITH ticks AS (
        SELECT * FROM json_to_recordset($2::text::json) AS x (key text, generation int, due float8, next float8, at float8, overlap text, last float8, run uuid)
      ), ours AS (
        SELECT t.*, f.hash, t.run IS NOT NULL AND (t.overlap = 'allow' OR f.last_run IS NULL OR NOT ${lives('f.last_run')}) AS adds
        FROM ticks t JOIN ${s}.fbt_schedule f ON f.queue = $1 AND f.hash = ${hash('t.key')} AND f.generation = t.generation AND f.due = t.due
        ORDER BY f.hash FOR UPDATE OF f
      ), moved AS (
        UPDATE ${s}.fbt_schedule f SET due = coalesce(o.next, 'infinity'), next_on = coalesce(o.at, 'infinity'),
          last_due = CASE WHEN o.adds THEN o.last ELSE f.last_due END, last_run = CASE WHEN o.adds THEN o.run ELSE f.last_run END
        FROM ours o WHERE f.queue = $1 AND f.hash = o.hash
      ), given AS (
        SELECT x.* FROM json_to_recordset($3::text::json) AS x (n int, id uuid, data text, priority int, wait float8, at float8, key text, tier text, schedule text)
        WHERE x.schedule IN (SELECT key FROM ours WHERE adds)
      ), added AS (${insertion('true')} RETURNING start_after),
      told AS (SELECT ${tellDue('due')} FROM (SELECT min(start_after) AS due FROM added) a WHERE due IS NOT NULL)
      SELECT (SELECT count(*) FROM told) AS told`
  }
}
