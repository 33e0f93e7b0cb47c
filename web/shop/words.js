// The shop's words in the shopper's language, and how prices and times are written in it.
// @ts-check

/** @typedef {typeof import('./en.js').default} Words */
/** @typedef {keyof Words} Word */
/** @typedef {'en' | 'zh'} Language */

/** @type {Words} */
let words;

/** @type {Language} */
export let language;

/** @returns {Language} */
function choose() {
  const wanted = [recall('language'), ...navigator.languages].find((tag) => /^(en|zh)\b/.test(tag ?? ''));
  return wanted?.startsWith('zh') ? 'zh' : 'en';
}

/** Speaks another language from now on. @param {Language} chosen */
export async function speak(chosen) {
  words = (await import(`./${chosen}.js`)).default;
  language = chosen;
}
await speak(choose());

/** @param {string} name */
export function recall(name) {
  try { return localStorage.getItem(name); } catch { return null; } // storage may be forbidden
}

/** @param {string} name @param {string} value */
export function remember(name, value) {
  try { localStorage.setItem(name, value); } catch { /* it is chosen anew next time */ }
}

/** A sentence in the shopper's language. @param {Word} word @param {Record<string, string | number>} [values] */
export function say(word, values = {}) {
  return words[word].replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ''));
}

/** What to say of a refusal. @param {string} code */
export const sayCode = (code) => (code in words ? say(/** @type {Word} */ (code)) : say('refused', { code }));

/** A text that may exist in several languages. @param {string} plain @param {Record<string, string>} [texts] */
export function pick(plain, texts) {
  for (const [tag, text] of Object.entries(texts ?? {})) if (tag.split('-')[0] === language) return text;
  return plain;
}

const tag = () => (language === 'zh' ? 'zh-CN' : 'en');

/** @param {number} fen */
export const price = (fen) => new Intl.NumberFormat(tag(), {
  style: 'currency', currency: 'CNY', currencyDisplay: 'narrowSymbol', minimumFractionDigits: fen % 100 ? 2 : 0,
}).format(fen / 100);

/** @param {number} n */
export const count = (n) => new Intl.NumberFormat(tag()).format(n);

/** @param {number} ms */
export const moment = (ms) => new Intl.DateTimeFormat(tag(), { dateStyle: 'medium', timeStyle: 'medium' }).format(ms);

/** A span as h:mm:ss, with days before it. @param {number} ms */
export function span(ms) {
  const s = Math.max(0, Math.ceil(ms / 1000));
  const two = (/** @type {number} */ n) => String(n).padStart(2, '0');
  const days = Math.floor(s / 86400);
  return (days ? `${days}${language === 'zh' ? '天 ' : 'd '}` : '') +
    (s >= 3600 ? `${two(Math.floor(s / 3600) % 24)}:` : '') + `${two(Math.floor(s / 60) % 60)}:${two(s % 60)}`;
}
