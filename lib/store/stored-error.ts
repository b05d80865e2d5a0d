export { storedError, type StoredError } from '../common/readable.ts'
