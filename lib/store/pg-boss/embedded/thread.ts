import type { PGlite } from '@electric-sql/pglite'
import type { MessagePort } from 'node:worker_threads'
import type { FromThread, Refusal, Result, Statement, ThreadData, ToThread } from './messages.ts'

/** What the thread needs of its surroundings. */
interface Surroundings {
  port: MessagePort
  data: ThreadData
  load (engine: string): Promise<{ PGlite: typeof PGlite }>
  exit (): void
}

/**
 * Serves one PGlite to the store: starts it, and runs one statement after the other. All of it is in this function, since a thread gets it as text (see engine-thread.ts): a
 * bundle in one file has no other file for a thread to load.
 */
export async function serve ({ port, data, load, exit }: Surroundings): Promise<void> {
  /** The last lines of PostgreSQL's log: they say why it does not start. */
  const log: string[] = []
  const tell = (message: FromThread): void => { port.postMessage(message) }
  const die = (error: unknown): void => {
    tell({ type: 'dead', why: error instanceof Error ? error.message : String(error), log })
    exit()
  }

  const start = async (): Promise<PGlite> => {
    const { PGlite } = await load(data.engine)
    const asText = (value: string): string => value
    const engine = await PGlite.create(data.dataDir, {
      postgresqlconf: data.settings,
      initDbStartParams: data.initdb,
      // As PostgreSQL's own client reads them: int8 and numeric hold more than a number does.
      parsers: { 20: asText, 1700: asText },
      onStderr: line => {
        if (log.push(line) > 20) log.shift()
        return false
      },
      ...data.template !== undefined && { loadDataDir: new Blob([data.template as Uint8Array<ArrayBuffer>]) }
    })
    watch(engine)
    engine.onNotification((channel, payload) => { tell({ type: 'notification', channel, payload }) })
    return engine
  }

  /**
   * PostgreSQL ends a statement that fails by a jump, and itself, where it cannot go on (PANIC, FATAL), by an exception. PGlite takes the second for the first, calls it again, and so on for
   * ever: nobody could tell the thread to end.
   */
  const watch = ({ Module: module }: PGlite): void => {
    const JUMP = 100
    const { _PostgresMainLoopOnce: loopOnce } = module
    module._PostgresMainLoopOnce = () => {
      try {
        loopOnce()
      } catch (error) {
        if ((error as { status?: number }).status !== JUMP) die(error)
        throw error
      }
    }
  }

  const run = async (engine: PGlite, { text, values }: Statement): Promise<Result> => {
    // A statement with values goes through the extended protocol, which takes one; without, the text may hold several.
    if (values !== undefined && values.length > 0) {
      const { rows, command } = await engine.query(text, values)
      return { rows, command }
    }
    const results = await engine.exec(text)
    return { rows: results.flatMap(({ rows }) => rows), command: results.at(-1)?.command }
  }

  const refusalOf = (error: unknown): Refusal => {
    const { message } = error as Error
    const fields = Object.entries(error as Refusal).filter(([key, value]) => typeof value === 'string' && !['name', 'query'].includes(key))
    return { ...Object.fromEntries(fields), message }
  }

  const answer = async (engine: PGlite, statement: Statement): Promise<void> => {
    try {
      tell({ type: 'result', number: statement.number, result: await run(engine, statement) })
    } catch (error) {
      // There is one connection: what a failed statement leaves open would refuse every one after it.
      if (statement.rollBack) await engine.exec('ROLLBACK').catch(() => {})
      // PostgreSQL has a code for each error. Another one may be a bad value, or the end of the engine.
      if ((error as { code?: string }).code === undefined && !await answers(engine)) return die(error)
      tell({ type: 'refused', number: statement.number, error: refusalOf(error) })
    }
  }

  const answers = async (engine: PGlite): Promise<boolean> => {
    try {
      await engine.query('SELECT 1')
      return true
    } catch (error) {
      // An aborted transaction refuses everything, and lives.
      return (error as { code?: string }).code !== undefined
    }
  }

  try {
    const engine = await start()
    let last = Promise.resolve()
    port.on('message', (message: ToThread) => {
      last = last.then(async () => {
        if (message !== 'close') return await answer(engine, message)
        await engine.close()
        exit()
      }).catch(die)
    })
    tell({ type: 'ready' })
  } catch (error) {
    die(error)
  }
}
