// @ts-check
import { h, say, mark } from './dom.js'
import { t, num } from './words.js'

const W = 600, H = 100
/** @typedef {{key: string, name: string, times?: number}} Series */
/** @type {[string, Series[]][]} */
const plan = [
  ['c.decisions', [{ key: 'reserve_outcomes', name: 's.all' }, { key: 'reserve_outcomes/sold_out', name: 's.sold_out' }, { key: 'reserve_outcomes/accepted', name: 's.accepted' }]],
  ['c.backlog', [{ key: 'stream_length', name: 's.orders' }, { key: 'stream_oldest_seconds', name: 's.oldest' }, { key: 'stream_pending', name: 's.pending' }]],
  ['c.script', [{ key: 'reserve_script_seconds/p50', name: 's.p50', times: 1000 }, { key: 'reserve_script_seconds/p99', name: 's.p99', times: 1000 }]],
  ['c.persist', [{ key: 'persist_seconds/p50', name: 's.p50', times: 1000 }, { key: 'persist_seconds/p99', name: 's.p99', times: 1000 }]],
  ['c.batch', [{ key: 'reserve_batch_size/p50', name: 's.p50' }, { key: 'reserve_batch_size/p99', name: 's.p99' }]],
  ['c.lane', [{ key: 'lane_depth', name: 's.depth' }]],
  ['c.persisted', [{ key: 'persisted_orders', name: 's.persisted' }, { key: 'rejected_orders', name: 's.rejected' }, { key: 'cancelled_orders', name: 's.cancelled' }]],
  ['c.money', [{ key: 'payments', name: 's.payments' }, { key: 'refunds', name: 's.refunds' }, { key: 'outbox_waiting', name: 's.outbox' }]],
]

export function charts() {
  const node = h('div', { class: 'charts' })
  const drawn = plan.map(([title, series]) => {
    const lines = series.map((_, n) => h('polyline', { class: 's' + (n + 1), points: '' }))
    const values = series.map((s, n) => h('span', { class: 's' + (n + 1) }, ''))
    const svg = h('svg', { class: 'chart', viewBox: `0 0 ${W} ${H}`, preserveAspectRatio: 'none', role: 'img' },
      h('line', { class: 'grid', x1: '0', x2: String(W), y1: String(H - 1), y2: String(H - 1) }), h('line', { class: 'grid', x1: '0', x2: String(W), y1: '1', y2: '1' }), ...lines)
    const top = h('span', {}, '')
    node.append(h('figure', {}, h('figcaption', {}, h('b', {}, t(title)), ...values), svg, h('div', { class: 'axis' }, h('span', {}, t('minutes', 10)), top, h('span', {}, t('now')))))
    return { title, series, lines, values, svg, top }
  })
  /** @param {{at_ms: number, v: Record<string, number>}[]} frames */
  function update(frames) {
    const end = frames.length ? frames[frames.length - 1].at_ms : 0
    for (const c of drawn) {
      let high = 0
      const all = c.series.map((s) => frames.map((f) => { const v = (f.v[s.key] ?? 0) * (s.times ?? 1); if (v > high) high = v; return v }))
      c.lines.forEach((line, n) => {
        const parts = new Array(frames.length)
        for (let i = 0; i < frames.length; i++) parts[i] = (W + (frames[i].at_ms - end) / 1000).toFixed(0) + ',' + (H - 2 - (H - 4) * all[n][i] / (high || 1)).toFixed(1)
        line.setAttribute('points', parts.join(' '))
        say(c.values[n], t(c.series[n].name) + ' ' + num(all[n][all[n].length - 1] ?? 0))
      })
      say(c.top, '↑ ' + num(high))
      mark(c.svg, 'aria-label', t('chartText', t(c.title), c.values.map((v) => v.textContent).join(', '), num(high), Math.ceil(frames.length / 60)))
    }
  }
  return { node, update }
}

/** The burn-down of an item. @param {any} svg @param {number[]} history @param {number} total */
export function burn(svg, history, total) {
  const step = 120 / Math.max(1, history.length - 1)
  mark(svg.firstChild, 'points', history.map((v, i) => (i * step).toFixed(1) + ',' + (24 - 22 * v / Math.max(1, total)).toFixed(1)).join(' '))
  mark(svg, 'aria-label', history.length ? `${num(history[0])} → ${num(history[history.length - 1])}` : '–')
}
