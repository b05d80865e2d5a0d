/** Version of our tables. A process with a newer one changes them; one with an older one refuses them. */
export const TABLES_VERSION = 1

/**
 * Creates our tables beside those of pg-boss, for what that does not have. One transaction, under a lock, so that processes may start together. Every name begins with
 * `fbt_`, which no table of pg-boss does.
 */
export function creation (schema: string): string {
  const s = `"${schema}"`
  return `
    SELECT pg_advisory_xact_lock(hashtextextended('fastify-background-tasks:${schema}', 0));
    CREATE TABLE IF NOT EXISTS ${s}.fbt_version (version int NOT NULL);
    INSERT INTO ${s}.fbt_version (version) SELECT ${TABLES_VERSION} WHERE NOT EXISTS (SELECT 1 FROM ${s}.fbt_version);

    -- What all processes of a queue share: whether it is paused, whether one run at a time is active in all of them, and the current window of its rate.
    CREATE TABLE IF NOT EXISTS ${s}.fbt_queue (
      queue text PRIMARY KEY,
      paused boolean NOT NULL DEFAULT false,
      exclusive boolean NOT NULL DEFAULT false,
      rate_since timestamptz,
      rate_count int NOT NULL DEFAULT 0
    );
    -- Which run has a key.
    CREATE TABLE IF NOT EXISTS ${s}.fbt_key (queue text NOT NULL, key text NOT NULL, run uuid NOT NULL, PRIMARY KEY (queue, key));
    -- Numbers that the processes of a cluster task share.
    CREATE TABLE IF NOT EXISTS ${s}.fbt_number (queue text NOT NULL, name text NOT NULL, value float8 NOT NULL, PRIMARY KEY (queue, name));
    -- For which runs somebody waits, and how runs have ended that are waited for, or not kept.
    CREATE TABLE IF NOT EXISTS ${s}.fbt_wait (queue text NOT NULL, run uuid NOT NULL, until timestamptz NOT NULL, PRIMARY KEY (queue, run));
    CREATE TABLE IF NOT EXISTS ${s}.fbt_end (
      queue text NOT NULL, run uuid NOT NULL, outcome text NOT NULL, value text, error text, ended_on timestamptz NOT NULL, PRIMARY KEY (queue, run)
    );
    CREATE INDEX IF NOT EXISTS fbt_end_ended_on ON ${s}.fbt_end (ended_on);
    -- Schedules. A key is any text, of any length: its bytes, as a text of PostgreSQL has no NUL, and an index of their beginning, as one has not room for all.
    -- The due time is that of the next tick, in milliseconds; next_on is that with jitter. A generation changes with the definition.
    CREATE TABLE IF NOT EXISTS ${s}.fbt_schedule (
      queue text NOT NULL,
      hash bytea NOT NULL,
      key bytea NOT NULL,
      definition text NOT NULL,
      generation int NOT NULL,
      due float8 NOT NULL,
      next_on float8 NOT NULL,
      last_due float8,
      last_run uuid,
      PRIMARY KEY (queue, hash)
    );
    CREATE INDEX IF NOT EXISTS fbt_schedule_next ON ${s}.fbt_schedule (queue, next_on);
    CREATE INDEX IF NOT EXISTS fbt_schedule_key ON ${s}.fbt_schedule (queue, substring(key, 1, 200));
  `
}
