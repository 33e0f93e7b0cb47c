// @ts-check
// Every text of the board, in English and Chinese.
/** @type {Record<string, [string, string]>} */
const words = {
  title: ['Flash sale · board', '秒杀 · 运维看板'], live: ['live', '实时'], stale: ['no news for {0} s', '{0} 秒无更新'], paused: ['paused', '已暂停刷新'],
  pauseFeed: ['Pause', '暂停刷新'], goOn: ['Go on', '继续'], logOut: ['Log out', '退出'], logIn: ['Log in', '登录'], viewer: ['viewer: changes nothing', '只读'],
  token: ['Token', '令牌'], name: ['Your name, for the log of actions', '您的姓名（用于操作日志）'], loginNote: ['ADMIN_TOKEN may change things, ADMIN_VIEWER_TOKEN only sees them.', 'ADMIN_TOKEN 可操作，ADMIN_VIEWER_TOKEN 只读。'],
  conservation: ['Conservation', '库存守恒'], total: ['total', '总量'], redis: ['left in Redis', 'Redis 剩余'], orders: ['in orders', '订单占用'], stream: ['in the stream', '流中'], owed: ['owed to Redis', '待归还'],
  gap: ['gap', '差额'], proved: ['proved {0} ago', '{0}前验证'], notProved: ['not proved since this page was opened', '打开页面后尚未验证'], runAudit: ['Run audit', '运行审计'], auditing: ['auditing… {0} s', '审计中… {0} 秒'],
  whole: ['Everything adds up', '全部守恒'], broken: ['Something does not add up', '存在不守恒'], moving: ['orders were on their way', '有订单在途'],
  alarms: ['Alarms', '告警'], noAlarms: ['Nothing needs a hand.', '一切正常。'], runbook: ['runbook', '处理手册'],
  charts: ['The last ten minutes', '最近十分钟'], items: ['Items', '商品'], item: ['item', '商品'], window: ['window', '时段'], state: ['state', '状态'], left: ['left', '剩余'], held: ['held', '占用'], unpaid: ['unpaid', '未支付'], back: ['come back', '归还时间'], burn: ['burn-down', '消耗'], acts: ['acts', '操作'],
  pause: ['Pause', '暂停'], resume: ['Resume', '恢复'], addStock: ['Add stock…', '补货…'], change: ['Change…', '修改…'], rebuild: ['Rebuild…', '重建…'], preheat: ['Preheat', '预热'], cancelSale: ['Cancel sale…', '取消活动…'], exportCSV: ['CSV', 'CSV'], exportNDJSON: ['NDJSON', 'NDJSON'],
  noItems: ['No item is on sale or about to be.', '没有进行中或即将开始的商品。'], dead: ['Dead letters', '死信'], noDead: ['None.', '无。'], reason: ['reason', '原因'], order: ['order', '订单'], retry: ['Retry', '重试'], discard: ['Discard…', '丢弃…'], retryAll: ['Retry all {0}…', '全部重试 {0}…'], discardAll: ['Discard all {0}…', '全部丢弃 {0}…'], filter: ['Reason has', '原因包含'],
  money: ['Money that waits', '待处理资金'], noMoney: ['None.', '无。'], settle: ['Settle…', '结清…'], amount: ['amount', '金额'], since: ['since', '起始'], kind: ['kind', '类型'],
  lookUp: ['Look up', '查询'], lookUpHint: ['User, order or trade number', '用户、订单号或交易号'], search: ['Search', '查询'], nothing: ['Nothing found.', '没有结果。'], history: ['History', '历史'], cancelOrder: ['Cancel order…', '取消订单…'],
  processes: ['Nodes and workers', '节点与工作进程'], host: ['name', '名称'], version: ['version', '版本'], node: ['node id', '节点号'], lease: ['lease', '租约'], seen: ['last sign of life', '最近心跳'], serves: ['partitions', '分区'], gone: ['gone', '已消失'], ago: ['{0} s ago', '{0} 秒前'], all: ['all {0}', '全部 {0}'],
  log: ['Log of actions', '操作日志'], when: ['when', '时间'], who: ['who', '谁'], action: ['what', '操作'], target: ['to what', '对象'], outcome: ['outcome', '结果'], unknown: ['not known', '未知'], more: ['Older', '更早'], refresh: ['Refresh', '刷新'],
  newSale: ['New sale…', '新建活动…'], product: ['Product', '商品名'], price: ['Price (fen)', '价格（分）'], stock: ['Stock: all units offered', '库存：全部数量'], limit: ['Limit a user', '每人限购'], opens: ['Opens', '开始'], closes: ['Closes', '结束'], saleName: ['Name', '名称'], addUnits: ['Units to add', '增加数量'], reasonField: ['Reason', '原因'],
  confirm: ['Confirm', '确认'], cancel: ['Back', '返回'], done: ['Done: {0}', '完成：{0}'], failed: ['Refused: {0}', '被拒绝：{0}'], sending: ['Sending…', '发送中…'], onlyAdmin: ['A viewer changes nothing.', '只读身份不能操作。'], staleActs: ['The board is stale: acts are off until it is live again.', '看板已过期，恢复实时前不能操作。'],
  askPause: ['Pause item {0}? {1} units are on sale now; nobody can buy them until it is resumed. Orders stay.', '暂停商品 {0}？在售 {1} 件，恢复前无法购买，已有订单不受影响。'], askResume: ['Resume item {0}? {1} units go on sale.', '恢复商品 {0}？{1} 件重新开售。'],
  askStock: ['Add units to item {0}: {1} are offered, {2} left.', '为商品 {0} 补货：共 {1} 件，剩余 {2} 件。'], askChange: ['Change item {0}: {1} units offered, {2} held. Stock can go down to what is held; price and opening change only before it opens. Shoppers are told to ask again for a moment.', '修改商品 {0}：共 {1} 件，占用 {2} 件。库存最低可降至占用数；价格与开始时间仅开售前可改。修改时购买者会短暂被要求重试。'],
  askRebuild: ['Write item {0} into Redis anew, from the ledger, where they differ? It is off sale for the moment that it takes ({1} units left, {2} held).', '以账本重写 Redis 中的商品 {0}？期间短暂下架（剩余 {1} 件，占用 {2} 件）。'], askPreheat: ['Load sale {0} into Redis? What is loaded stays.', '把活动 {0} 载入 Redis？已载入的保持不变。'],
  askCancelSale: ['Cancel sale {0} as a whole? {1} units are in orders: unpaid ones are cancelled, paid ones refunded. It never sells again.', '整场取消活动 {0}？{1} 件在订单中：未支付的取消，已支付的退款，且不再销售。'], askRetry: ['Put {0} dead letters back into the stream?', '把 {0} 条死信放回流中？'], askDiscard: ['Discard {0} dead letters for ever, and put their {1} units back on sale?', '永久丢弃 {0} 条死信，并归还 {1} 件？'],
  askSettle: ['Note that refund {0} over {1} was given back by other means?', '确认退款 {0}（{1}）已通过其他途径退还？'], askRetryRefund: ['Ask the provider again for refund {0}?', '再次向支付方申请退款 {0}？'], askCancelOrder: ['Cancel order {0}, {1} units? Unpaid it is cancelled, paid it is refunded.', '取消订单 {0}（{1} 件）？未支付则取消，已支付则退款。'],
  dryRun: ['Dry run: {0}', '试运行：{0}'], intact: ['Redis holds exactly what the ledger says.', 'Redis 与账本完全一致。'], differs: ['stock {0} instead of {1}, {2} orders missing, {3} unknown, {4} changed, {5} fields wrong', '库存 {0}（应为 {1}），缺 {2} 单，未知 {3} 单，变更 {4} 单，字段错误 {5}'],
  'c.decisions': ['Decisions a second', '每秒判定'], 'c.batch': ['Requests a script call', '每次脚本请求数'], 'c.script': ['Script, ms', '脚本耗时（毫秒）'], 'c.persist': ['Persist, ms', '落库耗时（毫秒）'], 'c.lane': ['Requests that wait', '等待中的请求'], 'c.backlog': ['Backlog of orders', '积压订单'], 'c.persisted': ['Orders persisted a second', '每秒落库订单'], 'c.money': ['Money a second', '每秒资金'],
  's.all': ['all', '全部'], 's.accepted': ['accepted', '成功'], 's.sold_out': ['sold out', '售罄'], 's.p50': ['p50', 'p50'], 's.p99': ['p99', 'p99'], 's.depth': ['depth', '深度'], 's.orders': ['orders', '订单'], 's.oldest': ['oldest, s', '最早（秒）'], 's.pending': ['pending', '待确认'], 's.persisted': ['persisted', '落库'], 's.rejected': ['rejected', '拒绝'], 's.cancelled': ['cancelled', '取消'], 's.payments': ['payments', '支付'], 's.refunds': ['refunds', '退款'], 's.outbox': ['outbox', '发件箱'],
  chartText: ['{0}: now {1}, highest {2} in {3} minutes', '{0}：当前 {1}，{3} 分钟内最高 {2}'], minutes: ['−{0} min', '−{0} 分钟'], now: ['now', '现在'],
  'a.redis_away': ['Redis does not answer. Nobody can buy; nothing is lost that the ledger has.', 'Redis 无响应：无法下单；账本中的数据不会丢失。'], 'a.postgres_away': ['PostgreSQL does not answer. Shoppers still buy; orders wait in the stream and stay pending.', 'PostgreSQL 无响应：仍可下单，订单在流中等待。'], 'a.lost_entries': ['{0} entries left the stream before they were persisted: each is a lost order.', '{0} 条流记录在落库前丢失：每条都是丢失的订单。'],
  'a.invariant_broken': ['The last audit found {0} invariants broken.', '最近一次审计发现 {0} 项不变量被破坏。'], 'a.conservation_gap': ['{0} units do not add up.', '{0} 件对不上账。'], 'a.no_worker': ['No worker lives: nobody persists orders, on any partition.', '没有工作进程：所有分区都无人落库。'], 'a.process_gone': ['{0} has shown no sign of life, and did not say goodbye.', '{0} 无心跳，且未正常退出。'], 'a.lease_lost': ['{0} has lost the lease of its node id: it makes no order numbers.', '{0} 失去节点租约：不能生成订单号。'],
  'a.consumer_stands': ['The ledger does not take the batch that a consumer has in hand: see the log of the workers.', '账本拒绝了消费者手中的批次：请看工作进程日志。'], 'a.dead_letters': ['{0} dead letters hold their units until somebody retries or discards them.', '{0} 条死信占用库存，等待重试或丢弃。'], 'a.backlog_old': ['The oldest order waits for {0} s: the workers are behind.', '最早的订单已等待 {0} 秒：落库落后。'], 'a.suspect_items': ['{0} items are not vouched for since Redis restarted, or are being compared.', '{0} 个商品自 Redis 重启后尚未核对。'], 'a.outbox_waiting': ['{0} effects are owed to Redis and cannot be carried out yet.', '{0} 项对 Redis 的操作尚未执行。'], 'a.misplaced_keys': ['{0} keys of a wrong type were moved aside.', '{0} 个类型错误的键被移开。'], 'a.rebuilding': ['Item {0} is behind a fence: it is being rebuilt, and sells nothing meanwhile.', '商品 {0} 正在重建（已围栏），期间不销售。'],
}

const chosen = localStorage.getItem('lang') || (navigator.language.startsWith('zh') ? 'zh' : 'en')
export const lang = chosen === 'zh' ? 'zh' : 'en'
export function switchLang() { localStorage.setItem('lang', lang === 'zh' ? 'en' : 'zh'); location.reload() }
/** @param {string} key @param {...any} args */
export function t(key, ...args) { return (words[key]?.[lang === 'zh' ? 1 : 0] ?? key).replace(/\{(\d)\}/g, (_, n) => String(args[n] ?? '')) }
const locale = lang === 'zh' ? 'zh-CN' : 'en-GB'
const whole = new Intl.NumberFormat(locale), short = new Intl.NumberFormat(locale, { maximumSignificantDigits: 3 })
/** @param {number} n */
export function num(n) { return Number.isInteger(n) || Math.abs(n) >= 1000 ? whole.format(Math.round(n)) : short.format(n) }
const clock = new Intl.DateTimeFormat(locale, { hour: '2-digit', minute: '2-digit', second: '2-digit' }), day = new Intl.DateTimeFormat(locale, { month: '2-digit', day: '2-digit', hour: '2-digit', minute: '2-digit' })
/** @param {number} ms */
export function time(ms) { return (Math.abs(Date.now() - ms) < 64800000 ? clock : day).format(ms) }
/** @param {number} fen */
export function yuan(fen) { return '¥' + whole.format(fen / 100) }
