import type { Postgres } from '../../test/support/postgres.ts'
import { queues, SCHEDULED, type Listed } from '../rules.ts'

/** The most rows of a table that does not hold runs, and the most runs of a cluster task, of which the store keeps less than that. */
const [ROWS, RUNS] = [1_000, 3_000]

/** Rows that are there for some time only: which, by their condition, ought to be gone. A process deletes them once a minute. */
const passing = {
  fbt_key: 'true',
  fbt_schedule: 'true',
  fbt_wait: "until < now() - interval '3 minutes'",
  fbt_end: "ended_on < now() - interval '12 minutes'"
}

/** Finds what is left in PostgreSQL after everything has ended, and would grow. No worker is alive. */
export async function leftovers (postgres: Postgres, schema: string, listed: Listed[]): Promise<string[]> {
  const found: string[] = []
  const jobs = await postgres.query(`SELECT name, state::text AS state, id::text AS id FROM ${schema}.job`) as Array<{ name: string, state: string, id: string }>
  const known = new Map(listed.map(one => [one.id, one]))
  const own = new Set<string>([...Object.keys(queues), SCHEDULED])
  const tasks: Record<string, number> = {}
  for (const { name, state, id } of jobs) {
    const isTask = !own.has(name)
    // Cluster tasks tick until the last process stops.
    if (isTask && state !== 'active') tasks[name] = (tasks[name] ?? 0) + 1
    else if (state !== 'completed' && state !== 'failed') found.push(`PostgreSQL has the run ${id} of ${name}, which is ${state}`)
    else if (known.get(id)?.queue !== name) found.push(`PostgreSQL has the run ${id} of ${name}, which is not listed`)
    known.delete(id)
  }
  for (const { queue, id, state } of known.values()) found.push(`${queue} lists the run ${id} as ${state}, of which PostgreSQL has no row`)
  for (const [name, count] of Object.entries(tasks)) if (count > RUNS) found.push(`PostgreSQL has ${count} runs of ${name}`)
  for (const [table, condition] of Object.entries(passing)) {
    const rows = await postgres.query(`SELECT * FROM ${schema}.${table} t WHERE ${condition}`)
    if (rows.length > 0) found.push(`PostgreSQL has ${rows.length} rows in ${table} that nobody needs: ${JSON.stringify(rows.slice(0, 5))}`)
  }
  const tables = await postgres.query("SELECT c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relname <> 'job'", [schema])
  for (const { name } of tables) {
    // What passes with time is many rows where much happens.
    if (String(name) in passing) continue
    const [row] = await postgres.query(`SELECT count(*)::int AS count FROM ${schema}."${String(name)}"`)
    if (Number(row?.['count']) > ROWS) found.push(`PostgreSQL has ${String(row?.['count'])} rows in ${String(name)}`)
  }
  const locks = await postgres.query("SELECT pid, state, query FROM pg_stat_activity WHERE backend_type = 'client backend' AND state LIKE 'idle in transaction%' AND state_change < now() - interval '15 seconds'")
  if (locks.length > 0) found.push(`PostgreSQL has connections whose transactions do not end: ${JSON.stringify(locks.slice(0, 5))}`)
  return found
}
