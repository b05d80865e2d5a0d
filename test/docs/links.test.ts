// That the links of the documents lead somewhere: to a file of this tree, and a heading in it. The README is also the page of a registry, so its links are absolute.
import { existsSync } from 'node:fs'
import { posix } from 'node:path'
import t from 'tap'
import { filesIn, pages, read } from '../support/pages.ts'

const { homepage, repository } = JSON.parse(read('package.json')) as { homepage: string, repository: { url: string } }
const documents = [...new Set([...pages, ...filesIn('', '.md')])]
const withoutCode = (text: string): string => text.replaceAll(/^```\w*\n.*?^```$/gms, '')

/** The links of a page, and its pictures. */
function linksOf (page: string): string[] {
  return [...withoutCode(read(page)).matchAll(/\]\(([^)\s]+)\)|(?:src|srcset)="([^"]+)"/g)].map(([, link, picture = '']) => link ?? picture)
}

/** The anchors of a page, as GitHub makes them of its headings. */
function anchorsOf (page: string): string[] {
  const seen = new Map<string, number>()
  return [...withoutCode(read(page)).matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) => {
    const anchor = heading.toLowerCase().replaceAll(/\]\([^)]*\)/g, '').replaceAll(/[^\p{L}\p{N}_ -]/gu, '').replaceAll(' ', '-')
    const count = seen.get(anchor) ?? 0
    seen.set(anchor, count + 1)
    return count === 0 ? anchor : `${anchor}-${count}`
  })
}

/** Where a link leads in this tree: a path, and an anchor; undefined for an address elsewhere. */
function target (page: string, link: string): { path: string, anchor: string | undefined } | undefined {
  const [address = '', anchor] = link.split('#')
  const ours = `${homepage}/blob/main/`
  if (address.startsWith(ours)) return { path: address.slice(ours.length), anchor }
  if (/^[a-z]+:/.test(address)) return undefined
  return { path: address === '' ? page : posix.join(posix.dirname(page), address), anchor }
}

for (const page of documents) {
  t.test(`the links of ${page} lead to files and headings`, async t => {
    const anchors = new Map<string, string[]>()
    for (const link of linksOf(page)) {
      const to = target(page, link)
      if (to === undefined) continue
      t.ok(existsSync(new URL(`../../${to.path}`, import.meta.url)), link)
      if (to.anchor === undefined || !to.path.endsWith('.md')) continue
      if (!anchors.has(to.path)) anchors.set(to.path, anchorsOf(to.path))
      t.ok(anchors.get(to.path)?.includes(to.anchor), link)
    }
    // A page without a link has nothing to prove but itself.
    t.ok(existsSync(new URL(`../../${page}`, import.meta.url)))
  })
}

t.test('the README, which is the page of a registry too, links to this project by the address of package.json', async t => {
  t.equal(repository.url, `git+${homepage}.git`)
  const links = linksOf('README.md').filter(link => !link.endsWith('.png'))
  t.same(links.filter(link => !/^https:/.test(link)), [])
  t.ok(links.filter(link => link.startsWith(`${homepage}/blob/main/docs/`)).length > 15)
  // An address of this project under another name, as after a move that was made in one place only.
  t.same(links.filter(link => link.includes('/blob/main/') && !link.startsWith(`${homepage}/`)), [])
})

t.test('every page, example and picture of docs/ is reached by a link', async t => {
  const linked = new Set(documents.flatMap(page => linksOf(page).map(link => ({ page, to: target(page, link) })))
    .filter(({ page, to }) => to !== undefined && to.path !== page).map(({ to }) => to?.path))
  // What server.ts is made of, and what another example runs.
  const parts = ['broker.ts', 'feed.ts', 'mails.ts', 'store.ts', 'hash.ts', 'dashboard.ts', 'metrics.ts']
  const files = [...filesIn('example/', '.ts').filter(name => !parts.includes(name)).map(name => `example/${name}`), ...pages.filter(page => page !== 'README.md')]
  t.ok(files.length > 25)
  for (const file of files) t.ok(linked.has(file), file)
})

t.test('docs/README.md lists every page', async t => {
  const listed = linksOf('docs/README.md').map(link => target('docs/README.md', link)?.path)
  for (const page of pages) if (page.startsWith('docs/') && page !== 'docs/README.md') t.ok(listed.includes(page), page)
})
