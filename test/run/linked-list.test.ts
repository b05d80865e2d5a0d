import t from 'tap'
import { LinkedList as List, type LinkedItem as Linked } from '../../lib/run/linked-list.ts'

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

t.test('it keeps the order of adding, or puts before another', async t => {
  const { list, items } = listOf('abc')
  list.add(new Item('z'), items.a)
  list.add(new Item('y'), items.b)
  t.equal(namesOf(list), 'zaybc')
  t.equal(list.first?.name, 'z')
  t.equal(list.size, 5)
  list.remove(items.a as Item)
  list.remove(items.c as Item)
  t.equal(namesOf(list), 'zyb', 'and knows its neighbours')
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
