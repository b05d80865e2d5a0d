import type { FastifyReply, FastifyRequest } from 'fastify'
import { check, type Check, func, invalid, plainOptions, wrong } from '../common/check.ts'
import { kinds } from '../common/option-names.ts'

/** What a visitor may do: only look, or also act. */
export type DashboardAccess = 'read' | 'full'

/** What `authorize` answers. `true` is `'full'`; with a `name`, each action says in the log who did it. */
export type Authorization = boolean | DashboardAccess | {
  /** What the visitor may do. */
  access: DashboardAccess
  /** Who the visitor is. */
  name: string
}

/** Decides who may see the dashboard, for every request. What it throws is the refusal: its `statusCode`, or 500, and nothing else of it. */
export type Authorize = (request: FastifyRequest, reply: FastifyReply) => Authorization | Promise<Authorization>

/** Options of the dashboard. */
export interface DashboardOptions {
  /** Decides who may see the dashboard, and who may act. The literal `false` opens it to everybody, which is said at warn. */
  authorize: Authorize | false
  /** Returns what is shown instead of a payload, of the task with that name; it may return a promise. If it throws, nothing is shown. Default: the payload itself. */
  redact?: ((payload: unknown, task: string) => unknown) | undefined
}

/** The options, checked. */
export interface CheckedOptions { authorize: Authorize | false, redact: (payload: unknown, task: string) => unknown }

const NAME = 'fastify-background-tasks/dashboard'
const ofRegister = ['prefix', 'logLevel', 'logSerializers']

const authorize: Check<Authorize | false> = value => {
  if (value !== false && typeof value !== 'function') throw wrong('a function (request, reply) that answers true, false, \'read\', \'full\' or { access, name }; or false, for a dashboard that is open to everybody', value)
  return value as Authorize | false
}
const checks = { authorize, redact: func<CheckedOptions['redact']> }

/** Checks the options. Throws `FST_BG_INVALID_OPTION`. */
export function dashboardOptions (given: unknown): CheckedOptions {
  const all = plainOptions(NAME, given, Object.keys(checks)) as object
  const own = Object.fromEntries(Object.entries(all).filter(([key]) => !ofRegister.includes(key)))
  const { authorize, redact = (payload: unknown) => payload } = check(NAME, own, checks, kinds)
  if (authorize === undefined) {
    throw invalid(`${NAME}: option "authorize" is missing, and the dashboard is closed without it: it shows payloads, and starts and stops tasks. Pass a function (request, reply) that answers true, false, 'read', 'full' or { access, name }; or false, for a dashboard that is open to everybody.`)
  }
  return { authorize, redact }
}
