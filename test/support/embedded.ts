// What tests of the embedded database share.
import type { FastifyBaseLogger } from 'fastify'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { checkEmbedded, EmbeddedDatabase } from '../../lib/store/pg-boss/embedded/index.ts'
import { Clock } from '../../lib/time/index.ts'
import { capture, type Line } from './helper.ts'

interface Test { teardown (callback: () => unknown): void }

/** Why the tests of the embedded database cannot run here, or false. */
export const noEmbedded = process.getBuiltinModule?.('node:sqlite') === undefined &&
  `NOT TESTED on Node ${process.version}: the embedded store needs Node 22.13 or later`

/** A folder for one test. */
export function temporaryFolder (t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'embedded-'))
  t.teardown(() => { rmSync(folder, { recursive: true, force: true }) })
  return folder
}

/** An embedded database that the teardown closes, and the lines that it logs. */
export function embedded (t: Test, dataDir: string, clock: Clock = new Clock()): { database: EmbeddedDatabase, lines: Line[] } {
  const lines: Line[] = []
  const { level, stream } = capture(lines)
  const database = new EmbeddedDatabase({ dataDir: checkEmbedded(dataDir), clock, log: pino({ level }, stream) as FastifyBaseLogger })
  t.teardown(async () => { await database.close() })
  return { database, lines }
}

/** The rows of a statement. */
export async function rows (database: Pick<EmbeddedDatabase, 'executeSql'>, text: string, values?: unknown[]): Promise<unknown[]> {
  return (await database.executeSql(text, values)).rows
}
