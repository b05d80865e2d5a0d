import t from 'tap'
import { MemoryStore } from '../../../lib/store/memory/index.ts'
import { conformance } from '../conformance.ts'

conformance(t, () => () => new MemoryStore(), { durable: false })
