// One import of import.js, in a process of its own.
const [,, name] = process.argv
const start = performance.now()
const { default: Fastify } = await import('fastify')
Fastify()
const made = performance.now()
if (name !== 'fastify') await import(name)
console.log(JSON.stringify({ ms: performance.now() - (name === 'fastify' ? start : made) }))
// Some keep a timer.
process.exit()
