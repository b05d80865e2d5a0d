import { Failure, part, post } from './api.ts'
import { h } from './dom.ts'
import type { Done } from './types.ts'

/** Whether the visitor may act. */
let mayAct = false
let refresh: () => void = () => {}

export function setActing (may: boolean, refreshed: () => void): void {
  mayAct = may
  refresh = refreshed
}

/** An action: its button, what it asks before, and what it does. */
export interface Action {
  label: string
  /** Told to screen readers: the action with its object. */
  about: string
  /** The question before what destroys, and the word on its button. */
  confirm?: [question: string, yes: string]
  disabled?: boolean
  act (): Promise<Done>
}

/** The buttons of some actions; none for who may only look. */
export function buttons (...actions: Array<Action | false | undefined>): HTMLElement | false {
  const all = actions.filter(action => action !== false && action !== undefined)
  if (!mayAct || all.length === 0) return false
  return h('div', { class: 'actions' }, all.map(action => h('button', {
    type: 'button',
    class: action.confirm === undefined ? '' : 'danger',
    'data-key': action.label,
    'aria-label': `${action.label}: ${action.about}`,
    disabled: action.disabled,
    onclick: () => { void perform(action) }
  }, action.label)))
}

async function perform ({ label, about, confirm, act }: Action): Promise<void> {
  if (confirm !== undefined && !await confirmed(...confirm)) return
  say(`${label}: ${about} …`)
  try {
    say((await act()).message)
  } catch (error) {
    say(error instanceof Failure ? error.message : String(error), true)
  }
  refresh()
}

/** Asks before something is destroyed. */
async function confirmed (question: string, yes: string): Promise<boolean> {
  const dialog = h('dialog', { 'aria-labelledby': 'question' },
    h('form', { method: 'dialog' },
      h('p', { id: 'question' }, question),
      h('div', { class: 'actions' },
        h('button', { value: 'no', autofocus: true }, 'Leave it'),
        h('button', { value: 'yes', class: 'danger' }, yes)))) as HTMLDialogElement
  document.body.append(dialog)
  dialog.showModal()
  return await new Promise(resolve => {
    dialog.addEventListener('close', () => {
      dialog.remove()
      resolve(dialog.returnValue === 'yes')
    })
  })
}

let timer: number | undefined

/** Says what was done, or why it was not. */
export function say (text: string, failed = false): void {
  const said = document.getElementById('said') as HTMLElement
  said.className = failed ? 'failed' : ''
  said.textContent = text
  window.clearTimeout(timer)
  timer = window.setTimeout(() => { said.textContent = '' }, 8_000)
}

const labels: Record<string, string> = { trigger: 'Run now', pause: 'Pause', resume: 'Resume', start: 'Start', stop: 'Stop' }

function taskAction (name: string, action: string, confirm?: Action['confirm']): Action {
  return { label: labels[action] ?? action, about: name, act: async () => await post(`tasks/${part(name)}/actions/${action}`), ...confirm !== undefined && { confirm } }
}

/** What can be done with a task in its state. */
export function taskActions (name: string, kind: string, state: string, active: number): Array<Action | false> {
  const ended = ['stopped', 'failed', 'completed'].includes(state)
  return [
    kind !== 'queue' && (kind === 'timed' || ended || state === 'backoff') && taskAction(name, 'trigger'),
    ['idle', 'running', 'backoff'].includes(state) && taskAction(name, 'pause'),
    state === 'paused' && taskAction(name, 'resume'),
    ended && taskAction(name, 'start'),
    !ended && state !== 'stopping' && taskAction(name, 'stop', active > 0 ? [`Stop "${name}"? ${active === 1 ? '1 active run is' : `${active} active runs are`} told to end.`, 'Stop'] : [`Stop "${name}"? Nothing of it runs until somebody starts it.`, 'Stop'])
  ]
}

/** What can be done with a run in its state. */
export function runActions (task: string, id: string, state: string): Array<Action | false> {
  const path = `tasks/${part(task)}/runs/${part(id)}/actions`
  const action = (label: string, name: string, confirm?: Action['confirm']): Action => ({ label, about: `run ${id}`, act: async () => await post(`${path}/${name}`), ...confirm !== undefined && { confirm } })
  return [
    state === 'failed' && action('Retry', 'retry'),
    ['active', 'waiting', 'delayed'].includes(state) && action('Cancel', 'cancel', ['Cancel 1 run? What it has begun is told to end.', 'Cancel the run']),
    ['failed', 'succeeded'].includes(state) && action('Remove', 'remove', [`Remove 1 run that has ${state}? It cannot be retried afterwards.`, 'Remove 1 run'])
  ]
}
