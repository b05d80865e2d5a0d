import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify'
import { errorCodes, messageOf } from '../../common/errors.ts'
import { report } from '../../common/log.ts'
import { cut } from '../view/content.ts'

/** Statuses that differ from those of the errors themselves: what the browser sent is wrong, and not the server. */
const statuses: Record<string, number> = { FST_BG_INVALID_OPTION: 400 }

/** Answers an error with a sentence. What is none of ours may hold anything: it is logged, and not shown. */
export function answerError (error: FastifyError, request: FastifyRequest, reply: FastifyReply): void {
  const { code, statusCode = 500, message } = error
  const isOurs = typeof code === 'string' && code in errorCodes
  const status = (isOurs && statuses[code]) || statusCode
  if (!isOurs && status >= 500) report.dashboardFailed(request.log, error)
  const sentence = isOurs || status < 500 ? cut(message, 1_000) : 'The dashboard failed. The log of the server says why.'
  void reply.code(status).send({ statusCode: status, code, message: sentence })
}

/** Why an action could not be done, as a sentence: an error of the task's own, such as of a `start`. */
export function sentenceOf (error: unknown): string {
  return cut(messageOf(error), 1_000)
}

/** A refusal with a status. */
export class Refused extends Error {
  readonly statusCode: number

  constructor (statusCode: number, message: string) {
    super(message)
    this.statusCode = statusCode
  }
}
