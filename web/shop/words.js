// The shop's words in each of its languages, and how it writes prices and times.

/** @typedef {'en' | 'zh'} Language */

const words = {
  title: ['Flash sale', '限时秒杀'],
  skip: ['Skip to the offers', '跳到主要内容'],
  shop: ['Offers', '商品'],
  orders: ['My orders', '我的订单'],
  language: ['中文', 'English'],
  login: ['Log in', '登录'],
  logout: ['Log out', '退出登录'],
  who: ['Who are you?', '请输入用户名'],
  whoText: ['A demo lets anybody in by name.', '演示环境：输入任意用户名即可登录。'],
  user: ['User name', '用户名'],
  userBad: ['1 to 64 letters, digits or _ . @ + -', '1 至 64 个字母、数字或 _ . @ + -'],
  try: ['Or as', '或使用'],
  noLogin: ['This shop has not said where to log in.', '本店尚未设置登录地址。'],
  close: ['Close', '关闭'],
  upcoming: ['Opening soon', '即将开抢'],
  open: ['Open now', '抢购中'],
  ended: ['Over', '已结束'],
  next: ['{name} opens in', '距 {name} 开抢'],
  ends: ['Ends in', '距结束'],
  opensAt: ['Opens {at}', '{at} 开抢'],
  limit: ['At most {n} each', '每人限购 {n} 件'],
  points: ['or {n} points', '或 {n} 积分'],
  was: ['Elsewhere {price}', '原价 {price}'],
  gone: ['{n} % gone', '已抢 {n}%'],
  units: ['{n} units in all', '共 {n} 件'],
  none: ['Nothing is on sale now. Look in again soon.', '暂无秒杀活动，敬请期待。'],
  buy: ['Buy now', '立即抢购'],
  buyLogin: ['Log in to buy', '登录后抢购'],
  opensIn: ['Opens in {clock}', '{clock} 后开抢'],
  asking: ['Asking …', '正在抢…'],
  soldOut: ['Sold out', '已抢光'],
  paused: ['Paused', '已暂停'],
  limitReached: ['Limit reached', '已达限购'],
  again: ['Try again', '重试'],
  seeOrder: ['See my order', '查看我的订单'],
  isOpen: ['{name} is open. Go!', '{name} 开抢了！'],
  busy: ['The shop is busy. Your request is kept and tried again ({n}).', '抢购火爆，正用同一请求重试（第 {n} 次）。'],
  offline: ['You are offline. Your request goes out as soon as you are back.', '网络已断开，恢复后自动继续。'],
  early: ['A moment early: your request goes out at the opening.', '还差一点点，开抢时自动提交。'],
  soldNote: ['Some units are not paid yet and may come back. Leave this page open.', '付款中，可尝试捡漏：未付款的商品可能重新放出，请留在本页。'],
  backNote: ['{name} is back. Quick!', '{name} 又有货了，快！'],
  pausedNote: ['The shop has stopped this offer for a moment.', '店家暂停了本商品，请稍候。'],
  limitNote: ['You hold as many as one person may.', '您已达到每人限购数量。'],
  mineNote: ['You hold an order of this offer.', '您已有本商品的订单。'],
  gaveUp: ['The shop did not answer. Trying again cannot buy twice.', '服务器没有响应。重试不会重复下单。'],
  refused: ['That did not work ({code}).', '操作未成功（{code}）。'],
  lost: ['No answer. Trying again …', '暂无响应，正在重试…'],
  order: ['Order {no}', '订单 {no}'],
  won: ['You got it!', '抢到了！'],
  reserved: ['Reserved', '已预留'],
  confirmed: ['Confirmed', '已确认'],
  paid: ['Paid', '已付款'],
  refunded: ['Refunded', '已退款'],
  refunding: ['Refund under way', '退款中'],
  cancelled: ['Cancelled', '已取消'],
  rejected: ['Not confirmed', '未能确认'],
  pending: ['Being confirmed', '确认中'],
  unpaid: ['Waiting for payment', '待付款'],
  pendingText: ['Your unit is reserved. The order is being written down …', '已为您预留，正在确认订单…'],
  paidText: ['Thank you. It is yours.', '谢谢，商品是您的了。'],
  refundingText: ['The money is on its way back.', '款项正在退回。'],
  refundedText: ['The money is back where it came from.', '款项已原路退回。'],
  timeoutText: ['It was not paid in time, so others may have it.', '未在时限内付款，商品已放回。'],
  cancelledText: ['You gave it back.', '您已取消订单。'],
  rejectedText: ['We are sorry: the reservation could not be kept. Nothing was charged.', '很抱歉，预留未能保留，您没有被扣款。'],
  payBefore: ['Pay within', '剩余付款时间'],
  payLate: ['Time to pay is over. One moment …', '付款时间已到，请稍候…'],
  paySoon: ['{clock} left to pay', '付款时间还剩 {clock}'],
  payAlipay: ['Pay {price} with Alipay', '支付宝支付 {price}'],
  payPoints: ['Pay with {n} points', '用 {n} 积分支付'],
  balance: ['You have {n} points.', '您有 {n} 积分。'],
  waiting: ['Waiting for Alipay\'s word …', '正在等待支付宝确认…'],
  starting: ['One moment …', '请稍候…'],
  cancel: ['Cancel the order', '取消订单'],
  cancelAsk: ['Give it back?', '确定取消？'],
  cancelText: ['Your unit goes back on sale at once.', '商品会立即重新放出。'],
  keep: ['Keep it', '再想想'],
  refund: ['Ask for a refund', '申请退款'],
  refundAsk: ['Money back?', '申请退款？'],
  refundText: ['The money goes back the way it came, and the unit goes back on sale.', '款项原路退回，商品重新放出。'],
  reason: ['Reason (optional)', '原因（可不填）'],
  history: ['History', '订单记录'],
  quantity: ['{n} ×', '{n} 件 ×'],
  noOrders: ['No orders yet.', '还没有订单。'],
  more: ['Show more', '加载更多'],
  noOrder: ['There is no such order here.', '没有这个订单。'],
  needLogin: ['Log in to see your orders.', '登录后查看订单。'],
  too_late: ['Too little time is left to pay.', '剩余时间不足，无法付款。'],
  not_payable: ['This order cannot be paid any more.', '该订单已不能付款。'],
  payment_closed: ['That payment was ended. Pay another way.', '该支付已关闭，请换一种方式。'],
  insufficient_points: ['Not enough points.', '积分不足。'],
  method_unavailable: ['It cannot be paid this way.', '不支持这种支付方式。'],
  not_cancellable: ['It cannot be cancelled any more.', '已不能取消。'],
  not_refundable: ['It cannot be refunded.', '不能退款。'],
  order_pending: ['It is still being confirmed. Try again in a moment.', '订单确认中，请稍后再试。'],
};

/** @typedef {keyof typeof words} Word */

/** @type {Language} */
export let language = choose();

/** @returns {Language} */
function choose() {
  const wanted = [recall('language'), ...navigator.languages].find((tag) => /^(en|zh)\b/.test(tag ?? ''));
  return wanted?.startsWith('zh') ? 'zh' : 'en';
}

/** Remembers the choice. @param {Language} chosen */
export function speak(chosen) {
  language = chosen;
  remember('language', chosen);
}

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
  return words[word][language === 'zh' ? 1 : 0].replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ''));
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
