// `npm run screenshots`: runs the example for a minute, so that there is something to see, and makes the pictures of its dashboard in docs/.
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { setTimeout } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { chromium } from 'playwright-core'

const port = 3471
const root = new URL('..', import.meta.url)
const server = spawn(process.execPath, [fileURLToPath(new URL('dist/example/server.js', root))], { env: { ...process.env, PORT: String(port), TZ: 'Europe/Berlin' }, stdio: 'ignore' })
const executablePath = [process.env.CHROMIUM_PATH, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(path => path && existsSync(path))
const browser = await chromium.launch({ ...executablePath && { executablePath }, args: ['--no-sandbox'] })

try {
  await setTimeout(Number(process.argv[2] ?? 75) * 1_000)
  for (const [name, hash] of [['overview', '#/'], ['tasks', '#/tasks']]) {
    for (const colorScheme of ['light', 'dark']) {
      const page = await browser.newPage({ colorScheme, viewport: { width: 1180, height: 700 }, deviceScaleFactor: 2, locale: 'en', timezoneId: 'Europe/Berlin' })
      await page.goto(`http://127.0.0.1:${port}/dashboard/${hash}`)
      await page.locator('.connection', { hasText: 'live' }).waitFor()
      await setTimeout(2_500)
      await page.screenshot({ path: fileURLToPath(new URL(`docs/dashboard-${name}-${colorScheme}.png`, root)), fullPage: name === 'tasks' })
      await page.close()
    }
  }
} finally {
  await browser.close()
  server.kill('SIGTERM')
}
