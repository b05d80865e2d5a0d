import t from 'tap'
import { List, type Linked } from '../lib/list.ts'

class Item implements Linked {
  readonly name: string
  previous: this | undefined = undefined
  next: this | undefined = undefined

  constructor (name: string) {
    this.name = name
  }
}

function listOf (names: string): { list: List<Item>, items: Record<string, Item> } {
  const list = new List<Item>()
  const items = Object.fromEntries([...names].map(name => [name, new Item(name)]))
  for (const item of Object.values(items)) list.add(item)
  return { list, items }
}

const namesOf = (list: List<Item>): string => [...list].map(({ name }) => name).join('')

t.test('it keeps the order of adding, or puts ahead', async t => {
  const { list } = listOf('abc')
  list.add(new Item('z'), true)
  t.equal(namesOf(list), 'zabc')
  t.equal(list.first?.name, 'z')
  t.equal(list.size, 4)
  const empty = new List<Item>()
  empty.add(new Item('a'), true)
  t.equal(namesOf(empty), 'a')
})

t.test('what is taken out, wherever it stands, leaves the others in order, and holds on to none of them', async t => {
  for (const order of ['abc', 'cba', 'bac', 'bca', 'acb', 'cab']) {
    const { list, items } = listOf('abc')
    let left = 'abc'
    for (const name of order) {
      const item = items[name] as Item
      list.remove(item)
      left = left.replace(name, '')
      t.equal(namesOf(list), left)
      t.equal(list.size, left.length)
      t.same([item.previous, item.next], [undefined, undefined])
    }
    t.equal(list.first, undefined)
    list.add(items.a as Item)
    t.equal(namesOf(list), 'a')
  }
})
