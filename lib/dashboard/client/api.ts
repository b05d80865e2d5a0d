import type { Done, Overview } from './types.ts'

/** An answer that is none, as a sentence. */
export class Failure extends Error {
  readonly status: number

  constructor (status: number, message: string) {
    super(message)
    this.status = status
  }
}

/** A part of an address. */
export function part (text: string): string {
  return encodeURIComponent(text.replaceAll(/[\uD800-\uDBFF](?![\uDC00-\uDFFF])|(?<![\uD800-\uDBFF])[\uDC00-\uDFFF]/g, '\uFFFD'))
}

export async function get<T> (path: string, query: Record<string, string | undefined> = {}): Promise<T> {
  const given = Object.entries(query).filter((pair): pair is [string, string] => pair[1] !== undefined && pair[1] !== '')
  return await read(await ask(`api/${path}${given.length > 0 ? `?${new URLSearchParams(given).toString()}` : ''}`))
}

export async function post (path: string, body: object = {}): Promise<Done> {
  return await read(await ask(`api/${path}`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }))
}

async function ask (path: string, options: RequestInit = {}): Promise<Response> {
  try {
    return await fetch(path, options)
  } catch {
    throw new Failure(0, 'The server does not answer.')
  }
}

async function read<T> (response: Response): Promise<T> {
  if (response.ok) return await response.json() as T
  const { message } = await response.json().catch(() => ({})) as { message?: string }
  throw new Failure(response.status, message ?? `The server answered ${response.status}.`)
}

export type Connection = 'connecting' | 'live' | 'polling' | 'lost' | 'refused'

/** How long a stream may be silent, in milliseconds. */
const SILENCE = 15_000
const POLL = 5_000
/** How many times it polls before it asks for a stream again. */
const POLLS = 6

const wait = async (ms: number): Promise<void> => { await new Promise(resolve => { setTimeout(resolve, ms) }) }

/** Follows the server for ever: by its stream, by polling while that has too many viewers, and again after it was away. */
export async function follow (told: (overview: Overview) => void, changed: (connection: Connection) => void): Promise<void> {
  for (let failures = 0; ; failures++) {
    let refused = false
    try {
      const response = await ask('api/events')
      if (response.status === 503 && response.headers.get('retry-after') !== null) {
        failures = 0
        changed('polling')
        for (let i = 0; i < POLLS; i++) {
          told(await get('overview'))
          await wait(POLL)
        }
      } else if (!response.ok || response.body === null) {
        refused = response.status === 401 || response.status === 403
      } else {
        await readStream(response.body, overview => {
          failures = 0
          changed('live')
          told(overview)
        })
      }
    } catch {
      // Tried again below.
    }
    changed(refused ? 'refused' : 'lost')
    await wait(Math.min(5_000, 500 * 2 ** Math.min(failures, 4)))
  }
}

async function readStream (body: ReadableStream<Uint8Array>, told: (overview: Overview) => void): Promise<void> {
  const reader = body.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>).getReader()
  let text = ''
  for (;;) {
    let timer: number | undefined
    const silence = new Promise<never>((_resolve, reject) => { timer = window.setTimeout(() => { reject(new Error('silent')) }, SILENCE) })
    const { done, value } = await Promise.race([reader.read(), silence]).finally(() => { window.clearTimeout(timer) })
    if (done) return
    text += value
    const messages = text.split('\n\n')
    text = messages.pop() ?? ''
    for (const message of messages) if (message.startsWith('data: ')) told(JSON.parse(message.slice(6)) as Overview)
  }
}
