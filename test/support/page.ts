// The programs of a page of docs/, as their readers would run them.
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import ts from 'typescript'

interface Test { teardown (callback: () => unknown): void }

/** The blocks of a page that are files, by name. */
export function filesOf (page: string): Map<string, string> {
  const text = readFileSync(new URL(`../../docs/${page}.md`, import.meta.url), 'utf8').replaceAll('\r\n', '\n')
  return new Map([...text.matchAll(/^```ts\n(\/\/ ([\w-]+)\.ts\n.*?)^```$/gms)].map(([, block = '', name = '']) => [name, block]))
}

/** What follows the block of that name, in a block of plain text: what the program prints. */
export function outputOf (page: string, name: string): string {
  const text = readFileSync(new URL(`../../docs/${page}.md`, import.meta.url), 'utf8').replaceAll('\r\n', '\n')
  const [, output = ''] = new RegExp(`^\`\`\`ts\\n// ${name}\\.ts\\n(?:(?!^\`\`\`).)*^\`\`\`\\n\\n(?:[^\`\\n][^\\n]*\\n\\n)?\`\`\`text\\n(.*?)^\`\`\`$`, 'ms').exec(text) ?? []
  return output
}

/** Compiles the files of a page, without checking their types (docs.test.ts does), and returns their folder, relative to test/. It is in dist/, where the package finds itself by its name. */
export function compiled (t: Test, page: string): string {
  const relative = `../dist/programs-${page}-${process.pid}/`
  const folder = new URL(`../${relative}`, import.meta.url)
  mkdirSync(folder, { recursive: true })
  t.teardown(() => { rmSync(folder, { recursive: true, force: true }) })
  for (const [name, block] of filesOf(page)) {
    const { outputText } = ts.transpileModule(block, { fileName: `${name}.ts`, compilerOptions: { target: ts.ScriptTarget.ES2023, module: ts.ModuleKind.ESNext, verbatimModuleSyntax: true, rewriteRelativeImportExtensions: true } })
    writeFileSync(new URL(`${name}.js`, folder), outputText)
  }
  return relative
}
