import type { OpenOptions, Store, StoreQueue, StoreWorker } from '../store.ts'
import { MemoryQueue } from './queue.ts'

/** A store in the memory of this process. Until the process ends it behaves like a durable store. */
export class MemoryStore implements Store {
  open (options: OpenOptions, worker: StoreWorker): StoreQueue {
    return new MemoryQueue(options, worker)
  }

  async stop (): Promise<void> {}
}
