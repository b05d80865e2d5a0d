import t from 'tap'
import { pgBoss } from '../../../lib/store/pg-boss/index.ts'
import { freshSchema, needsPostgres, postgresUrl } from '../../support/postgres.ts'
import { conformance } from '../conformance.ts'

t.test('a store on pg-boss and PostgreSQL', needsPostgres(), async t => {
  const connectionString = await postgresUrl(t)
  conformance(t, () => {
    const schema = freshSchema()
    return () => pgBoss({ connectionString, schema })
  }, { durable: true })
})
