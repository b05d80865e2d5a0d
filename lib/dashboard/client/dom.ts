// Elements from data. Text is only ever set as text: nothing that comes from a user can become markup.

export type Child = Node | string | number | false | null | undefined | Child[]
type Props = Record<string, unknown>

/** An element of HTML. A function is a handler, such as `onclick`. */
export function h (tag: string, props: Props = {}, ...children: Child[]): HTMLElement {
  return fill(document.createElement(tag), props, children)
}

/** An element of SVG. */
export function svg (tag: string, props: Props = {}, ...children: Child[]): SVGElement {
  return fill(document.createElementNS('http://www.w3.org/2000/svg', tag), props, children)
}

function fill<E extends Element> (element: E, props: Props, children: Child[]): E {
  for (const [name, value] of Object.entries(props)) {
    if (typeof value === 'function') Object.assign(element, { [name]: value })
    else if (value !== undefined && value !== null && value !== false) element.setAttribute(name, value === true ? '' : String(value))
  }
  append(element, children)
  return element
}

function append (element: Element, children: Child[]): void {
  for (const child of children) {
    if (Array.isArray(child)) append(element, child)
    else if (child !== undefined && child !== null && child !== false) element.append(child instanceof Node ? child : String(child))
  }
}

/** Makes the children of `target` those that are given, and keeps every element that can stay: with its focus, scroll position and what the user has typed or opened. */
export function update (target: Element, ...children: Child[]): void {
  const source = document.createElement('div')
  append(source, children)
  patchChildren(target, source)
}

const handlers = ['onclick', 'onsubmit', 'oninput'] as const

function patch (target: Node, source: Node): void {
  if (!(target instanceof Element) || !(source instanceof Element)) {
    if (target.nodeValue !== source.nodeValue) target.nodeValue = source.nodeValue
    return
  }
  for (const { name } of [...target.attributes]) if (!source.hasAttribute(name) && name !== 'open') target.removeAttribute(name)
  for (const { name, value } of source.attributes) if (target.getAttribute(name) !== value) target.setAttribute(name, value)
  if (target instanceof HTMLElement && source instanceof HTMLElement) for (const name of handlers) target[name] = source[name] as never
  patchChildren(target, source)
}

function patchChildren (target: Element, source: Element): void {
  const keyed = new Map([...target.children].map(child => [keyOf(child), child]))
  let place: ChildNode | null = target.firstChild
  for (const child of [...source.childNodes]) {
    const key = keyOf(child)
    const match: ChildNode | null | undefined = key !== undefined ? keyed.get(key) : place !== null && keyOf(place) === undefined ? place : undefined
    if (match === null || match === undefined || match.nodeName !== child.nodeName) {
      target.insertBefore(child, place)
      continue
    }
    if (match === place) place = place.nextSibling
    else target.insertBefore(match, place)
    patch(match, child)
  }
  while (place !== null) {
    const next: ChildNode | null = place.nextSibling
    place.remove()
    place = next
  }
}

function keyOf (node: Node): string | undefined {
  return node instanceof HTMLElement ? node.dataset.key : undefined
}
