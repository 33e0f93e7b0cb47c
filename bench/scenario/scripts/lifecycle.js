// lifecycle: buy, watch by websocket until the order is confirmed, and then go one of the ways:
//   alipay   pay on Alipay's page, which must be a sandbox's; ask for the money back
//   points   pay with points; ask for them back
//   cancel   cancel the order, buy again
//   timeout  let the time to pay run out, buy again, let that run out too
// Shoppers take turns at the ways named in BENCH_WAYS. timeout buys BENCH_HASTY_ITEM, whose time
// to pay is short; the others buy BENCH_ITEM.
import http from 'k6/http';
import exec from 'k6/execution';
import { Counter } from 'k6/metrics';
import { WebSocket } from 'k6/websockets';
import { ask, base, buy, count, env, headers, item, judged, wrong, trends, summary } from './lib.js';

export { summary as handleSummary };
const hasty = env('BENCH_HASTY_ITEM', '');
const ways = env('BENCH_WAYS', 'cancel').split(',');
const each = 12;
const shoppers = each * ways.length;
const going = (way) => (ways.includes(way) ? each : 0);

const paid = { alipay: new Counter('flash_paid_alipay'), points: new Counter('flash_paid_points') };
const refunded = new Counter('flash_refunded');
const cancelled = new Counter('flash_cancelled');
const timedOut = new Counter('flash_timed_out');
const dropped = new Counter('flash_dropped_by_k6'); // see watch

export const options = {
  summaryTrendStats: trends,
  scenarios: { lifecycle: { executor: 'shared-iterations', vus: each, iterations: shoppers, maxDuration: '60s' } },
  thresholds: judged({
    flash_accepted: [`count==${shoppers + going('cancel') + going('timeout')}`],
    flash_paid_alipay: [`count==${going('alipay')}`],
    flash_paid_points: [`count==${going('points')}`],
    flash_refunded: [`count==${going('alipay') + going('points')}`],
    flash_cancelled: [`count==${going('cancel')}`],
    flash_timed_out: [`count==${2 * going('timeout')}`],
    ws_sessions: [`count==${shoppers + going('timeout')}`],
  }),
};

export default function () {
  const user = exec.scenario.iterationInTest;
  const way = ways[user % ways.length];
  const from = way === 'timeout' ? hasty : item;
  const { order } = buy(user, undefined, from);
  if (order) follow[way](user, order, from);
}

const follow = {
  alipay: (user, order) => payAndRefund(user, order, 'alipay', (answer) => visit(answer.json('pay_url'), order)),
  points: (user, order) => payAndRefund(user, order, 'points', (answer) => {
    if (answer.json('status') !== 'paid') wrong(`points: ${answer.body}`);
  }),
  cancel: (user, order, from) => watch(user, order, {
    unpaid: () => {
      const answer = http.del(`${base}/v1/orders/${order}`, null, { headers: headers(user), tags: { name: 'cancel' } });
      if (answer.status !== 200) wrong(`cancel: ${answer.body}`);
    },
    cancelled: () => { cancelled.add(1); again(user, order, from, () => {}); },
  }),
  timeout: (user, order, from) => watch(user, order, {
    cancelled: (event) => {
      lapsed(event);
      again(user, order, from, (second) => watch(user, second, { cancelled: lapsed }));
    },
  }),
};

function lapsed(event) {
  if (event.reason === 'pay_timeout') timedOut.add(1); else wrong(`ran out, but: ${JSON.stringify(event)}`);
}

function payAndRefund(user, order, method, pay) {
  watch(user, order, {
    unpaid: () => demand(user, order, 'payments', { method }, pay),
    paid: () => {
      paid[method].add(1);
      demand(user, order, 'refunds', { reason: 'the wrong colour' }, () => {});
    },
    refunded: () => refunded.add(1),
  });
}

function demand(user, order, what, body, then) {
  const answer = http.post(`${base}/v1/orders/${order}/${what}`, JSON.stringify(body), {
    headers: Object.assign(headers(user), { 'Content-Type': 'application/json' }), tags: { name: what },
  });
  if (answer.status === 200 || answer.status === 202) then(answer); else wrong(`${what}: ${answer.body}`);
}

// visit opens Alipay's page and presses Pay, as the shopper does, and is led back to the order's
// page. That one belongs to the shop, which need not be served here: it is not asked for.
function visit(page, order) {
  const shown = http.get(page, { tags: { name: 'pay page' } });
  if (shown.status !== 200) return wrong(`pay page: ${shown.status} ${shown.body}`);
  const back = shown.submitForm({ fields: { action: 'pay' }, params: { redirects: 1, tags: { name: 'pay' } } });
  const to = back.headers['Location'] || '';
  if (back.status !== 302 || !to.includes(order)) wrong(`pay: ${back.status} ${to} ${back.body}`);
}

const final = ['cancelled', 'rejected', 'refunded'];

// watch follows an order to its end and calls what is meant for a status the first time it is
// seen; the first status may have been overtaken. At the end the server closes the socket; an
// iteration lasts until then.
function watch(user, order, steps) {
  const seen = [];
  const see = (event) => {
    if (seen.includes(event.status)) return;
    seen.push(event.status);
    if (steps[event.status]) steps[event.status](event);
    else if (final.includes(event.status)) wrong(`order ${order} ends as ${JSON.stringify(event)}`);
  };
  // k6 drops a message that is there before it has told us of the open socket: no fault of the
  // server's, whose first message comes that fast. Every later one must come by the socket.
  const look = () => {
    if (seen.length > 0) return;
    dropped.add(1);
    see(http.get(`${base}/v1/orders/${order}`, { headers: headers(user), tags: { name: 'order' } }).json());
  };
  const socket = new WebSocket(`${base.replace(/^http/, 'ws')}/v1/orders/${order}/events`, null, { headers: headers(user) });
  // Only a timer that is far from due is ever cleared: if k6 has begun to call the one that is
  // cleared, it calls the next one too early instead.
  const patience = setTimeout(() => socket.close(), 30000);
  socket.addEventListener('open', () => setTimeout(look, 500));
  socket.addEventListener('error', (event) => wrong(`order ${order}: ${event.error}`));
  socket.addEventListener('message', (message) => see(JSON.parse(message.data)));
  socket.addEventListener('close', (event) => {
    clearTimeout(patience);
    look();
    if (!final.includes(seen[seen.length - 1])) wrong(`order ${order}: closed with ${event.code} after ${seen}`);
  });
}

// again buys again. The unit is back on sale a moment after the end of the order: until then
// that still counts.
function again(user, order, from, then, tries = 100) {
  const answer = ask(user, undefined, from);
  if (answer.code === 'duplicate_order' && tries > 0) {
    setTimeout(() => again(user, order, from, then, tries - 1), 100);
    return;
  }
  count(answer);
  if (answer.status === 202 && answer.order !== order) then(answer.order);
  else wrong(`after the end of ${order}: ${JSON.stringify(answer)}`);
}
