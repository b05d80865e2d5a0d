import { say, setActing } from './actions.ts'
import { type Connection, Failure, follow, get, part } from './api.ts'
import { type Child, h, update } from './dom.ts'
import { at, duration, now, setClock } from './format.ts'
import { overviewPage } from './pages/overview.ts'
import { queuePage, type RunQuery } from './pages/queue.ts'
import { runPage } from './pages/run.ts'
import { taskPage, taskRunPage } from './pages/task.ts'
import { type TaskQuery, tasksPage } from './pages/tasks.ts'
import { badge, empty } from './parts.ts'
import type { Details, OneRun, Overview, Process, Runs, Schedules, Tasks } from './types.ts'

/** A page that is shown: what it asks the server, and how it shows the answer. */
interface Page {
  title: string
  load (): Promise<() => Child>
}

/** How often the data of a page is asked for again, in milliseconds. */
const REFRESH = 2_000

const [top, main, bottom] = ['top', 'main', 'bottom'].map(id => document.getElementById(id) as HTMLElement) as [HTMLElement, HTMLElement, HTMLElement]

let overview: Overview | undefined
let visitor: Overview['visitor']
let connection: Connection = 'connecting'
let page: Page
let show: () => Child = () => h('p', { class: 'muted' }, 'Loading …')
let process: Process | undefined
let loadedAt = 0
let asked = 0

function answered<T extends { process: Process }> (answer: T): T {
  process = answer.process
  setClock(process.now)
  return answer
}

function pageOf (hash: string): Page {
  const [path = '', search = ''] = hash.replace(/^#\/?/, '').split('?', 2)
  const [first, name = '', third, id = ''] = path.split('/').map(decode)
  const query = Object.fromEntries(new URLSearchParams(search))
  const to = (query: object): void => { go(`#/${path}`, query) }
  if (first === 'tasks' && name === '') {
    return {
      title: 'Tasks',
      load: async () => {
        const tasks = answered(await get<Tasks>('tasks', { ...query as TaskQuery, limit: '50' }))
        return () => tasksPage(tasks, query as TaskQuery, to)
      }
    }
  }
  if (first === 'tasks') {
    return {
      title: name,
      load: async () => {
        const details = answered(await get<Details>(`tasks/${part(name)}`))
        return () => third === 'runs' ? taskRunPage(details, id) : taskPage(details)
      }
    }
  }
  if (first === 'queues' && third === 'runs') {
    return {
      title: `Run of ${name}`,
      load: async () => {
        const run = answered(await get<OneRun>(`queues/${part(name)}/runs/${part(id)}`))
        return () => runPage(name, run)
      }
    }
  }
  if (first === 'queues') {
    return {
      title: name,
      load: async () => {
        const asked: RunQuery = { ...query, state: query.state ?? 'failed' }
        const path = `queues/${part(name)}`
        const [details, runs, schedules] = await Promise.all([get<Details>(`tasks/${part(name)}`), get<Runs>(`${path}/runs`, { ...asked, limit: '50' }), get<Schedules>(`${path}/schedules`, { limit: '50' })])
        answered(details)
        return () => queuePage(details, runs, schedules, asked, to)
      }
    }
  }
  return {
    title: 'Overview',
    load: async () => {
      if (overview === undefined) await ask()
      return () => overviewPage(overview as Overview)
    }
  }
}

async function ask (): Promise<void> {
  overview = answered(await get<Overview>('overview'))
  visitor = overview.visitor
  setActing(visitor?.access === 'full', () => { void load() })
}

/** Goes to an address. What somebody types is no step back. */
function go (path: string, query: object): void {
  const given = Object.entries(query).filter((pair): pair is [string, string] => typeof pair[1] === 'string' && pair[1] !== '')
  history.replaceState(null, '', `${path}${given.length > 0 ? `?${new URLSearchParams(given).toString()}` : ''}`)
  page = pageOf(location.hash)
  void load()
}

/** Asks for the data of the page, and shows it. */
async function load (): Promise<void> {
  const mine = page
  const turn = ++asked
  loadedAt = performance.now()
  try {
    if (visitor === undefined) await ask()
    const shown = await mine.load()
    if (mine !== page || turn < asked) return
    show = shown
  } catch (error) {
    if (mine !== page) return
    const { status, message } = error instanceof Failure ? error : new Failure(0, String(error))
    // While the server is away, what was known stays.
    if (status === 0 && process !== undefined) return
    show = () => [h('h1', {}, status === 404 ? 'Not found' : 'This cannot be shown'), empty(message), status === 401 && h('p', {}, h('a', { href: '' }, 'Load the page again'))]
  }
  render()
}

function render (): void {
  const active = location.hash.replace(/^#\/?/, '').split(/[/?]/)[0]
  document.title = `${overview !== undefined && overview.health.status !== 'ok' ? `(${overview.health.status}) ` : ''}${page.title} · background tasks`
  update(top,
    h('a', { class: 'brand', href: '#/' }, h('img', { src: 'client/icon.svg', alt: '', width: 24, height: 24 }), process?.app ?? 'Background tasks'),
    h('nav', { 'aria-label': 'Pages' },
      h('a', { href: '#/', 'aria-current': active === '' ? 'page' : undefined }, 'Overview'),
      h('a', { href: '#/tasks', 'aria-current': active === 'tasks' || active === 'queues' ? 'page' : undefined }, 'Tasks')),
    h('span', { class: 'grow' }),
    visitor?.access === 'read' && h('span', { class: 'muted' }, 'read only'),
    overview !== undefined && badge(overview.health.status),
    h('span', { class: `connection ${connection}`, title: words[connection] }, { connecting: 'connecting', live: 'live', polling: 'polling', lost: 'reconnecting', refused: 'refused' }[connection]))
  update(main,
    (connection === 'lost' || connection === 'refused') && process !== undefined && h('p', { class: 'lost', role: 'alert' }, `${words[connection]} This was so at ${at(new Date(now() - (performance.now() - loadedAt)).toISOString())}.`),
    show())
  if (process !== undefined) {
    const { app, version, host, pid, node, uptime, loopDelay, timezone } = process
    update(bottom, [
      `Answered by ${host}, process ${pid}`, `${app ?? 'application'}${version === undefined ? '' : ` ${version}`}`, `Node ${node}`, `up ${duration(uptime * 1_000)}`,
      `event loop delay ${loopDelay === undefined ? 'not known yet' : duration(loopDelay)}`, timezone, visitor?.name !== undefined && `you are ${visitor.name}`
    ].filter(Boolean).map(text => h('span', {}, text)))
  }
}

const words: Record<Connection, string> = {
  connecting: 'Connecting to the server.',
  live: 'Live: the server tells what changes.',
  polling: 'Many watch already: this page asks every 5 seconds.',
  lost: 'The server does not answer. It is tried again.',
  refused: 'The server refuses this page by now. Load it again.'
}

function decode (text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

function navigate (): void {
  // A link within the page, and no page.
  if (location.hash === '#main') return
  page = pageOf(location.hash)
  show = () => h('p', { class: 'muted' }, 'Loading …')
  void load().then(() => {
    // As a new document would, for who hears the page, and for who scrolls.
    window.scrollTo(0, 0)
    const heading = main.querySelector('h1')
    heading?.setAttribute('tabindex', '-1')
    heading?.focus({ preventScroll: true })
  })
}

window.addEventListener('hashchange', navigate)
document.querySelector<HTMLElement>('.skip')?.addEventListener('click', event => {
  event.preventDefault()
  main.focus()
})
page = pageOf(location.hash)
render()
void load()
void follow(told => {
  overview = answered(told)
  if (page.title !== 'Overview' && performance.now() - loadedAt >= REFRESH) void load()
  else render()
}, changed => {
  if (changed === connection) return
  if (changed === 'live' && connection === 'lost') {
    say('The server answers again.')
    void load()
  }
  connection = changed
  render()
})
