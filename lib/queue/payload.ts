import buildAjv from '@fastify/ajv-compiler'
import type { FastifyInstance, FastifySchemaCompiler } from 'fastify'
import { invalid, show } from '../common/check.ts'
import { errorCodes, messageOf, toError } from '../common/errors.ts'
import { copyOf, type Stored } from '../store/index.ts'
import { firstLine, jsonOf } from './json.ts'

/** A compiled schema, by Fastify's own protocol. */
interface Validate {
  (data: unknown, context?: { parentData: object, parentDataProperty: string }): unknown
  errors?: unknown
  /** Only ajv has it: Fastify, too, recognizes ajv by it. */
  schemaEnv?: unknown
}

/** Stores the payloads of a queue as JSON, and validates them by its schema, with the validator compiler of the owner. */
export class Payloads {
  readonly #name: string
  readonly #owner: FastifyInstance
  readonly #schema: unknown
  readonly #maxBytes: number
  #validate: Validate | undefined

  constructor (name: string, owner: FastifyInstance, schema: unknown, maxBytes: number) {
    this.#name = name
    this.#owner = owner
    this.#schema = schema
    this.#maxBytes = maxBytes
  }

  get hasSchema (): boolean { return this.#schema !== undefined }

  /** Compiles the schema, once. Throws `FST_BG_INVALID_OPTION`. */
  compile (): void {
    if (this.#schema === undefined || this.#validate !== undefined) return
    try {
      this.#validate = compile(this.#owner, this.#schema, this.#name)
    } catch (error) {
      throw invalid(`Background queue "${this.#name}": the schema of the payload cannot be compiled: ${messageOf(error)}.`, { cause: error })
    }
    if (typeof this.#validate !== 'function') {
      this.#validate = undefined
      throw invalid(`Background queue "${this.#name}": the validator compiler made no function of the schema of the payload. Is it one for this kind of schema?`)
    }
  }

  /** The stored form of a payload. Throws `FST_BG_INVALID_PAYLOAD`. */
  encode (payload: unknown): Stored {
    if (payload === undefined) return undefined
    const copy = typeof payload === 'object' && payload !== null ? copyOf(payload, this.#maxBytes) : undefined
    return copy ?? this.#json(payload)
  }

  /** Validates a payload, which the validator may change, and returns the result. Call it only with a schema. Throws or rejects with `FST_BG_INVALID_PAYLOAD`. */
  validate (payload: unknown): unknown {
    this.compile()
    const validate = this.#validate as Validate
    // As Fastify does for a body: a missing payload is null, and ajv can change the root value only if it has a parent.
    const holder = { payload: payload ?? null }
    let result: unknown
    try {
      result = validate.schemaEnv === undefined ? validate(holder.payload) : validate(holder.payload, { parentData: holder, parentDataProperty: 'payload' })
    } catch (error) {
      throw this.#invalid(error)
    }
    if (isPromise(result)) {
      return Promise.resolve(result).then(passed => {
        if (passed === false) throw this.#invalid(validate.errors)
        return holder.payload
      }, error => { throw this.#invalid(error) })
    }
    if (result === false) throw this.#invalid(validate.errors)
    const { error, ...rest } = typeof result === 'object' && result !== null ? result as { error?: unknown, value?: unknown } : {}
    if (error) throw this.#invalid(error)
    return 'value' in rest ? rest.value : holder.payload
  }

  #json (payload: unknown): string {
    let json: string
    try {
      json = jsonOf(payload, 'payload')
    } catch (error) {
      const { message, cause } = error as Error
      throw this.#refused(`${message}. Pass plain data`, cause === undefined ? undefined : { cause })
    }
    // A character takes at most three bytes, so most payloads need no count.
    if (json.length * 3 > this.#maxBytes) {
      const bytes = Buffer.byteLength(json)
      if (bytes > this.#maxBytes) throw this.#refused(`is ${bytes} bytes of JSON, of at most ${this.#maxBytes}. Store the data elsewhere and enqueue where it is, or raise "maxPayload"`)
    }
    return json
  }

  /** An error for what the validator found: a list of problems, or an error that may have such a list. */
  #invalid (found: unknown): Error {
    const list = Array.isArray(found) ? found : [found]
    const [first] = list as Array<{ message?: unknown, instancePath?: unknown, validation?: unknown, errors?: unknown } | undefined>
    const where = String(first?.instancePath ?? '')
    const what = String(first?.message ?? show(first))
    const error = this.#refused(`does not match its schema: payload${where} ${firstLine(what)}`, Array.isArray(found) ? undefined : { cause: found })
    const inner = Array.isArray(found) ? found : first?.validation ?? first?.errors
    return Object.assign(error, { validation: Array.isArray(inner) ? inner : list, validationContext: 'payload' })
  }

  #refused (why: string, options?: { cause: unknown }): Error {
    return options === undefined ? new errorCodes.FST_BG_INVALID_PAYLOAD(this.#name, why) : new errorCodes.FST_BG_INVALID_PAYLOAD(this.#name, why, options)
  }
}

/** Compiles by the validator compiler of the owner, or by Fastify's default one. */
function compile (owner: FastifyInstance, schema: unknown, name: string): Validate {
  const definition = { schema, method: 'POST', url: name, httpPart: 'body' } as Parameters<FastifySchemaCompiler<unknown>>[0]
  // Undefined until the instance has a route with a schema.
  const own = owner.validatorCompiler as FastifySchemaCompiler<unknown> | undefined
  try {
    if (own !== undefined) return own(definition) as Validate
  } catch (error) {
    // An inherited compiler does not know the shared schemas of this instance: Fastify adds them with its first route.
    if (toError(error).constructor.name !== 'MissingRefError') throw error
  }
  const { ajv, schemaController } = serverOptions(owner)
  const build = schemaController?.compilersFactory?.buildValidator ?? buildAjv()
  return build(owner.getSchemas() as Record<string, object>, ajv)(definition) as Validate
}

/** The server options about validators. */
interface ServerOptions {
  ajv: { customOptions: object, plugins: [] }
  schemaController?: { compilersFactory?: { buildValidator?: ReturnType<typeof buildAjv> } }
}

/** The server options. Fastify keeps them behind a symbol, and shows them only through a request. */
function serverOptions (owner: FastifyInstance): ServerOptions {
  for (let at: object | null = owner; at !== null; at = Object.getPrototypeOf(at) as object | null) {
    const symbol = Object.getOwnPropertySymbols(at).find(({ description }) => description === 'fastify.options')
    if (symbol !== undefined) return (at as Record<symbol, ServerOptions>)[symbol] as ServerOptions
  }
  return { ajv: { customOptions: {}, plugins: [] } }
}

function isPromise (value: unknown): value is Promise<unknown> {
  return typeof (value as { then?: unknown } | null | undefined)?.then === 'function'
}
