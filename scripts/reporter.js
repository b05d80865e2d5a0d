// A tap reporter: one line a test file, the whole TAP of a file that failed,
// every skip, and at the end 'N passed, N failed, N skipped' for a CI to read.
import { Transform } from 'node:stream'

export default class Reporter extends Transform {
  #rest = ''
  #held = []
  #failing = false
  #count = { pass: 0, fail: 0, skip: 0, todo: 0 }

  _transform (chunk, _encoding, callback) {
    const lines = (this.#rest + chunk).split('\n')
    this.#rest = lines.pop()
    let out = ''
    for (const line of lines) out += this.#line(line)
    callback(null, out)
  }

  _flush (callback) {
    const { pass, fail, skip, todo } = this.#count
    callback(null, `${this.#line(this.#rest)}\n${pass} passed, ${fail} failed, ${skip + todo} skipped\n`)
  }

  #line (line) {
    const totals = /^# \{ total: .*\}$/.exec(line)
    if (totals) {
      for (const key of Object.keys(this.#count)) {
        this.#count[key] = Number(new RegExp(`\\b${key}: (\\d+)`).exec(line)?.[1] ?? 0)
      }
      return ''
    }
    const file = /^(not )?ok \d+ - (.*?)(?: # time=(.*))?$/.exec(line)
    if (file) {
      const [, bad, name, time] = file
      const held = this.#held.filter((l) => bad || / # (SKIP|TODO)/i.test(l))
      this.#held = []
      this.#failing = Boolean(bad)
      return held.map((l) => `${l}\n`).join('') + `${bad ? '✗' : '✓'} ${name}${time ? ` (${time})` : ''}\n`
    }
    if (/^(TAP version|1\.\.|# time=)/.test(line) || line === '') return ''
    if (/^# Subtest/.test(line)) this.#failing = false
    if (this.#failing || !/^(\s|# Subtest)/.test(line)) return `${line}\n`
    this.#held.push(line)
    return ''
  }
}
