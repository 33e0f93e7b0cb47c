// What every scenario shares: who asks, what is asked, and how answers are counted. Variables:
//   BENCH_URL, BENCH_ITEM    the server, and the item that is sold
//   BENCH_TOKENS             file with a token a line, each of another user; default: generated ones
//   BENCH_STOCK              units of the item
//   BENCH_RATE, BENCH_SECONDS, BENCH_CONNECTIONS   iterations begun a second, how long, requests at once
//   BENCH_CLIENT             http (k6's own), or flash where this k6 has the faster k6/x/flash
//   BENCH_WAYS, BENCH_HASTY_ITEM   what lifecycle.js does, see there
import http from 'k6/http';
import { Counter, Trend } from 'k6/metrics';
import { SharedArray } from 'k6/data';

export const env = (name, fallback) => (__ENV[name] === undefined || __ENV[name] === '' ? fallback : __ENV[name]);

export const base = env('BENCH_URL', 'http://127.0.0.1:8080');
export const item = env('BENCH_ITEM', '');
export const stock = Number(env('BENCH_STOCK', 100));
export const rate = Number(env('BENCH_RATE', 500));
export const seconds = Number(env('BENCH_SECONDS', 5));
// A VU waits for its answer: enough of them for answers of half a second at the full rate.
export const vus = Number(env('BENCH_CONNECTIONS', Math.max(50, Math.ceil(rate / 2))));

// Required and not imported, so that a k6 without it can run these scripts.
const flash = env('BENCH_CLIENT', 'http') === 'flash' ? require('k6/x/flash') : null;

const tokens = env('BENCH_TOKENS', '')
  ? new SharedArray('tokens', () => open(__ENV.BENCH_TOKENS).split('\n').filter((line) => line !== ''))
  : null;

// token is that of the n-th user; generated ones need no memory (target.Token builds the same).
export function token(n) {
  if (tokens === null) return 'bench-' + String(n).padStart(20, '0');
  if (n >= tokens.length) throw new Error(`user ${n} is needed, but there are ${tokens.length} tokens`);
  return tokens[n];
}

// Distinct answers, so that their sums can be compared with what the server holds.
export const accepted = new Counter('flash_accepted'); // orders, each once
export const replayed = new Counter('flash_replayed'); // the same order again, by its key
export const duplicate = new Counter('flash_duplicate');
export const soldOut = new Counter('flash_sold_out');
export const overloaded = new Counter('flash_overloaded');
export const unexpected = new Counter('flash_unexpected'); // an answer that nobody should get
export const violations = new Counter('flash_violations'); // an answer that breaks a promise
export const lag = new Trend('flash_sched_lag', true); // how late k6 itself was; constant rates only

// Refusals are right answers, and so are the redirects of a pay page.
http.setResponseCallback(http.expectedStatuses(200, 202, 302, 303, 404, 409));

export function headers(user, key) {
  const all = { Authorization: 'Bearer ' + token(user) };
  if (key) all['Idempotency-Key'] = key;
  return all;
}

const attempt = (user, key, from = item) => ['POST', `${base}/v1/items/${from}/orders`, null,
  { headers: headers(user, key), tags: { name: 'buy' } }];

// buy asks once and counts the answer.
export const buy = (user, key, from) => count(ask(user, key, from));

// ask asks once and returns the answer uncounted.
export function ask(user, key, from = item) {
  if (flash !== null) return flash.buy(base, from, token(user), key);
  const [method, url, body, params] = attempt(user, key, from);
  return read(http.request(method, url, body, params));
}

// race asks several times at once and returns the answers uncounted.
export function race(user, times, key) {
  return http.batch(Array.from({ length: times }, () => attempt(user, key))).map(read);
}

function read(response) {
  let body = {};
  try { body = response.json(); } catch (_) { /* not JSON: judged by its status */ }
  return { status: response.status, code: body.code, order: body.order_no };
}

export function count(answer) {
  if (answer.status === 202 && answer.order) accepted.add(1);
  else if (answer.code === 'duplicate_order') duplicate.add(1);
  else if (answer.code === 'sold_out') soldOut.add(1);
  else if (answer.code === 'overloaded') overloaded.add(1);
  else wrong(`unexpected answer: ${JSON.stringify(answer)}`, unexpected);
  return answer;
}

let told = 0;
export function wrong(what, counter = violations) {
  counter.add(1);
  if (told++ < 3) console.error(what); // each VU, that is
}

// thresholds that hold everywhere, and those of one scenario. A Trend without samples passes,
// so each scenario adds a Counter that proves that work was done.
export const judged = (own) => Object.assign({
  http_req_failed: ['rate<0.001'],
  flash_unexpected: ['count==0'],
  flash_violations: ['count==0'],
  dropped_iterations: ['count==0'],
}, own);

export const trends = ['med', 'p(95)', 'p(99)', 'p(99.9)', 'max'];

export function summary(data) {
  const path = env('BENCH_SUMMARY', '');
  return path ? { [path]: JSON.stringify(data) } : {};
}

// steadily is an open model: requests come when they are due, answered or not.
export const steadily = (more) => Object.assign({
  executor: 'constant-arrival-rate', rate, timeUnit: '1s', duration: `${seconds}s`,
  preAllocatedVUs: vus, maxVUs: vus, gracefulStop: '10s',
}, more);

// due notes how late the n-th iteration of a scenario begins. Where it began is read once a VU:
// reading it costs more than the rest.
let began = 0;
export function due(scenario, n) {
  if (began === 0) began = scenario.startTime;
  lag.add(Math.max(0, Date.now() - (began + (n * 1000) / rate)));
}
