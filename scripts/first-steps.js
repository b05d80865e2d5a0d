// `npm run first-steps`: does what a stranger does. It packs the package, and follows the README's first file and docs/first-steps.md to the letter, each in an empty
// folder: in ES modules, CommonJS and TypeScript. What a page says a program prints, it must print, and end with 0 at Ctrl-C. `--node 20,22,24,latest` does it on these versions.
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, mkdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs, promisify } from 'node:util'

const run = promisify(execFile)
const root = fileURLToPath(new URL('..', import.meta.url))
const { values: { node: versions } } = parseArgs({ options: { node: { type: 'string' } } })
const base = await mkdtemp(join(tmpdir(), 'first-steps-'))

// Packing builds.
const { stdout } = await run('npm', ['pack', '--json', '--pack-destination', base], { cwd: root, maxBuffer: 1e8 })
const [{ filename }] = Object.values(JSON.parse(stdout.slice(stdout.search(/^[[{]/m))))
const tarball = join(base, filename)
const { normal, read, runProgram } = await import('../dist/test/support/pages.js')

/** The fences of a text: `{ language, text }`. */
const fencesOf = text => [...text.matchAll(/^```(\w+)\n(.*?)^```$/gms)].map(([, language, text]) => ({ language, text }))

/** The part of a page between a heading and the next one of the same level. */
function section (page, heading) {
  const [, text] = new RegExp(`^## ${heading}\\n(.*?)(?=^## |(?![^]))`, 'ms').exec(page) ?? []
  if (text === undefined) throw new Error(`there is no heading "${heading}"`)
  return text
}

/** Needs a newer Node. */
const durable = fence => /durable|pg-boss/.test(fence.text) || /mail enqueued|mail sent \{/.test(fence.text)

const firstSteps = read('docs/first-steps.md')
const start = fencesOf(section(firstSteps, 'An empty folder'))
const readme = fencesOf(section(read('README.md'), 'Install'))
const stories = {
  README: [readme[0], readme[1], { language: 'sh', text: 'node app.js\n' }, readme[2]],
  'ES modules': [...start, ...fencesOf(section(firstSteps, 'ES modules'))],
  CommonJS: [...start, ...fencesOf(section(firstSteps, 'CommonJS'))],
  TypeScript: [...start, ...fencesOf(section(firstSteps, 'TypeScript'))]
}

/** Does what the fences say, in an empty folder; returns how many programs ran. */
async function follow (fences, folder, node) {
  await mkdir(folder, { recursive: true })
  const env = { ...process.env, PATH: dirname(node) + delimiter + process.env.PATH }
  let ran = 0
  for (const [i, { language, text }] of fences.entries()) {
    if (language === 'sh') {
      const expected = fences[i + 1]?.language === 'text' ? fences[i + 1].text : undefined
      const [, file, args = ''] = /^node (\S+) ?(.*)\n$/.exec(text) ?? []
      if (expected === undefined) {
        await run('bash', ['-ec', text.replace(/^(npm install .*)\bfastify-background-tasks\b/m, `$1${tarball}`)], { cwd: folder, env, maxBuffer: 1e8 })
          .catch(error => { throw new Error(`${text}${error.stdout}${error.stderr}`) })
        continue
      }
      const { output, errors, code, signal } = await runProgram(folder, file, expected, { node, args: args === '' ? [] : args.split(' '), ends: !expected.includes('^C\n') })
      if (output !== normal(expected)) throw new Error(`${text}The page says:\n${normal(expected)}\nIt prints:\n${output}\n${errors}`)
      if (errors !== '') throw new Error(`${text}${errors}`)
      if (code !== 0) throw new Error(`${text}It ends with ${code ?? signal}, and not with 0.`)
      ran++
    } else if (language !== 'text') {
      const [, name] = /^\/\/ (\S+)\n/.exec(text) ?? []
      await writeFile(join(folder, name), text)
    }
  }
  return ran
}

try {
  for (const version of versions?.split(',') ?? ['']) {
    const node = version === '' ? process.execPath : (await run('npx', ['-y', '-p', `node@${version}`, 'node', '-p', 'process.execPath'], { cwd: base })).stdout.trim()
    const { stdout } = await run(node, ['-p', 'process.versions.node'])
    const [major, minor] = stdout.split('.').map(Number)
    const embedded = major > 22 || (major === 22 && minor >= 13)
    for (const [name, fences] of Object.entries(stories)) {
      const folder = join(base, `${major}-${name.replace(' ', '-')}`)
      try {
        const ran = await follow(embedded ? fences : fences.filter(fence => !durable(fence)), folder, node)
        console.log(`✓ Node ${stdout.trim()}, ${name}: ${ran} program${ran === 1 ? '' : 's'}${embedded || name === 'README' ? '' : ' (the durable store needs Node 22.13)'}`)
      } catch (error) {
        process.exitCode = 1
        console.log(`✗ Node ${stdout.trim()}, ${name}:\n${error.message}`)
      }
    }
  }
} finally {
  if (existsSync(base)) await rm(base, { recursive: true, force: true })
}
