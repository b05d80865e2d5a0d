// Giving up with 'close': it ends the process, and sets its exit code. So never in this process: fixtures/giveup.ts.
import t, { type Test } from 'tap'
import { Child, noSignals, type LogLine } from './support/child.ts'

t.jobs = 3 // they mostly wait

const run = (t: Test, ...args: string[]): Child => new Child(t, 'fixtures/giveup.ts', args)

const named = (lines: LogLine[], wanted: string): LogLine[] => lines.filter(({ msg }) => msg === wanted)
const fatal = (lines: LogLine[]): LogLine[] => lines.filter(({ level }) => level === 60)

/** What a service leaves in the log that fails, is restarted twice, and is given up. */
function checkService (t: Test, lines: LogLine[]): void {
  t.match(fatal(lines), [{ msg: 'service failed: the application closes', task: 'bad', attempt: 1, duration: Number, run: String, err: { message: 'boom' } }])
  t.equal(named(lines, 'service failed, and is restarted').length, 2)
  const order = ['service failed: the application closes', 'close() called', 'steady ends', 'database closed', 'close() rejected']
  t.same(lines.map(({ msg }) => msg).filter(msg => order.includes(msg)).slice(0, order.length), order)
  t.match(named(lines, 'steady ends'), [{ reason: 'FST_BG_SHUTDOWN' }])
  t.match(named(lines, 'close() rejected'), [{ same: true, message: 'boom' }], 'with the very error that was thrown')
}

t.test('a service that has failed for good ends the process with 1, also with close-with-grace, which calls process.exit(0)', async t => {
  const child = run(t, 'service', '--grace')
  t.same(await child.exit, { code: 1, signal: null })
  checkService(t, child.lines)
  t.notMatch(child.rest, /unhandled|rejected/i)
})

t.test('an exit code that the process has set already is kept', async t => {
  for (const how of [[], ['--grace']]) t.same(await run(t, 'code', ...how).exit, { code: 3, signal: null })
})

t.test('onGiveUp log: the server goes on answering, health says failing, and a signal ends the process with 0', { skip: noSignals }, async t => {
  const child = run(t, 'log', '--grace')
  const address = await child.address()
  t.match(await child.line('service failed'), { level: 50, task: 'bad', err: { message: 'boom' } })
  t.same(await (await fetch(address)).json(), { ok: true })
  t.match(await (await fetch(`${address}/health`)).json(), {
    status: 'failing',
    tasks: [{ name: 'steady', state: 'running', status: 'ok' }, { name: 'bad', state: 'failed', status: 'failing' }]
  })
  t.same(named(child.lines, 'close() called'), [])
  t.same(fatal(child.lines), [])
  child.signal('SIGTERM')
  t.same(await child.exit, { code: 0, signal: null })
})

t.test('several servers in one process', async t => {
  const child = run(t, 'service', 'closing', 'never', 'timed', 'giveUp', 'undefined', 'string', 'frozen', 'revoked', 'hidden', 'two', 'booting', 'foreign')
  const exit = await child.exit
  const linesOf = (app: string): LogLine[] => child.lines.filter(line => line.app === app)

  t.test('the process exits with 1, with nothing else that ends it, and nothing was unhandled', async t => {
    t.same(exit, { code: 1, signal: null })
    t.equal(child.rest, '')
  })

  t.test('a service that is restarted twice, and given up', async t => {
    checkService(t, linesOf('service'))
  })

  t.test('one that fails for good while the application closes is logged, and does not close it again', async t => {
    const lines = linesOf('closing')
    t.match(named(lines, 'fails'), [{ aborted: false }], 'within its grace')
    t.equal(named(lines, 'close() called').length, 1)
    t.equal(named(lines, 'close() resolved').length, 1)
    t.same(fatal(lines), [])
    t.match(lines.filter(({ level }) => level === 50), [{ msg: 'service failed', task: 'bad', err: { message: 'boom' } }])
  })

  for (const app of ['never', 'timed', 'giveUp', 'undefined', 'string', 'frozen', 'revoked', 'hidden', 'foreign']) {
    t.test(`${app}: one fatal line, one close(), which rejects; everything else is closed`, async t => {
      const lines = linesOf(app)
      t.match(fatal(lines), [{ task: 'bad', run: String, duration: Number, err: { message: String } }])
      t.equal(fatal(lines).length, 1)
      t.equal(named(lines, 'close() called').length, 1)
      t.equal(named(lines, 'close() rejected').length, 1)
      t.equal(named(lines, 'steady ends').length, 1)
      t.equal(named(lines, 'database closed').length, 1)
    })
  }

  t.test('the fatal line says what has failed: a service, or the run of a timed task after its last attempt', async t => {
    t.match(fatal(linesOf('never')), [{ msg: 'service failed: the application closes', attempt: 1, err: { message: 'boom' } }])
    t.match(fatal(linesOf('timed')), [{ msg: 'run failed: the application closes', attempt: 2, err: { message: 'boom' } }])
    t.equal(named(linesOf('timed'), 'attempt failed, and is retried').length, 1)
  })

  t.test('close() rejects with the error that was thrown', async t => {
    for (const app of ['never', 'timed']) t.match(named(linesOf(app), 'close() rejected'), [{ same: true }], app)
    t.match(named(linesOf('frozen'), 'close() rejected'), [{ message: 'frozen' }])
    t.match(named(linesOf('giveUp'), 'close() rejected'), [{ message: 'no use' }])
  })

  t.test('GiveUp is not followed by a restart', async t => {
    t.same(named(linesOf('giveUp'), 'service failed, and is restarted'), [])
  })

  t.test('where what was thrown is no Error, close() rejects with FST_BG_GAVE_UP, and that is its cause', async t => {
    for (const [app, shown] of [['undefined', 'undefined'], ['string', "'boom'"], ['revoked', '<Revoked Proxy>'], ['hidden', 'object']] as const) {
      t.match(named(linesOf(app), 'close() rejected'), [{
        code: 'FST_BG_GAVE_UP',
        message: 'Background task "bad" was given up',
        cause: shown
      }])
      t.match(fatal(linesOf(app)), [{ err: { message: 'a value that is not an Error was thrown' } }])
    }
  })

  t.test('two that fail for good at once are both logged, and close() rejects', async t => {
    const lines = linesOf('two')
    t.same(lines.filter(({ level }) => level >= 50).map(({ task, err }) => [task, (err as Error).message]), [['bad', 'bad'], ['worse', 'worse']])
    t.equal(lines.find(({ level }) => level >= 50)?.level, 60)
    t.ok(named(lines, 'close() rejected').length >= 1)
  })

  t.test('one that fails while the application boots closes it: what has started is stopped', async t => {
    const lines = linesOf('booting')
    t.match(fatal(lines), [{ task: 'bad' }])
    t.equal(named(lines, 'slow stopped').length, 1)
    t.equal(named(lines, 'close() rejected').length, 1)
  })
})
