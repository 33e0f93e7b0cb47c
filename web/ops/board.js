// @ts-check
import { h, say, mark, keep, api, why, newKey } from './dom.js'
import { t, num, time, yuan, lang, switchLang } from './words.js'
import { charts, burn } from './charts.js'

const top_ = /** @type {any} */ (document.getElementById('top')), main = /** @type {any} */ (document.getElementById('main')), said = /** @type {any} */ (document.getElementById('said'))
document.documentElement.lang = lang === 'zh' ? 'zh-CN' : 'en'
document.title = t('title')
const runbook = '/docs/operations.md#'
/** @type {any} */
let me = null
/** @type {any} */
let board = null
/** @type {any} */
let report = null
/** @type {any[]} */
let frames = []
let heardAt = 0, holding = false

/** @param {string} text */
function tell(text) { say(said, text) }

/** Whether acts are possible now. */
function mayAct() { return me?.role === 'admin' && fresh() }
function fresh() { return heardAt > 0 && performance.now() - heardAt < 4000 }

/** A button that changes something. @param {string} label @param {() => any} act @param {string} [cls] */
function acts(label, act, cls = '') {
  const b = h('button', { type: 'button', class: 'act-button ' + cls, onclick: () => { if (mayAct()) act(); else tell(me?.role === 'admin' ? t('staleActs') : t('onlyAdmin')) } }, label)
  mark(b, 'aria-disabled', String(!mayAct()))
  return b
}
function markActs() { for (const b of document.querySelectorAll('.act-button')) mark(b, 'aria-disabled', String(!mayAct())) }

/**
 * Asks before something is changed, and sends it once, however often the button is pressed: one dialog, one key.
 * @param {string} question
 * @param {{method?: string, path: string, body?: (form: any) => any, fields?: any[], danger?: boolean, after?: (body: any) => void, dry?: () => void}} o
 */
function ask(question, o) {
  let key = newKey(), sent = false
  const problem = h('p', { class: 'bad', role: 'alert' }, '')
  const go = h('button', { class: o.danger ? 'danger' : 'main' }, t('confirm'))
  const form = h('form', { method: 'dialog' }, h('h2', { id: 'q' }, question), ...(o.fields ?? []), problem,
    h('div', { class: 'act' }, h('button', { type: 'button', onclick: () => dialog.close() }, t('cancel')), o.dry && h('button', { type: 'button', onclick: o.dry }, t('dryRun', '')), go))
  const dialog = h('dialog', { 'aria-labelledby': 'q' }, form)
  form.addEventListener('submit', async (/** @type {Event} */ e) => {
    e.preventDefault()
    if (sent) return
    sent = true
    mark(go, 'aria-disabled', 'true')
    say(go, t('sending'))
    const r = await api(o.method ?? 'POST', o.path, o.body?.(new FormData(form)), key)
    if (r.ok) {
      dialog.close()
      tell(t('done', question.split('?')[0]))
      o.after?.(r.body)
      refresh()
      return
    }
    sent = false
    if (r.status >= 400 && r.status < 500) key = newKey() // nothing was done: what comes next is another attempt
    mark(go, 'aria-disabled', 'false')
    say(go, t('confirm'))
    say(problem, t('failed', why(r)))
  })
  dialog.addEventListener('close', () => dialog.remove())
  document.body.append(dialog)
  dialog.showModal()
  return { dialog, problem }
}
/** @param {string} label @param {string} name @param {Record<string, any>} [more] */
function field(label, name, more = {}) { return h('label', {}, label, h('input', { name, autocomplete: 'off', ...more })) }
/** @param {string} title @param {string} cls @param {...any} head */
function section(title, cls, ...head) {
  const heading = h('h2', {}, t(title)), box = h('div'), node = h('section', { class: cls, 'aria-label': t(title) }, h('div', { class: 'head' }, heading, ...head), box)
  main.append(node)
  return { node, box, heading }
}
/** @param {string[]} columns */
function table(...columns) {
  const body = h('tbody'), node = h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': columns.map((c) => t(c)).join(', ') },
    h('table', {}, h('thead', {}, h('tr', {}, ...columns.map((c) => h('th', { scope: 'col' }, t(c))))), body))
  return { node, body }
}
/** A cell that is a text. @param {any} text @param {string} [cls] */
const td = (text, cls = '') => h('td', { class: cls }, text)

// What the header and each part are made of; filled by build().
/** @type {any} */
const ui = {}

function build() {
  top_.replaceChildren()
  main.replaceChildren()
  ui.live = h('span', { class: 'dot live good', role: 'status' }, t('live'))
  ui.hold = h('button', { type: 'button', onclick: () => { holding = !holding; say(ui.hold, t(holding ? 'goOn' : 'pauseFeed')); paint() } }, t('pauseFeed'))
  ui.tiles = h('span', { class: 'quiet' }, '')
  top_.append(h('h1', {}, t('title')), ui.live, ui.hold, h('span', { class: 'space' }), ui.tiles,
    h('span', { class: 'pill' }, me.name + (me.role === 'viewer' ? ' · ' + t('viewer') : '')),
    h('button', { type: 'button', lang: lang === 'zh' ? 'en' : 'zh-CN', onclick: switchLang }, lang === 'zh' ? 'English' : '中文'),
    h('button', { type: 'button', onclick: async () => { await api('DELETE', '/session'); location.reload() } }, t('logOut')))

  ui.auditButton = h('button', { type: 'button', class: 'main', onclick: audit }, t('runAudit'))
  ui.auditSaid = h('span', { class: 'quiet' }, t('notProved'))
  const c = section('conservation', '', ui.auditSaid, ui.auditButton)
  ui.equation = h('p', { class: 'equation' })
  ui.proofs = h('ul', { class: 'proofs' })
  ui.brokenItems = h('div')
  c.box.append(ui.equation, ui.proofs, ui.brokenItems)

  const a = section('alarms', '')
  ui.alarms = h('ul', { class: 'alarms' })
  ui.noAlarms = h('p', { class: 'good dot' }, t('noAlarms'))
  a.box.append(ui.noAlarms, ui.alarms)
  a.box.setAttribute('aria-live', 'polite')

  const ch = section('charts', '')
  ui.charts = charts()
  ch.box.append(ui.charts.node)

  const i = section('items', '', acts(t('newSale'), createSale))
  ui.items = table('item', 'window', 'state', 'total', 'left', 'held', 'unpaid', 'burn', 'acts')
  ui.noItems = h('p', { class: 'quiet' }, t('noItems'))
  i.box.append(ui.noItems, ui.items.node)

  ui.deadFilter = h('input', { 'aria-label': t('filter'), placeholder: t('filter'), oninput: () => loadDead() })
  ui.retryAll = acts('', () => treatAll('retry'))
  ui.discardAll = acts('', () => treatAll('discard'), 'danger')
  const d = section('dead', '', ui.deadFilter, ui.retryAll, ui.discardAll)
  ui.dead = table('when', 'item', 'order', 'reason', 'acts')
  ui.noDead = h('p', { class: 'quiet' }, t('noDead'))
  d.box.append(ui.noDead, ui.dead.node)

  const p = section('processes', 'half')
  ui.processes = table('kind', 'host', 'version', 'node', 'lease', 'serves', 'seen')
  p.box.append(ui.processes.node)

  const m = section('money', 'half', h('button', { type: 'button', onclick: loadMoney }, t('refresh')))
  ui.money = table('kind', 'order', 'amount', 'since', 'reason', 'acts')
  ui.noMoney = h('p', { class: 'quiet' }, t('noMoney'))
  m.box.append(ui.noMoney, ui.money.node)

  const l = section('lookUp', '')
  ui.found = h('div', { 'aria-live': 'polite' })
  l.box.append(h('form', { class: 'row', onsubmit: lookUp, role: 'search' }, field(t('lookUpHint'), 'q', { required: true, size: 34 }), h('button', {}, t('search'))), ui.found)

  const log = section('log', '', h('button', { type: 'button', onclick: () => loadLog() }, t('refresh')))
  ui.log = table('when', 'who', 'action', 'target', 'outcome')
  ui.older = h('button', { type: 'button', onclick: () => loadLog(ui.cursor) }, t('more'))
  log.box.append(ui.log.node, ui.older)
  refresh()
  audit()
}

/** Loads again what is not part of the feed. */
function refresh() { loadDead(); loadMoney(); loadLog() }

function paint() {
  const secs = Math.round((performance.now() - heardAt) / 1000)
  document.body.classList.toggle('stale', !fresh())
  say(ui.live, holding ? t('paused') : fresh() ? t('live') : t('stale', heardAt ? secs : '…'))
  mark(ui.live, 'class', 'dot ' + (holding ? 'warn' : fresh() ? 'live good' : 'bad'))
  markActs()
  if (!board || holding) return
  const v = board.frame.v
  say(ui.tiles, [num(v.reserve_outcomes ?? 0) + '/s', board.durability].filter(Boolean).join(' · '))
  ui.charts.update(frames)

  const alarms = fresh() ? board.alarms : []
  ui.noAlarms.hidden = board.alarms.length > 0 || !fresh()
  keep(ui.alarms, alarms, (x) => x.code + x.detail, (x) => ({
    node: h('li', { class: mild.has(x.code) ? 'mild' : '' }, h('strong', {}, t('a.' + x.code, x.code === 'rebuilding' || x.code === 'process_gone' ? x.detail : num(Number(x.detail)))), ' ', h('a', { href: runbook + (chapter[x.code] ?? 'metrics'), target: '_blank' }, t('runbook') + ' ↗')),
  }))
  keep(ui.processes.body, board.processes, (x) => x.kind + x.name + x.started_ms, () => {
    const cells = Array.from({ length: 7 }, () => td('')), node = h('tr', {}, ...cells)
    return { node, update: (/** @type {any} */ x) => {
      const texts = [x.kind, x.name, x.version, x.node < 0 ? '–' : x.node, x.node < 0 ? '–' : Math.round(x.lease_ms / 60000) + ' min', x.partitions ? t('all', x.partitions) : '–', x.gone ? t('gone') + ' · ' + t('ago', Math.round(x.seen_ms / 1000)) : t('ago', Math.round(x.seen_ms / 1000))]
      texts.forEach((text, n) => say(cells[n], String(text)))
      mark(cells[6], 'class', x.gone ? 'bad dot' : 'good dot')
    } }
  })
  ui.noItems.hidden = board.items.length > 0
  ui.items.node.hidden = board.items.length === 0
  keep(ui.items.body, board.items, (x) => x.id, itemRow)
  sum()
}
const mild = new Set(['dead_letters', 'outbox_waiting', 'suspect_items', 'rebuilding', 'backlog_old'])
/** @type {Record<string, string>} */
const chapter = {
  redis_away: 'redis-dies', postgres_away: 'postgresql-dies', lost_entries: 'the-audit', invariant_broken: 'the-audit', conservation_gap: 'the-audit', no_worker: 'a-worker-or-a-server-dies',
  process_gone: 'a-worker-or-a-server-dies', lease_lost: 'postgresql-dies', consumer_stands: 'postgresql-dies', dead_letters: 'dead-letters', backlog_old: 'alerts-worth-having', suspect_items: 'redis-is-emptied',
  outbox_waiting: 'alerts-worth-having', misplaced_keys: 'alerts-worth-having', rebuilding: 'rebuild-by-hand',
}

/** @param {any} first */
function itemRow(first) {
  let x = first
  const [name, span, state, total, left, held, unpaid, line, act] = Array.from({ length: 9 }, (_, n) => td('', n > 2 && n < 6 ? 'num' : ''))
  const svg = h('svg', { class: 'burn', viewBox: '0 0 120 26', role: 'img' }, h('polyline', { points: '' }))
  line.append(svg)
  const pause = acts(t('pause'), () => ask(t(x.state === 'paused' ? 'askResume' : 'askPause', x.id + ' ' + x.product, num(x.stock)), { path: `/items/${x.id}/${x.state === 'paused' ? 'resume' : 'pause'}` }))
  act.append(pause,
    acts(t('addStock'), () => ask(t('askStock', x.id + ' ' + x.product, num(x.total), num(x.stock)), { path: `/items/${x.id}/stock`, fields: [field(t('addUnits'), 'add', { type: 'number', min: '1', required: true })], body: (f) => ({ add: Number(f.get('add')) }) })),
    acts(t('change'), () => change(x)), acts(t('rebuild'), () => rebuild(x)),
    acts(t('preheat'), () => ask(t('askPreheat', x.sale_id), { path: `/sales/${x.sale_id}/preheat` })),
    h('a', { class: 'button', href: `/v1/admin/sales/${x.sale_id}/orders?format=csv`, download: `sale-${x.sale_id}.csv`, 'aria-label': `CSV ${x.sale_id}` }, t('exportCSV')),
    acts(t('cancelSale'), () => cancelSale(x), 'danger'))
  const node = h('tr', {}, name, span, state, total, left, held, unpaid, line, act)
  return { node, update: (/** @type {any} */ now) => {
    x = now
    say(name, `${x.id} · ${x.product} · ${yuan(x.price_fen)}`)
    say(span, `${time(x.opens_at_ms)} – ${time(x.closes_at_ms)}`)
    const at = Date.now(), shown = x.state !== 'open' ? x.state : at < x.opens_at_ms ? 'upcoming' : at >= x.closes_at_ms ? 'ended' : x.stock > 0 ? 'open' : 'sold_out'
    say(state, shown)
    mark(state, 'class', shown === 'open' ? 'good' : shown === 'rebuilding' || shown === 'missing' ? 'bad' : shown === 'paused' ? 'warn' : 'quiet')
    say(total, num(x.total)); say(left, num(x.stock)); say(held, num(x.held))
    say(unpaid, x.unpaid ? `${num(x.unpaid)} · ${time(x.next_ms)} – ${time(x.last_ms)}` : '–')
    say(pause, t(x.state === 'paused' ? 'resume' : 'pause'))
    burn(svg, x.history, x.total)
  } }
}
/** @param {number} ms */
function local(ms) { return new Date(ms - new Date(ms).getTimezoneOffset() * 60000).toISOString().slice(0, 19) }
/** @param {any} x */
function change(x) {
  const was = { opens_at_ms: local(x.opens_at_ms), closes_at_ms: local(x.closes_at_ms), price_fen: x.price_fen, limit: x.limit, stock: x.total }
  ask(t('askChange', x.id + ' ' + x.product, num(x.total), num(x.held)), {
    method: 'PATCH', path: `/items/${x.id}`,
    fields: [field(t('stock'), 'stock', { type: 'number', min: '1', value: String(was.stock) }), field(t('limit'), 'limit', { type: 'number', min: '1', value: String(was.limit) }), field(t('price'), 'price_fen', { type: 'number', min: '1', value: String(was.price_fen) }),
      field(t('opens'), 'opens_at_ms', { type: 'datetime-local', step: '1', value: was.opens_at_ms }), field(t('closes'), 'closes_at_ms', { type: 'datetime-local', step: '1', value: was.closes_at_ms })],
    body: (f) => Object.fromEntries(Object.entries(was).flatMap(([k, v]) => f.get(k) === String(v) ? [] : [[k, k.endsWith('_ms') ? new Date(f.get(k)).getTime() : Number(f.get(k))]])),
  })
}
/** @param {any} d */
function difference(d) { return d.redis_stock === d.stock && !(d.missing + d.unknown + d.changed + d.fields) && d.redis_generation === d.generation ? t('intact') : t('differs', d.redis_stock, d.stock, d.missing, d.unknown, d.changed, d.fields) }
/** @param {any} x */
function rebuild(x) {
  const path = `/items/${x.id}/rebuild`
  const asked = ask(t('askRebuild', x.id + ' ' + x.product, num(x.stock), num(x.held)), {
    path, body: () => ({}), after: (d) => tell(difference(d)),
    dry: async () => { const r = await api('POST', path, { dry_run: true }, newKey()); say(asked.problem, r.ok ? t('dryRun', difference(r.body)) : t('failed', why(r))) },
  })
}
/** @param {any} x */
function cancelSale(x) {
  const held = board.items.filter((/** @type {any} */ i) => i.sale_id === x.sale_id).reduce((/** @type {number} */ n, /** @type {any} */ i) => n + i.held, 0)
  ask(t('askCancelSale', x.sale_id, num(held)), {
    path: `/sales/${x.sale_id}/cancel`, danger: true, fields: [field(t('reasonField'), 'reason', { maxlength: '200' })], body: (f) => f.get('reason') ? { reason: f.get('reason') } : {},
    after: function follow(c) {
      tell(`${t('cancelSale')} ${c.sale}: ${c.unpaid + c.paid + c.refunding} → ${c.cancelled + c.refunded} · ${c.state}`)
      if (c.state === 'running') setTimeout(async () => { const r = await api('GET', `/sales/${x.sale_id}/cancel`); if (r.ok) follow(r.body) }, 1000)
    },
  })
}
function createSale() {
  const from = Date.now() + 600000
  ask(t('newSale'), {
    path: '/sales', fields: [field(t('saleName'), 'name', { required: true }), field(t('product'), 'product', { required: true }), field(t('price'), 'price_fen', { type: 'number', min: '1', required: true }), field(t('stock'), 'stock', { type: 'number', min: '1', required: true }),
      field(t('limit'), 'limit', { type: 'number', min: '1', value: '1', required: true }), field(t('opens'), 'opens', { type: 'datetime-local', step: '1', value: local(from), required: true }), field(t('closes'), 'closes', { type: 'datetime-local', step: '1', value: local(from + 3600000), required: true })],
    body: (f) => ({ name: f.get('name'), opens_at_ms: new Date(f.get('opens')).getTime(), closes_at_ms: new Date(f.get('closes')).getTime(), items: [{ product: f.get('product'), price_fen: Number(f.get('price_fen')), stock: Number(f.get('stock')), limit: Number(f.get('limit')) }] }),
  })
}

// Conservation: what the last audit has proved.
async function audit() {
  if (ui.auditing) return
  ui.auditing = true
  mark(ui.auditButton, 'aria-disabled', 'true')
  for (const began = performance.now(); ;) {
    const r = await api('GET', '/audit?wait=1s')
    if (r.status === 202) { say(ui.auditSaid, t('auditing', Math.round((performance.now() - began) / 1000))); continue }
    if (r.ok) report = { ...r.body, at: Date.now() }
    else say(ui.auditSaid, t('failed', why(r)))
    break
  }
  ui.auditing = false
  mark(ui.auditButton, 'aria-disabled', 'false')
  if (!report) return
  keep(ui.proofs, report.invariants, (x) => String(x.number), () => {
    const node = h('li', { class: 'pill' })
    return { node, update: (/** @type {any} */ x) => { say(node, `${x.ok ? '✓' : '✗'} ${x.number} ${x.name}`); mark(node, 'class', 'pill ' + (x.ok ? 'good' : 'bad')); mark(node, 'title', (x.broken ?? []).join('\n')) } }
  })
  ui.brokenItems.replaceChildren(...report.invariants.flatMap((/** @type {any} */ x) => (x.broken ?? []).map((/** @type {string} */ line) => h('p', { class: 'bad' }, `${x.number}: ${line}`))),
    h('details', {}, h('summary', {}, t('items') + ' · ' + report.items.length), equations(report.items)))
  sum()
}
/** @param {any[]} items */
function equations(items) {
  const made = table('item', 'total', 'redis', 'orders', 'stream', 'owed', 'gap')
  made.body.append(...items.map((x) => h('tr', {}, td(x.item), ...[x.total, x.redis_stock, x.live_units, x.stream_units, x.owed_units, x.gap].map((n) => td(num(n), 'num')))))
  return made.node
}
function sum() {
  if (!report) return
  const of = (/** @type {string} */ k) => report.items.reduce((/** @type {number} */ n, /** @type {any} */ x) => n + x[k], 0)
  const part = (/** @type {string} */ k, /** @type {string} */ label) => h('span', {}, num(of(k)), h('small', {}, t(label)))
  const gap = of('gap'), age = Math.round((Date.now() - report.at) / 1000)
  if (ui.shown !== report) {
    ui.shown = report
    ui.equation.replaceChildren(h('span', { class: report.ok ? 'good' : 'bad' }, report.ok ? '✓' : '✗', h('small', {}, t(report.ok ? 'whole' : 'broken'))), part('total', 'total'), h('i', {}, '='), part('redis_stock', 'redis'), h('i', {}, '+'), part('live_units', 'orders'), h('i', {}, '+'), part('stream_units', 'stream'), h('i', {}, '+'), part('owed_units', 'owed'),
      h('span', { class: gap ? 'bad' : 'good' }, num(gap), h('small', {}, t('gap'))))
  }
  if (!ui.auditing) say(ui.auditSaid, t('proved', age < 60 ? `${age} s ` : `${Math.round(age / 60)} min `) + (report.moving ? ' · ' + t('moving') : ''))
}

async function loadDead() {
  const reason = ui.deadFilter.value, r = await api('GET', '/dead' + (reason ? '?reason=' + encodeURIComponent(reason) : ''))
  if (!r.ok || reason !== ui.deadFilter.value) return
  const list = r.body.dead_letters
  ui.letters = list
  for (const [b, label] of [[ui.retryAll, 'retryAll'], [ui.discardAll, 'discardAll']]) { b.hidden = !list.length; say(b, t(label, num(list.length) + (r.body.more ? '+' : ''))) }
  ui.noDead.hidden = list.length > 0
  ui.dead.node.hidden = !list.length
  keep(ui.dead.body, list, (x) => x.id, (x) => ({
    node: h('tr', {}, td(time(new Date(x.at).getTime())), td(x.fields[0] === 'item' ? x.fields[1] : '?'), td(x.fields[0] === 'item' ? x.fields.slice(8).join(' ') : x.fields.join(' '), 'wrap'), td(x.reason, 'wrap'),
      h('td', {}, acts(t('retry'), () => ask(t('askRetry', 1), { path: '/dead/retry', body: () => ({ ids: [x.id] }) })), acts(t('discard'), () => ask(t('askDiscard', 1, units([x])), { path: '/dead/discard', danger: true, body: () => ({ ids: [x.id] }) }), 'danger'))),
  }))
}
/** @param {any[]} letters */
function units(letters) { return letters.reduce((n, x) => n + (x.fields[0] === 'item' ? Number(x.fields[9]?.split(' ')[1]) || 0 : 0), 0) }
/** @param {string} act */
function treatAll(act) {
  const reason = ui.deadFilter.value, n = num(ui.letters.length)
  ask(act === 'retry' ? t('askRetry', n) : t('askDiscard', n, num(units(ui.letters))), { path: '/dead/' + act, danger: act === 'discard', body: () => ({ ids: ui.letters.map((/** @type {any} */ x) => x.id) }) })
}

async function loadMoney() {
  const r = await api('GET', '/money')
  const list = r.ok ? r.body.open : []
  ui.noMoney.hidden = list.length > 0
  ui.money.node.hidden = !list.length
  keep(ui.money.body, list, (x) => x.refund_no + x.kind, (x) => ({
    node: h('tr', {}, td(x.kind), td(x.order_no), td(x.method === 'alipay' ? yuan(x.amount) : num(x.amount), 'num'), td(time(x.since_ms)), td(x.detail ?? '', 'wrap'), h('td', {},
      x.kind === 'refused_refund' && acts(t('retry'), () => ask(t('askRetryRefund', x.refund_no), { path: `/refunds/${x.refund_no}/retry` })),
      x.kind !== 'surplus_payment' && acts(t('settle'), () => ask(t('askSettle', x.refund_no, num(x.amount)), { path: `/refunds/${x.refund_no}/settle`, danger: true }), 'danger'))),
  }))
}

/** @param {Event} e */
async function lookUp(e) {
  e.preventDefault()
  const q = String(new FormData(/** @type {any} */ (e.target)).get('q')).trim()
  ui.found.replaceChildren(h('p', { class: 'quiet' }, '…'))
  const order = /^\d{15,19}$/.test(q) ? await api('GET', '/orders/' + q) : null
  if (order?.ok) { showOrder(order.body); return }
  let orders = []
  for (const by of ['user', 'trade']) {
    const r = await api('GET', `/orders?${by}=${encodeURIComponent(q)}`)
    if (r.ok) orders.push(...r.body.orders)
  }
  const made = table('order', 'item', 'who', 'state', 'amount', 'when')
  made.body.append(...orders.map((o) => h('tr', {}, h('td', {}, h('button', { type: 'button', onclick: async () => { const r = await api('GET', '/orders/' + o.order_no); if (r.ok) showOrder(r.body); else tell(t('failed', why(r))) } }, o.order_no)), td(o.item_id), td(o.user), td(o.status), td(yuan(o.amount_fen), 'num'), td(time(o.reserved_at_ms)))))
  ui.found.replaceChildren(orders.length ? made.node : h('p', {}, t('nothing')))
}
/** @param {any} x */
async function showOrder(x) {
  const o = x.order, made = table('when', 'action', 'reason')
  made.body.append(...x.events.map((/** @type {any} */ e) => h('tr', {}, td(time(e.at_ms)), td(e.event), td(e.detail ?? '', 'wrap'))))
  ui.found.replaceChildren(h('h3', {}, `${o.order_no} · ${o.user} · ${o.status}`), h('dl', {}, ...[['item', o.item_id], ['amount', yuan(o.amount_fen)], ['held', o.quantity], ['reason', o.reason ?? '–']].flatMap(([k, v]) => [h('dt', {}, t(k)), h('dd', {}, String(v))])), made.node,
    h('p', {}, acts(t('cancelOrder'), () => ask(t('askCancelOrder', o.order_no, o.quantity), { path: `/orders/${o.order_no}/cancel`, danger: true, body: () => ({}), after: async () => { const r = await api('GET', '/orders/' + o.order_no); if (r.ok) showOrder(r.body) } }), 'danger')))
}

/** @param {string} [before] */
async function loadLog(before) {
  const r = await api('GET', '/actions?limit=20' + (before ? '&before=' + before : ''))
  if (!r.ok) return
  ui.cursor = r.body.next_cursor
  ui.older.hidden = !ui.cursor
  const rows = r.body.actions.map((/** @type {any} */ a) => h('tr', {}, td(time(a.at_ms)), td(a.who), td(a.action), td([a.target, a.detail].filter(Boolean).join(' '), 'wrap'), td(a.outcome ?? t('unknown'), !a.outcome ? 'warn' : a.outcome.startsWith('2') || a.outcome === 'done' ? 'good' : 'bad')))
  if (!before) ui.log.body.replaceChildren()
  ui.log.body.append(...rows)
}

/** How long an update takes with so many items and frames: for the tests. @param {number} items @param {number} points */
/** @type {any} */ (window).boardLoad = (/** @type {number} */ items, /** @type {number} */ points) => {
  const [was, had] = [board, frames]
  frames = Array.from({ length: points }, (_, n) => ({ at_ms: 1000 * n, v: Object.fromEntries(Object.keys(was.frame.v).map((k) => [k, Math.sin(n) + 1])) }))
  const many = (/** @type {number} */ n) => Array.from({ length: items }, (_, i) => ({ ...was.items[0], id: String(1e6 + i), stock: (i + n) % 100, history: Array.from({ length: 120 }, (_, k) => (k * n) % 100) }))
  let took = 0
  for (const n of [1, 2, 3, 4, 5, 6]) {
    board = { ...was, items: many(n) }
    const began = performance.now()
    paint()
    took = performance.now() - began
  }
  ;[board, frames] = [was, had]
  paint()
  return took
}

// The feed.
let pause = 500
function listen() {
  const socket = new WebSocket(location.origin.replace(/^http/, 'ws') + '/v1/admin/live', ['flashsale'])
  socket.onmessage = (e) => {
    const message = JSON.parse(e.data)
    pause = 500
    if (message.history) { frames = message.history; return }
    heardAt = performance.now()
    if (holding) return
    board = message
    if (frames[frames.length - 1]?.at_ms !== board.frame.at_ms) frames.push(board.frame)
    if (frames.length > 600) frames.splice(0, frames.length - 600)
    paint()
  }
  socket.onclose = () => { setTimeout(async () => { if ((await api('GET', '/session')).status === 401) { location.reload(); return } listen() }, pause * (0.5 + Math.random())); pause = Math.min(8000, pause * 2) }
}

function logIn() {
  const problem = h('p', { class: 'bad', role: 'alert' }, '')
  top_.replaceChildren(h('h1', {}, t('title')), h('span', { class: 'space' }), h('button', { type: 'button', lang: lang === 'zh' ? 'en' : 'zh-CN', onclick: switchLang }, lang === 'zh' ? 'English' : '中文'))
  main.replaceChildren(h('section', { class: 'login' }, h('form', { onsubmit: async (/** @type {any} */ e) => {
    e.preventDefault()
    const f = new FormData(e.target), r = await api('POST', '/session', { token: f.get('token'), name: f.get('name') })
    if (r.ok) start()
    else say(problem, t('failed', why(r)))
  } }, h('h2', {}, t('logIn')), field(t('name'), 'name', { autocomplete: 'username', pattern: '[A-Za-z0-9_.@+\\-]{1,64}' }), field(t('token'), 'token', { type: 'password', autocomplete: 'current-password', required: true }), h('p', { class: 'quiet' }, t('loginNote')), problem, h('button', { class: 'main' }, t('logIn')))))
}

async function start() {
  const r = await api('GET', '/session')
  if (!r.ok) { logIn(); return }
  me = r.body
  build()
  listen()
  setInterval(paint, 1000)
}
start()
