// lifecycle: buy, watch over websocket, cancel once confirmed, see it cancelled, buy again.
import http from 'k6/http';
import exec from 'k6/execution';
import { WebSocket } from 'k6/websockets';
import { accepted, base, buy, cancelled, headers, judged, wrong, trends, summary } from './lib.js';

export { summary as handleSummary };
const shoppers = 50;
export const options = {
  summaryTrendStats: trends,
  scenarios: { lifecycle: { executor: 'shared-iterations', vus: 10, iterations: shoppers, maxDuration: '60s' } },
  thresholds: judged({
    flash_accepted: [`count==${2 * shoppers}`], flash_cancelled: [`count==${shoppers}`], ws_sessions: [`count==${shoppers}`],
  }),
};

export default function () {
  const user = exec.scenario.iterationInTest;
  const { order } = buy(user);
  const seen = [];
  const socket = new WebSocket(`${base.replace(/^http/, 'ws')}/v1/orders/${order}/events`, null, { headers: headers(user) });
  const patience = setTimeout(() => { wrong(`order ${order}: only saw ${seen}`); socket.close(); }, 20000);
  socket.addEventListener('error', (event) => wrong(`websocket: ${event.error}`));
  socket.addEventListener('message', (event) => {
    const { status } = JSON.parse(event.data);
    seen.push(status);
    if (status === 'unpaid' && !seen.includes('cancelled') && seen.indexOf('unpaid') === seen.length - 1) {
      const answer = http.del(`${base}/v1/orders/${order}`, null, { headers: headers(user), tags: { name: 'cancel' } });
      if (answer.status === 200) cancelled.add(1); else wrong(`cancel: ${answer.body}`);
    }
    if (status === 'cancelled') {
      clearTimeout(patience);
      socket.close();
      again(user, order, 100);
    }
  });
}

// The unit is back on sale a moment after the cancel: until then the old order still counts.
function again(user, order, tries) {
  const answer = http.post(`${base}/v1/items/${__ENV.BENCH_ITEM}/orders`, null, { headers: headers(user), tags: { name: 'again' } });
  if (answer.status === 409 && tries > 0) { setTimeout(() => again(user, order, tries - 1), 100); return; }
  if (answer.status === 202 && answer.json('order_no') !== order) accepted.add(1);
  else wrong(`after the cancel: ${answer.body}`);
}
