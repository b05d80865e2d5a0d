import { type MessagePort, receiveMessageOnPort, type Worker } from 'node:worker_threads'
import type { FromThread, ToThread } from './messages.ts'

/** A call, as its thread sees it. */
interface CallOfThread {
  readonly number: number
  /** Whether the run has ended, whatever the thread does. */
  readonly over: boolean
  thread: WorkerThread | undefined
  hear (message: FromThread): void
}

/** One thread, with the port on which it talks of its runs. It has one call at a time. */
export class WorkerThread {
  readonly id: number
  readonly #port: MessagePort
  /** Tells a loop in any thread of the file that there are messages. */
  readonly #told: Int32Array
  #call: CallOfThread | undefined

  constructor (id: number, port: MessagePort, told: Int32Array, onClose: () => void) {
    this.id = id
    this.#port = port
    this.#told = told
    port.on('message', (message: FromThread) => { this.#hear(message) })
    port.on('close', onClose)
    // The port of piscina decides whether the process lives.
    port.unref()
  }

  /** Called before piscina gives it a call. */
  take (call: CallOfThread): void {
    this.#call = call
    call.thread = this
    if (call.over) this.tell({ call: call.number, reason: undefined })
  }

  tell (message: ToThread): void {
    this.#port.postMessage(message)
    Atomics.add(this.#told, 0, 1)
  }

  /** Hears all that the thread has said before the end of its call, which comes on another port. */
  catchUp (): void {
    for (let got = receiveMessageOnPort(this.#port); got !== undefined; got = receiveMessageOnPort(this.#port)) this.#hear(got.message as FromThread)
  }

  /** Ends it, whatever it does. */
  kill (workers: Worker[]): void {
    void workers.find(({ threadId }) => threadId === this.id)?.terminate()
  }

  #hear (message: FromThread): void {
    if (this.#call?.number === message.call) this.#call.hear(message)
  }
}
