// smoke: one shopper after the other sees the sale, buys, waits for the promise, tries again.
import http from 'k6/http';
import exec from 'k6/execution';
import { base, item, headers, buy, judged, wrong, trends, summary } from './lib.js';

export { summary as handleSummary };
const shoppers = 20;
export const options = {
  summaryTrendStats: trends,
  scenarios: { smoke: { executor: 'shared-iterations', vus: 2, iterations: shoppers, maxDuration: '60s' } },
  thresholds: judged({
    flash_accepted: [`count==${shoppers}`], flash_duplicate: [`count==${shoppers}`], iterations: [`count==${shoppers}`],
  }),
};

export default function () {
  const user = exec.scenario.iterationInTest;
  const get = (path, who = user) => http.get(base + path, { headers: headers(who), tags: { name: path.split('/')[2] } });
  if (get('/v1/me').status !== 200) wrong('a shopper is not known');
  if (get(`/v1/items/${item}`).json('state') !== 'open') wrong('the item is not open');
  const { order } = buy(user);
  const held = get(`/v1/orders/${order}?wait=10s`);
  if (held.status !== 200 || held.json('status') !== 'unpaid') wrong(`order ${order} is not confirmed: ${held.body}`);
  if (get(`/v1/orders/${order}`, user + shoppers).status !== 404) wrong('a foreign order is shown');
  if (buy(user).order !== order) wrong('the duplicate does not name the order that is held');
}
