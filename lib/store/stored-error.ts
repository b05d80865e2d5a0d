export { storedError, type StoredError } from '../readable.ts'
