import t from 'tap'
import { MemoryStore } from '../lib/stores/memory.ts'
import { conformance } from './conformance.ts'

conformance(t, () => () => new MemoryStore(), { durable: false })
