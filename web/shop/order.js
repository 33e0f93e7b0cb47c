// An order from its reservation to its end, and the list of all.
// @ts-check

import { between, everyTick, follow, get, insist, newKey, now, rest } from './api.js';
import { announce, button, byId, h, link, put, question, turn, write } from './page.js';
import { count, moment, pick, price, recall, remember, say, sayCode, span } from './words.js';

/** @typedef {import('./shop.js').Shop} Shop */
/** @typedef {import('./words.js').Word} Word */

const steps = /** @type {const} */ (['reserved', 'confirmed', 'paid']);
const reached = { pending: 1, unpaid: 2, paid: 3, refunding: 3, refunded: 3, cancelled: 2, rejected: 1 };
const warnAt = 60_000; // left to pay

/** Asks for a login where one is needed. @param {Shop} shop @param {HTMLElement} main */
function locked(shop, main) {
  put(main, h('h1', {}, say('orders')), h('p', {}, say('needLogin')),
    button(say('login'), async () => { if (await shop.login()) shop.go(location.pathname + location.search); }, { className: 'main' }));
}

/** @param {Shop} shop @param {HTMLElement} main @param {string} no @param {string} item */
export function order(shop, main, no, item) {
  if (!shop.user) return locked(shop, main);
  /** @type {any} */
  let known = null;
  let busy = '';
  let warned = false;
  const title = h('h1', {}, say('order', { no }));
  const progress = h('ol', { className: 'steps' });
  const text = h('p', { className: 'lead' });
  const timer = h('p', { className: 'timer', role: 'timer', hidden: true });
  const note = h('p', { className: 'note', hidden: true });
  const acts = h('div', { className: 'acts' });
  const balance = h('small', { hidden: true }); // comes late, and must not replace a button that is being pressed
  const facts = h('dl');
  const picture = h('div', { className: 'picture' });
  put(main, h('article', { className: 'order' }, picture, title, progress, text, timer, acts, note,
    h('section', { 'aria-label': say('history') }, h('h2', {}, say('history')), facts)));
  write(text, say('starting'));

  /** @param {string} said */
  const tell = (said) => { write(note, said); if (said) announce(said, true); };

  /** Sends an act once, however often it must be asked. @param {string} name @param {string} method @param {string} path @param {object} [body] */
  const send = async (name, method, path, body) => {
    if (busy) return null;
    busy = name;
    for (const each of acts.querySelectorAll('button')) turn(each, true);
    tell('');
    const answer = await insist(method, `orders/${no}${path}?item=${known.item_id}`, { body, key: newKey(), signal: shop.signal },
      (tries, offline) => tell(offline ? say('offline') : say('lost')));
    busy = '';
    if (shop.signal.aborted) return null;
    for (const each of acts.querySelectorAll('button')) turn(each, false);
    if (answer.status >= 400 || answer.status === 0) {
      tell(answer.status === 0 ? say('gaveUp') : sayCode(answer.code));
      return null;
    }
    return answer.body;
  };

  const pay = async (/** @type {string} */ method) => {
    remember(`paying-${no}`, ''); // an earlier try is over
    const body = await send(method, 'POST', '/payments', { method });
    if (shop.signal.aborted) return;
    if (!body) return render();
    if (body.pay_url) {
      remember(`paying-${no}`, String(now()));
      location.assign(body.pay_url);
    } else if (body.status) heard({ ...known, status: body.status });
  };

  const cancel = async () => {
    if (!await question(say('cancelAsk'), [h('p', {}, say('cancelText'))], say('cancel'), say('keep'))) return;
    const body = await send('cancel', 'DELETE', '');
    if (body) heard({ ...known, ...body });
  };

  const refund = async () => {
    const form = await question(say('refundAsk'), [h('p', {}, say('refundText')),
      h('label', { htmlFor: 'reason' }, say('reason')), h('input', { id: 'reason', name: 'reason', maxLength: 200 })],
    say('refund'), say('keep'));
    if (!form) return;
    const reason = String(form.get('reason'));
    const body = await send('refund', 'POST', '/refunds', reason ? { reason } : {});
    if (body?.status) heard({ ...known, status: body.status });
  };

  /** @param {any} told */
  function heard(told) {
    const before = known?.status;
    known = { ...known, ...told };
    const { status } = known;
    if (before && before !== status) {
      write(note, ''); // of what was before
      announce(say(/** @type {Word} */ (status)), true);
    }
    render();
  }

  function render() {
    const { status } = known;
    if (known.product) write(title, pick(known.product, known.names));
    if (known.image_url && !picture.firstChild) put(picture, h('img', { src: known.image_url, alt: '', width: 320, height: 240 }));
    const at = reached[/** @type {keyof typeof reached} */ (status)] ?? 0;
    put(progress, steps.map((step, n) => h('li', {
      className: n < at ? 'done' : '', 'aria-current': n === Math.min(at, steps.length) - 1 && 'step',
    }, say(step))));
    main.dataset.status = status;
    const waiting = status === 'unpaid' && Number(recall(`paying-${no}`)) > now() - 120_000;
    write(text, {
      pending: say('pendingText'), unpaid: waiting ? say('waiting') : say('unpaid'), paid: say('paidText'),
      refunding: say('refundingText'), refunded: say('refundedText'), rejected: say('rejectedText'),
      cancelled: known.reason === 'pay_timeout' ? say('timeoutText') : say('cancelledText'),
    }[/** @type {string} */ (status)] ?? status);
    const focused = acts.contains(document.activeElement) ? document.activeElement?.id : '';
    put(acts,
      status === 'unpaid' && shop.methods.includes('alipay') && known.amount_fen > 0 &&
        button(say('payAlipay', { price: price(known.amount_fen) }), () => pay('alipay'), { className: 'main', id: 'alipay' }),
      status === 'unpaid' && shop.methods.includes('points') && known.amount_points > 0 &&
        button(say('payPoints', { n: count(known.amount_points) }), () => pay('points'), { id: 'points' }),
      status === 'unpaid' && known.amount_points > 0 && balance,
      status === 'unpaid' && button(say('cancel'), cancel, { id: 'cancel', className: 'plain' }),
      status === 'paid' && button(say('refund'), refund, { id: 'refund' }));
    if (focused) (byId(focused) ?? main).focus();
    put(facts, [
      [say('orderNo'), no], known.amount_fen !== undefined && [say('amount'), `${say('quantity', { n: known.quantity })} ${price(known.amount_fen / known.quantity)}`],
      known.reserved_at_ms && [say('reserved'), moment(known.reserved_at_ms)],
      known.created_at_ms && [say('confirmed'), moment(known.created_at_ms)],
      status !== 'pending' && status !== 'unpaid' && known.updated_at_ms && [say(/** @type {Word} */ (status)), moment(known.updated_at_ms)],
    ].filter(Boolean).map((pair) => [h('dt', {}, /** @type {string[]} */ (pair)[0]), h('dd', {}, /** @type {string[]} */ (pair)[1])]).flat());
    tick();
  }

  function tick() {
    if (known?.status !== 'unpaid' || !known.pay_deadline_ms) return write(timer, '');
    const left = known.pay_deadline_ms - now();
    write(timer, left > 0 ? `${say('payBefore')} ${span(left)}` : say('payLate'));
    timer.classList.toggle('soon', left < warnAt);
    if (left < warnAt && left > 0 && !warned) {
      warned = true;
      announce(say('paySoon', { clock: span(left) }), true);
    }
  }
  everyTick(tick, shop.signal);

  (async () => {
    const first = await insist('GET', `orders/${no}${item ? `?item=${item}` : ''}`, { signal: shop.signal }, () => write(text, say('lost')));
    if (shop.signal.aborted) return;
    if (first.status === 401) return shop.out();
    if (first.status !== 200) return write(text, first.status === 404 || first.status === 400 ? say('noOrder') : say('gaveUp'));
    heard(first.body);
    if (known.amount_points > 0 || known.status === 'pending') {
      get('points', { signal: shop.signal }).then((answer) => {
        if (answer.status === 200) write(balance, say('balance', { n: count(answer.body.balance) }));
      });
    }
    while (!shop.signal.aborted) {
      await follow(no, known.item_id, known.status, heard, shop.signal);
      if (['cancelled', 'rejected', 'refunded'].includes(known.status)) return;
      await rest(between(4000, 8000), shop.signal);
    }
  })();
}

/** @param {Shop} shop @param {HTMLElement} main */
export function orders(shop, main) {
  if (!shop.user) return locked(shop, main);
  const list = h('ul', { className: 'orders' });
  const note = h('p', { className: 'note' }, say('starting'));
  const more = button(say('more'), () => load(), { hidden: true });
  put(main, h('h1', {}, say('orders')), list, note, more);
  let before = '';
  /** @type {(() => void)[]} */
  const ticks = [];

  /** @param {any} o */
  const row = (o) => {
    const left = h('span', { className: 'timer' });
    if (o.status === 'unpaid') ticks.push(() => write(left, o.pay_deadline_ms > now() ? span(o.pay_deadline_ms - now()) : ''));
    else left.hidden = true;
    return h('li', {}, link(`/orders/${o.order_no}?item=${o.item_id}`, o.product ? pick(o.product, o.names) : say('order', { no: o.order_no })),
      h('span', { className: 'badge' }, say(/** @type {Word} */ (o.status))), left,
      h('small', {}, `${o.amount_fen ? `${price(o.amount_fen)} · ` : ''}${moment(o.reserved_at_ms ?? o.created_at_ms ?? now())}`));
  };

  const load = async () => {
    turn(more, true);
    const answer = await insist('GET', `orders${before ? `?before=${before}` : ''}`, { signal: shop.signal }, () => write(note, say('lost')));
    if (shop.signal.aborted) return;
    turn(more, false);
    if (answer.status === 401) return shop.out();
    if (answer.status !== 200) return write(note, say('gaveUp'));
    list.append(...answer.body.orders.map(row));
    before = answer.body.next_cursor ?? '';
    more.hidden = !before;
    write(note, list.children.length ? '' : say('noOrders'));
    for (const each of ticks) each();
  };
  everyTick(() => { for (const each of ticks) each(); }, shop.signal);
  load();
}
