// How the page talks to the shop: requests, retries that keep their key, the shop's clock, and word of an order.

/** @typedef {{ status: number, body: any, code: string, after: number }} Answer  status 0: no answer; after: ms */
/** @typedef {{ body?: object, key?: string, signal?: AbortSignal, timeout?: number }} Options */

/** @param {string} method @param {string} path @param {Options} [options] @returns {Promise<Answer>} */
export async function ask(method, path, { body, key, signal, timeout = 10_000 } = {}) {
  /** @type {Record<string, string>} */
  const headers = {};
  if (body) headers['Content-Type'] = 'application/json';
  if (key) headers['Idempotency-Key'] = key;
  const until = AbortSignal.timeout(timeout);
  try {
    const response = await fetch('/v1/' + path, {
      method, headers, body: body && JSON.stringify(body), signal: signal ? AbortSignal.any([signal, until]) : until,
    });
    const answer = await response.json().catch(() => ({}));
    return {
      status: response.status, body: answer, code: answer.code ?? '',
      after: 1000 * Number(response.headers.get('Retry-After') ?? 0),
    };
  } catch {
    return { status: 0, body: {}, code: 'offline', after: 0 };
  }
}

/** @param {string} path @param {Options} [options] */
export const get = (path, options) => ask('GET', path, options);

/** Whether the same request may get another answer a moment later. @param {Answer} a */
export const passing = (a) => a.status === 0 || a.status === 408 || a.status === 429 || a.status >= 500;

/** @param {number} from @param {number} to */
export const between = (from, to) => from + Math.random() * (to - from);

/** Resolves after some ms, or once the signal says so. @param {number} ms @param {AbortSignal} [signal] */
export const rest = (ms, signal) => new Promise((resolve) => {
  const timer = setTimeout(resolve, ms);
  signal?.addEventListener('abort', () => { clearTimeout(timer); resolve(0); }, { once: true });
});

/** Resolves at once, or when the browser is online again. @param {AbortSignal} [signal] */
const online = (signal) => new Promise((resolve) => {
  if (navigator.onLine) return resolve(0);
  addEventListener('online', resolve, { once: true, signal });
  signal?.addEventListener('abort', resolve, { once: true });
});

const triesMax = 8;

/**
 * Asks until there is a word that counts, each time with the same key, which is what makes asking again safe.
 * @param {string} method @param {string} path @param {Options} options
 * @param {(tries: number, offline: boolean) => void} [told] hears of each pause
 */
export async function insist(method, path, options, told) {
  for (let tries = 1; ; tries++) {
    const answer = await ask(method, path, options);
    if (!passing(answer) || tries >= triesMax || options.signal?.aborted) return answer;
    if (!navigator.onLine) {
      told?.(tries, true);
      await online(options.signal);
      tries = 1;
    } else {
      told?.(tries + 1, false);
    }
    await rest(Math.max(answer.after, between(0.4, 1) * Math.min(5000, 400 * 2 ** tries)), options.signal);
  }
}

export const newKey = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, '0')).join('');

// The shop's clock. The device's own may be minutes wrong, so it is only used to count: each sample bounds
// how far the shop's is ahead of it, and the bounds of all samples hold together.
let least = -Infinity;
let most = Infinity;
let drift = 0;

/** The time by which the shop opens, in ms. */
export const now = () => (least === -Infinity ? Date.now() : performance.now() + (least + most) / 2);

/** Takes samples anew. */
export async function setClock() {
  let [low, high] = [-Infinity, Infinity];
  for (let n = 0; n < 3; n++) {
    const sent = performance.now();
    const answer = await get('time', { timeout: 5000 });
    const received = performance.now();
    if (answer.status !== 200) continue;
    const server = answer.body.server_time_ms;
    const [from, to] = [server - received, server + 1 - sent];
    if (from > high || to < low) [low, high] = [from, to]; // one of the clocks was set: the latest counts
    else [low, high] = [Math.max(low, from), Math.min(high, to)];
  }
  if (low > -Infinity) [least, most] = [low, high];
  drift = Date.now() - performance.now();
}

/** Notices that the device slept, or that somebody set its clock. */
export const clockMoved = () => Math.abs(Date.now() - performance.now() - drift) > 1500;

/** Calls back ten times a second until the signal. @param {() => void} call @param {AbortSignal} signal */
export function everyTick(call, signal) {
  const timer = setInterval(call, 100);
  signal.addEventListener('abort', () => clearInterval(timer));
  call();
}

/** Resolves when somebody looks at the page: hidden ones rest. @param {AbortSignal} signal */
export const looked = (signal) => new Promise((resolve) => {
  if (!document.hidden) return resolve(0);
  const look = () => { if (!document.hidden) resolve(0); };
  document.addEventListener('visibilitychange', look, { signal });
  signal.addEventListener('abort', resolve);
});

/** A signal that also ends when the page is hidden. @param {AbortSignal} signal */
function whileSeen(signal) {
  const seen = new AbortController();
  document.addEventListener('visibilitychange', () => { if (document.hidden) seen.abort(); }, { signal });
  return AbortSignal.any([signal, seen.signal]);
}

const final = ['cancelled', 'rejected', 'refunded'];

/**
 * Tells each state that an order comes to, until it is final: by websocket, or else by long poll with the
 * state that is known, or else by asking now and then.
 * @param {string} no @param {string} item "" when not known
 * @param {string} known @param {(order: any) => void} tell @param {AbortSignal} signal
 */
export async function follow(no, item, known, tell, signal) {
  const query = item ? `item=${item}` : '';
  let sockets = 3; // attempts
  let pause = 1000;
  const read = async (/** @type {string} */ wait, /** @type {AbortSignal} */ seen) => {
    const answer = await get(`orders/${no}?${query}${wait}`, { signal: seen, timeout: 35_000 });
    if (answer.status === 200 && answer.body.status !== known) {
      known = answer.body.status;
      tell(answer.body);
    }
    return answer;
  };
  while (!signal.aborted && !final.includes(known)) {
    await looked(signal);
    if (signal.aborted) return;
    const seen = whileSeen(signal);
    if (sockets > 0) {
      const opened = await socket(`orders/${no}/events?${query}`, async (status) => {
        if (status !== known) await read('', seen);
        return final.includes(known);
      }, seen);
      sockets = opened ? sockets - 1 : 0;
      if (document.hidden) sockets = 3; // closed by us
      else if (!final.includes(known)) await rest(between(0, 500), signal);
      continue;
    }
    const answer = await read(`&wait=25s&status=${known}`.slice(query ? 0 : 1), seen);
    if (signal.aborted || answer.status === 404 || answer.status === 401) return;
    pause = answer.status === 200 ? 1000 : Math.min(8000, 2 * pause);
    await rest(answer.status === 200 ? 0 : Math.max(answer.after, between(0.5, 1) * pause), signal);
  }
}

/**
 * Resolves when the socket has closed, with whether it had been open.
 * @param {string} path @param {(status: string) => Promise<boolean>} hear @param {AbortSignal} signal
 * @returns {Promise<boolean>}
 */
const socket = (path, hear, signal) => new Promise((resolve) => {
  let opened = false;
  const ws = new WebSocket(`${location.origin.replace(/^http/, 'ws')}/v1/${path}`);
  ws.onopen = () => { opened = true; };
  ws.onmessage = async (event) => { if (await hear(JSON.parse(event.data).status)) ws.close(); };
  ws.onclose = () => resolve(opened);
  signal.addEventListener('abort', () => ws.close());
});
