import type { FastifyReply, FastifyRequest } from 'fastify'
import { isObject } from '../common/check.ts'
import { report } from '../common/log.ts'
import type { Clock } from '../time/index.ts'
import type { Authorize, DashboardAccess } from './options.ts'

/** Somebody whom `authorize` lets in. */
export interface Visitor { access: DashboardAccess, name: string | undefined }

/** How long `authorize` may take, in milliseconds. */
const LIMIT = 10_000

const everybody: Visitor = { access: 'full', name: undefined }

/** On every answer. Styles, scripts and data come from the dashboard's own address; nothing else does, and nobody may frame it. */
const headers = {
  'content-security-policy': "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
  'cross-origin-resource-policy': 'same-origin',
  'cache-control': 'no-store'
}

interface Refusal { status: number, message: string }

const unauthorized: Refusal = { status: 401, message: 'This dashboard needs authorization.' }
const late: Refusal = { status: 503, message: 'The authorization did not answer in time.' }

/** The door of the dashboard: asks `authorize` for each request, and refuses actions that come from elsewhere or from who may only look. */
export class Door {
  readonly #authorize: Authorize | false
  readonly #clock: Clock
  readonly #visitors = new WeakMap<FastifyRequest, Visitor>()
  readonly #closed: Promise<Refusal>
  #close!: (refusal: Refusal) => void
  #warned = false

  constructor (authorize: Authorize | false, clock: Clock) {
    this.#authorize = authorize
    this.#clock = clock
    this.#closed = new Promise(resolve => { this.#close = resolve })
  }

  /** The application closes: nobody waits for `authorize` any longer. */
  close (): void {
    this.#close(late)
  }

  /** Who sends a request that was let in. */
  visitor (request: FastifyRequest): Visitor {
    return this.#visitors.get(request) as Visitor
  }

  /** The `onRequest` hook of every route. */
  async enter (request: FastifyRequest, reply: FastifyReply): Promise<unknown> {
    reply.headers(headers)
    const answer = this.#authorize === false ? everybody : await this.#ask(this.#authorize, request, reply)
    // `authorize` has answered itself, such as with a redirect to a login.
    if (reply.sent) return reply
    const refusal = 'access' in answer ? refusalOf(request, answer) : answer
    if (refusal !== undefined) return refuse(reply, refusal)
    this.#visitors.set(request, answer as Visitor)
    return undefined
  }

  async #ask (authorize: Authorize, request: FastifyRequest, reply: FastifyReply): Promise<Visitor | Refusal> {
    const asked = Promise.resolve().then(async () => this.#read(await authorize(request, reply), request)).catch((error: unknown) => {
      report.authorizeFailed(request.log, error)
      return { status: statusOf(error), message: 'The authorization failed.' }
    })
    let passed!: (refusal: Refusal) => void
    const timer = this.#clock.after(LIMIT, () => { passed(late) })
    try {
      return await Promise.race([asked, this.#closed, new Promise<Refusal>(resolve => { passed = resolve })])
    } finally {
      timer.cancel()
    }
  }

  /** Reads an answer. Everything that is no clear permission is a refusal. */
  #read (answer: unknown, request: FastifyRequest): Visitor | Refusal {
    if (answer === false) return unauthorized
    if (answer === true || answer === 'full') return everybody
    if (answer === 'read') return { access: 'read', name: undefined }
    if (isObject(answer)) {
      const { access, name } = answer as Partial<Visitor>
      if ((access === 'read' || access === 'full') && typeof name === 'string') return { access, name }
    }
    if (!this.#warned) report.authorizeUnclear(request.log, typeof answer)
    this.#warned = true
    return unauthorized
  }
}

/** Why a visitor may not send this request; undefined if it may. */
function refusalOf ({ method, headers }: FastifyRequest, { access }: Visitor): Refusal | undefined {
  if (method === 'GET' || method === 'HEAD') return undefined
  if (access !== 'full') return { status: 403, message: 'You may look at this dashboard, and not act.' }
  const site = headers['sec-fetch-site']
  if (site !== undefined && site !== 'same-origin') return { status: 403, message: 'Actions are taken only from the dashboard itself, and not from another site.' }
  const type = headers['content-type']?.split(';', 1)[0]?.trim().toLowerCase()
  if (type !== 'application/json') return { status: 415, message: 'Send a JSON body, with content-type: application/json.' }
  return undefined
}

function refuse (reply: FastifyReply, { status, message }: Refusal): FastifyReply {
  return reply.code(status).send({ statusCode: status, message })
}

/** The status of what `authorize` threw. Its message stays here. */
function statusOf (error: unknown): number {
  try {
    const { statusCode } = Object(error) as { statusCode?: unknown }
    return Number.isInteger(statusCode) && Number(statusCode) >= 400 && Number(statusCode) < 600 ? Number(statusCode) : 500
  } catch {
    return 500
  }
}
