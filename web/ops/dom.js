// @ts-check
/** Makes an element. @param {string} tag @param {Record<string, any>} [attrs] @param {...any} children @returns {any} */
export function h(tag, attrs = {}, ...children) {
  const svg = tag === 'svg' || tag === 'polyline' || tag === 'line'
  const e = svg ? document.createElementNS('http://www.w3.org/2000/svg', tag) : document.createElement(tag)
  for (const [name, value] of Object.entries(attrs)) {
    if (value === undefined || value === null || value === false) continue
    if (name.startsWith('on')) e.addEventListener(name.slice(2), value)
    else if (name in e && typeof value !== 'string') /** @type {any} */ (e)[name] = value
    else e.setAttribute(name, value === true ? '' : String(value))
  }
  e.append(...children.flat().filter((c) => c !== undefined && c !== null && c !== false))
  return e
}
/** Writes a text only where it changed. @param {Element} e @param {string} text */
export function say(e, text) { if (e.textContent !== text) e.textContent = text }
/** @param {Element} e @param {string} name @param {string} value */
export function mark(e, name, value) { if (e.getAttribute(name) !== value) e.setAttribute(name, value) }

/** What stands in each list. @type {WeakMap<Element, Map<string, any>>} */
const lists = new WeakMap()

/**
 * Keeps a list of elements: what stays is updated in place, so that focus and selection stay too.
 * @param {Element} parent @param {any[]} list @param {(x: any) => string} key @param {(x: any) => any} make
 */
export function keep(parent, list, key, make) {
  /** @type {Map<string, any>} */
  const had = lists.get(parent) ?? new Map()
  const now = new Map()
  let at = parent.firstElementChild
  for (const x of list) {
    const k = key(x), made = had.get(k) ?? make(x)
    made.update?.(x)
    now.set(k, made)
    if (at && at === made.node) at = at.nextElementSibling
    else parent.insertBefore(made.node, at)
  }
  for (const [k, made] of had) if (!now.has(k)) made.node.remove()
  lists.set(parent, now)
}

/** Names an attempt: one press, one key. */
export function newKey() { return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, '0')).join('') }

/** @param {string} method @param {string} path @param {any} [body] @param {string} [key] */
export async function api(method, path, body, key) {
  /** @type {Record<string, string>} */
  const headers = {}
  if (body !== undefined) headers['Content-Type'] = 'application/json'
  if (key) headers['Idempotency-Key'] = key
  let r
  try {
    r = await fetch('/v1/admin' + path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), cache: 'no-store' })
  } catch { return { ok: false, status: 0, body: { code: 'offline' } } }
  const text = await r.text()
  let parsed = {}
  try { parsed = text ? JSON.parse(text) : {} } catch { /* no JSON */ }
  return { ok: r.ok, status: r.status, body: /** @type {any} */ (parsed) }
}
/** @param {{status: number, body: any}} r */
export function why(r) { return [r.body.code || r.status, r.body.detail].filter(Boolean).join(' · ') }
