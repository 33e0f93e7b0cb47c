// The offers: countdown, one press to buy, and what came of it.
// @ts-check

import { between, everyTick, get, insist, looked, newKey, now, rest } from './api.js';
import { announce, button, h, link, put, turn, write } from './page.js';
import { count, moment, pick, price, say, sayCode, span } from './words.js';

/** @typedef {import('./shop.js').Shop} Shop */
/** @typedef {{ key: string, quantity: number }} Attempt  one press, however often it is sent */

const warnings = [300, 60, 10]; // seconds before the opening at which it is announced

/** Shows all offers, or one closely. @param {Shop} shop @param {HTMLElement} main @param {string} only */
export function offers(shop, main, only) {
  const title = h('h1', { className: 'unseen' }, say('shop'));
  const hero = h('p', { className: 'hero', role: 'timer', hidden: true });
  const list = h('div', { className: only ? 'one' : 'cards' });
  const empty = h('p', { className: 'note', hidden: true });
  put(main, title, hero, empty, list);
  /** @type {Map<string, ReturnType<typeof card>>} */
  const cards = new Map();
  /** @type {Set<string>} */
  const whole = new Set(); // sales of which all items are shown
  const more = h('p', { className: 'row' });
  main.append(more);

  /** @param {any[]} items @param {boolean} all */
  const take = (items, all) => {
    const seen = new Set(items.map((item) => item.id));
    for (const [id, each] of cards) {
      if (all && !seen.has(id) && each.free()) { each.element.remove(); cards.delete(id); }
    }
    for (const item of items) {
      const known = cards.get(item.id);
      if (known) known.update(item);
      else {
        const made = card(shop, item, Boolean(only));
        cards.set(item.id, made);
        list.append(made.element);
      }
    }
    write(empty, cards.size ? '' : say('none'));
  };

  /** @param {any[]} sales */
  const offerMore = (sales) => put(more, sales.filter((sale) => sale.item_count > sale.items.length && !whole.has(sale.id))
    .map((sale) => button(say('more'), () => { whole.add(sale.id); look(); })));

  let looks = 0;
  /** @type {import('./api.js').Answer | undefined} */
  let upcoming; // as last read: it changes little, so it is asked for each third time
  const look = async () => {
    if (only) {
      const answer = await get(`items/${only}`, { signal: shop.signal });
      if (answer.status === 200) take([answer.body], false);
      else if (answer.status === 404) write(empty, say('noItem'));
      return;
    }
    const list = (/** @type {string} */ state) => get(`sales?state=${state}`, { signal: shop.signal });
    const [open, next] = await Promise.all([list('open'), looks % 3 && upcoming ? upcoming : list('upcoming')]);
    if (shop.signal.aborted || open.status !== 200 || next.status !== 200) return;
    looks++;
    upcoming = next;
    const opened = new Set(open.body.sales.map((/** @type {any} */ sale) => sale.id));
    const sales = [...open.body.sales, ...next.body.sales.filter((/** @type {any} */ sale) => !opened.has(sale.id))];
    const lists = await Promise.all(sales.map(async (sale) => {
      if (!whole.has(sale.id)) return sale.items;
      const answer = await get(`sales/${sale.id}`, { signal: shop.signal });
      return answer.status === 200 ? answer.body.items : sale.items;
    }));
    if (shop.signal.aborted) return;
    take(lists.flat().sort((a, b) => a.opens_at_ms - b.opens_at_ms || a.id.length - b.id.length || (a.id < b.id ? -1 : 1)), true);
    offerMore(sales);
  };

  everyTick(() => {
    let next;
    for (const each of cards.values()) {
      each.tick();
      const { item } = each;
      if (item.opens_at_ms > now() && (!next || item.opens_at_ms < next.opens_at_ms)) next = item;
    }
    write(hero, !only && next ? `${say('next', { name: pick(next.product, next.names) })} ${span(next.opens_at_ms - now())}` : '');
  }, shop.signal);

  (async () => {
    while (!shop.signal.aborted) {
      await looked(shop.signal);
      await look();
      await rest(between(5500, 8000), shop.signal); // one request in 4 s at most
    }
  })();
}

/**
 * One offer. It opens by the shop's clock, with no word from the shop.
 * @param {Shop} shop @param {any} item @param {boolean} closely
 */
function card(shop, item, closely) {
  const name = () => pick(item.product, item.names);
  let held = '';         // order_no of an order of this shopper's
  let limited = false;   // he holds as many as he may
  let gone = false;      // sold out, as a press was told
  let goneBefore = 0;    // when it was
  let busy = false;      // a press is on its way
  /** @type {Attempt | null} */
  let unanswered = null; // a press that nobody answered
  let warned = Infinity; // seconds before the opening that were announced last
  let note = '';

  const badge = h('span', { className: 'badge' });
  const taken = h('progress', { max: 100, 'aria-label': say('goneLabel') });
  const takenText = h('small');
  const facts = h('p', { className: 'facts' });
  const act = button('', press, { className: 'main buy' });
  const see = link('', say('seeOrder'), { className: 'button', hidden: true });
  const text = h('p', { className: 'note' });
  const many = item.limit > 1 && h('select', { 'aria-label': say('quantity1') },
    Array.from({ length: Math.min(item.limit, 10) }, (_, n) => h('option', { value: n + 1 }, n + 1)));
  const heading = h(closely ? 'h1' : 'h2', {}, closely ? name() : link(`/items/${item.id}`, name()));
  const element = h('article', { className: 'card', id: `item-${item.id}` },
    item.image_url ? h('img', { src: item.image_url, alt: '', width: 320, height: 240, loading: 'lazy', decoding: 'async' })
      : h('div', { className: 'image', 'aria-hidden': 'true' }),
    h('div', { className: 'body' }, badge, heading,
      h('p', { className: 'price' }, h('strong', {}, price(item.price_fen)),
        item.list_price_fen > item.price_fen && h('s', { 'aria-label': say('was', { price: price(item.list_price_fen) }) }, price(item.list_price_fen)),
        item.points_price > 0 && h('small', {}, say('points', { n: count(item.points_price) }))),
      facts,
      closely && item.description && h('p', {}, pick(item.description, item.descriptions)),
      h('p', { className: 'taken' }, taken, takenText),
      h('p', { className: 'row' }, many, act, see), text));

  const state = () => {
    if (now() >= item.closes_at_ms) return 'ended';
    if (item.state === 'paused') return 'paused';
    if (now() < item.opens_at_ms) return 'upcoming';
    return gone || item.state === 'sold_out' ? 'soldOut' : 'open';
  };

  let shown = '';
  const tick = () => {
    const is = state();
    const clock = span(item.opens_at_ms - now());
    if (is === 'upcoming') {
      const seconds = Math.ceil((item.opens_at_ms - now()) / 1000);
      const due = warnings.find((w) => seconds <= w && w < warned && seconds > w - 5);
      if (due) {
        warned = due;
        announce(`${name()}: ${say('opensIn', { clock })}`, due === 10);
      }
    } else if (shown === 'upcoming' && is === 'open') announce(say('isOpen', { name: name() }), true);
    else if (shown === 'soldOut' && is === 'open') {
      note = say('backNote', { name: name() });
      announce(note, true);
    }
    if (shown && shown !== is && is !== 'open') note = '';
    shown = is;

    element.dataset.state = busy ? 'asking' : held ? 'held' : is;
    write(badge, say(is));
    taken.hidden = takenText.hidden = item.left_percent === undefined || is === 'upcoming';
    taken.value = is === 'soldOut' ? 100 : 100 - (item.left_percent ?? 100);
    if (!taken.hidden) write(takenText, say('gone', { n: taken.value }));
    write(facts, [say('limit', { n: item.limit }), say('units', { n: count(item.total) }),
      is === 'upcoming' ? say('opensAt', { at: moment(item.opens_at_ms) }) : say('until', { at: moment(item.closes_at_ms) })].join(' · '));
    see.hidden = !held;
    if (held) see.setAttribute('href', `/orders/${held}?item=${item.id}`);
    if (many) many.hidden = is !== 'open' || busy || limited;
    const off = busy || limited || ['ended', 'paused', 'upcoming', 'soldOut'].includes(is);
    act.hidden = Boolean(held) && (limited || item.limit === 1 || is !== 'open');
    turn(act, off && !(is === 'upcoming' && !shop.user));
    write(act, busy ? say('asking')
      : !shop.user && (is === 'open' || is === 'upcoming') ? say('buyLogin')
        : unanswered ? say('again')
          : is === 'upcoming' ? say('opensIn', { clock })
            : is === 'open' ? say(limited ? 'limitReached' : 'buy') : say(is));
    write(text, note || (is === 'soldOut' && !held ? say('soldNote') : is === 'paused' ? say('pausedNote') : ''));
  };

  async function press() {
    if (busy) return;
    if (!shop.user) {
      if (await shop.login()) shop.go(location.pathname);
      return;
    }
    const attempt = unanswered ?? { key: newKey(), quantity: many ? Number(many.value) : 1 };
    unanswered = null;
    busy = true;
    tell('');
    await rest(between(0, 150), shop.signal); // a crowd that presses in one instant arrives over several
    const options = {
      key: attempt.key, signal: shop.signal, body: attempt.quantity > 1 ? { quantity: attempt.quantity } : undefined,
    };
    for (;;) {
      const answer = await insist('POST', `items/${item.id}/orders`, options, (tries, offline) =>
        tell(offline ? say('offline') : say('busy', { n: tries })));
      if (shop.signal.aborted) return;
      if (answer.code === 'not_started') {
        tell(say('early'));
        await rest(Math.max(50, answer.body.opens_at_ms - now()) + between(0, 150), shop.signal);
        continue;
      }
      busy = false;
      settle(answer, attempt);
      return;
    }
  }

  /** @param {import('./api.js').Answer} answer @param {Attempt} attempt */
  function settle({ status, code, body }, attempt) {
    if (status === 202 || status === 200) {
      announce(say('won'), true);
      shop.go(`/orders/${body.order_no}?item=${item.id}`);
      return;
    }
    held = body.order_no ?? held;
    switch (code) {
      case 'duplicate_order': return tell(say('mineNote'), true);
      case 'limit_reached': limited = true; return tell(say('limitNote'), true);
      case 'sold_out': gone = true; goneBefore = now(); return tell(say('soldNote'), true);
      case 'ended': item.closes_at_ms = Math.min(item.closes_at_ms, now()); return tell('');
      case 'paused': item.state = 'paused'; return tell('');
      case 'missing_token': case 'invalid_token': return shop.out();
      default:
        if (status === 0 || status >= 429) {
          unanswered = attempt;
          return tell(say('gaveUp'), true);
        }
        tell(sayCode(code), true);
    }
  }

  /** @param {string} said @param {boolean} [urgent] */
  function tell(said, urgent) {
    note = said;
    if (said) announce(said, urgent);
    tick();
  }

  tick();
  return {
    element,
    get item() { return item; },
    tick,
    free: () => !busy && !held && !unanswered,
    /** @param {any} fresh */
    update(fresh) {
      item = fresh;
      if (gone && fresh.state === 'open' && now() > goneBefore + 2000) gone = false; // the listing lags a little
      tick();
    },
  };
}
