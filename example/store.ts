// Where the mails wait: in a folder, so that they outlive a crash. Node must be new enough for pg-boss; where it is not, or with MAILS=memory, they wait in memory.
import type { Store } from 'fastify-background-tasks'
import { pgBoss } from 'fastify-background-tasks/pg-boss'

/** The store, if there is one, and a line that says where the mails wait. */
export function openStore (): { store: Store | undefined, where: string } {
  if (process.env.MAILS === 'memory') return { store: undefined, where: 'mails wait in memory, and end with this process' }
  const dataDir = process.env.DATA_DIR ?? '.data'
  try {
    return { store: pgBoss({ dataDir }), where: `mails wait in the folder ${dataDir}: kill this process with SIGKILL, start it again, and they go on` }
  } catch (err) {
    return { store: undefined, where: `mails wait in memory, and end with this process: ${(err as Error).message}` }
  }
}
