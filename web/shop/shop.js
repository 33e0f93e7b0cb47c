// The shop's page: who is logged in, which view is shown, what stands above it.
// @ts-check

import { ask, get, insist, setClock, clockMoved, everyTick } from './api.js';
import { byId, button, h, link, put, question, write } from './page.js';
import { language, remember, say, speak } from './words.js';
import { offers } from './sale.js';
import { order, orders } from './order.js';

/**
 * @typedef {object} Shop  what views need of the page
 * @property {string} user  "" for nobody
 * @property {string[]} methods  ways to pay
 * @property {AbortSignal} signal  ends with the view
 * @property {() => Promise<boolean>} login  asks for it; resolves with whether somebody is logged in
 * @property {() => void} out  says that the session has ended
 * @property {(path: string) => void} go
 */

const demoUsers = ['ann', 'bob', 'eve'];
let user = '';
let signed = false; // whether user is known
/** @type {any} */
let installation = {};
let view = new AbortController();

/** @param {string} path */
function go(path) {
  history.pushState(null, '', path);
  show(true);
}

/** Shows what the address says. @param {boolean} [moved] by the shopper, who then hears the new title */
function show(moved) {
  view.abort();
  view = new AbortController();
  document.documentElement.lang = language === 'zh' ? 'zh-CN' : 'en';
  frame();
  /** @type {Shop} */
  const shop = {
    user, methods: installation.payment_methods ?? [], signal: view.signal, login, go,
    out: () => { user = ''; show(); },
  };
  const main = byId('main');
  const [, first, second] = location.pathname.split('/');
  put(main);
  if (first === 'orders' && second) order(shop, main, second, new URLSearchParams(location.search).get('item') ?? '');
  else if (first === 'orders') orders(shop, main);
  else offers(shop, main, first === 'items' ? second : '');
  const title = main.querySelector('h1')?.textContent;
  document.title = title && first ? `${title} · ${say('title')}` : say('title');
  if (moved) {
    scrollTo(0, 0);
    main.focus();
  }
}

function frame() {
  const here = location.pathname.startsWith('/orders');
  put(byId('top'),
    link('/', say('title'), { className: 'brand' }),
    h('nav', { 'aria-label': say('shop') },
      link('/', say('shop'), { 'aria-current': !here && 'page' }),
      link('/orders', say('orders'), { 'aria-current': here && 'page' })),
    h('span', { className: 'row' },
      button(say('language'), turnLanguage,
        { className: 'plain', id: 'language', lang: language === 'zh' ? 'en' : 'zh-CN' }),
      user && h('span', { className: 'who' }, user),
      user ? button(say('logout'), logout, { className: 'plain', id: 'logout' })
        : button(say('login'), async () => { if (await login()) show(); }, { className: 'plain', id: 'login' })));
  write(byId('skip'), say('skip'));
}

async function turnLanguage() {
  const chosen = language === 'zh' ? 'en' : 'zh';
  await speak(chosen);
  remember('language', chosen);
  show();
  byId('language').focus();
}

async function logout() {
  await insist('DELETE', 'sessions', {});
  user = '';
  show();
}

/** @returns {Promise<boolean>} */
async function login() {
  if (installation.login_url) {
    location.assign(installation.login_url);
    return false;
  }
  if (!installation.dev_login) {
    await question(say('login'), [h('p', {}, say('noLogin'))], say('close'), say('close'));
    return false;
  }
  const field = h('input', {
    name: 'user', id: 'user', required: true, maxLength: 64, pattern: '[A-Za-z0-9_.@+\\-]{1,64}', title: say('userBad'),
    autocomplete: 'username', autocapitalize: 'none', spellcheck: false,
  });
  const form = await question(say('who'), [
    h('p', {}, say('whoText')), h('label', { htmlFor: 'user' }, say('user')), field,
    h('p', { className: 'row' }, say('try'), demoUsers.map((name) => button(name, () => { field.value = name; }))),
  ], say('login'), say('close'));
  if (!form) return false;
  const answer = await insist('POST', 'sessions', { body: { user: String(form.get('user')) } });
  if (answer.status !== 201) return false;
  user = answer.body.user;
  frame();
  return true;
}

addEventListener('popstate', () => show(true));
addEventListener('click', (event) => {
  const to = /** @type {Element} */ (event.target).closest?.('a');
  if (!to || to.origin !== location.origin || to.id === 'skip' || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  go(to.pathname + to.search);
});
for (const turned of ['online', 'offline']) {
  addEventListener(turned, () => write(byId('net'), navigator.onLine ? '' : say('offlineNow')));
}

async function start() {
  const [me] = await Promise.all([
    ask('GET', 'me'),
    get('shop').then((answer) => { if (answer.status === 200) installation = answer.body; }),
    setClock(),
  ]);
  if (me.status === 200) user = me.body.user;
  signed = me.status !== 0;
  show();
  everyTick(() => { if (!document.hidden && clockMoved()) setClock(); }, new AbortController().signal);
  while (!signed) { // the shop was away at the start
    const again = await insist('GET', 'me', {});
    signed = again.status === 200 || again.status === 401;
    if (again.status === 200) {
      user = again.body.user;
      show();
    }
  }
}

start();
