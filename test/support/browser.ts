// A real browser for the tests of the dashboard: the one of $CHROMIUM_PATH, of the system, or of the package @sparticuz/chromium.
import { existsSync } from 'node:fs'
import { type Browser, chromium, type Page } from 'playwright-core'

interface Test { teardown (callback: () => unknown): void }

const system = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome', '/usr/bin/google-chrome-stable', '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome', 'C:\\Program Files\\Google\\Chrome\\Application\\chrome.exe']

async function executable (): Promise<string | undefined> {
  const { CHROMIUM_PATH } = process.env
  if (CHROMIUM_PATH !== undefined && CHROMIUM_PATH !== '') return CHROMIUM_PATH
  const found = system.find(path => existsSync(path))
  if (found !== undefined) return found
  // Its browser is for Linux on x64.
  if (process.platform !== 'linux' || process.arch !== 'x64') return undefined
  const { default: packaged } = await import('@sparticuz/chromium')
  return await packaged.executablePath()
}

const path = await executable().catch(() => undefined)

/** Options of a test that needs a browser. Without one it is skipped, loudly; with `CI=true` it fails. */
export const needsBrowser: { skip?: string } = path !== undefined || process.env.CI === 'true' ? {} : { skip: 'NO BROWSER: the pages of the dashboard were NOT tested. Install chromium, or set CHROMIUM_PATH' }
if (needsBrowser.skip !== undefined) console.error(needsBrowser.skip)

/** A browser. The teardown closes it. */
export async function browse (t: Test): Promise<Browser> {
  if (path === undefined) throw new Error('there is no browser: install chromium, or set CHROMIUM_PATH')
  const browser = await chromium.launch({ executablePath: path, args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu'] })
  t.teardown(async () => { await browser.close() })
  return browser
}

export type { Browser, Page }
