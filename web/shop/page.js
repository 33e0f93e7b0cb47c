// What every view is made of: elements, words to screen readers, the dialog, links.

/** @typedef {Node | string | number | false | null | undefined} Child */

/**
 * An element with its properties, attributes, listeners ("onclick") and children.
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag @param {Record<string, any>} [props] @param {...(Child | Child[])} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name in element && !name.includes('-')) Object.assign(element, { [name]: value });
    else element.setAttribute(name, value === true ? '' : String(value));
  }
  put(element, ...children);
  return element;
}

/** Replaces the children. @param {Element} element @param {...(Child | Child[])} children */
export function put(element, ...children) {
  element.replaceChildren(...children.flat().filter((c) => c || c === 0)
    .map((c) => (c instanceof Node ? c : String(c))));
}

/** Changes a text only when it is another. @param {Element} element @param {string} text */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
  if (element instanceof HTMLElement && !element.matches('button, a')) element.hidden = !text;
}

/** @param {string} id */
export const byId = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

/** Says something to whoever does not see the page. @param {string} text @param {boolean} [urgent] */
export function announce(text, urgent = false) {
  const place = byId(urgent ? 'urgent' : 'polite');
  put(place, h('span', {}, text)); // a new element: the same text twice is said twice
}

/** A link that stays on the page. @param {string} href @param {string} text @param {Record<string, any>} [props] */
export const link = (href, text, props = {}) => h('a', { href, ...props }, text);

/** A button, on unless off is set; off ones can still be reached and read. @param {string} text @param {() => void} act @param {Record<string, any>} [props] */
export const button = (text, act, props = {}) => h('button', {
  type: 'button', onclick: (/** @type {Event} */ e) => {
    if (/** @type {Element} */ (e.currentTarget).getAttribute('aria-disabled') !== 'true') act();
  }, ...props,
}, text);

/** @param {Element} element @param {boolean} off */
export const turn = (element, off) => element.setAttribute('aria-disabled', String(off));

/**
 * Shows a dialog and resolves with its form's data once it is sent, or null when it is closed.
 * @param {string} title @param {Child[]} body @param {string} yes @param {string} no
 * @returns {Promise<FormData | null>}
 */
export const question = (title, body, yes, no) => new Promise((resolve) => {
  const dialog = /** @type {HTMLDialogElement} */ (byId('dialog'));
  const form = h('form', { method: 'dialog' }, h('h2', { id: 'asked' }, title), body, h('p', { className: 'row' },
    h('button', { className: 'main', value: 'yes' }, yes),
    h('button', { type: 'button', onclick: () => dialog.close('') }, no)));
  put(dialog, form);
  dialog.returnValue = '';
  dialog.onclose = () => resolve(dialog.returnValue === 'yes' ? new FormData(form) : null);
  dialog.showModal();
});
