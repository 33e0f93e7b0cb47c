package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"time"

	"flashsale"
	"flashsale/engine"
)

// extraMax bounds how many orders among the buyers that the ledger's snapshot does not have are
// looked for one by one. There are as many as were accepted meanwhile, unless something is wrong.
const extraMax = 100_000

// kindAccount begins the kinds that concern what an account says beside its units.
const kindAccount = "account "

// hashSeed is for hashes that never leave this process.
var hashSeed = maphash.MakeSeed()

// examination is one look at one item: what the stores hold, and what is wrong with it.
type examination struct {
	item          flashsale.Item
	before, after seenAccount
	stream, dead  []flashsale.Order // of this item
	books         flashsale.ItemBooks
	findings      findings

	// Of the orders in the ledger's snapshot.
	orders, live, liveUnits int64
	waiting                 int64 // orders in the stream that it does not know, and dead letters
	streamUnits             int64 // of those in the stream
	owedUnits               int64
	owedSurely              int64                         // of them those that Redis has surely not got yet
	owed                    map[buyer]flashsale.OutboxRow // releases whose order was not met yet
	sequences               sequences
	discarded               int64 // the highest sequence of those
	last                    flashsale.Order
	seals                   map[int64]flashsale.Seal // of generations that are over
	units                   []uint64                 // a hash of its user for each unit in a live order
	usersOver               int64

	// Of the buyers in Redis.
	held   []heldOrder // what they must and may hold
	buyers int64       // orders that they hold

	gap, slack int64
}

// buyer is who holds an order. Two may hold orders of one number, if it was given twice.
type buyer struct {
	no   flashsale.OrderNo
	user string
}

// heldOrder is an order that may be among the buyers.
type heldOrder struct {
	no   flashsale.OrderNo
	sum  uint32 // of its user, quantity and key
	must bool   // it was accepted before the buyers were read, so it has to be there
	seen bool
}

// examine looks at one item. Its account and what waits in Redis were read before.
func (a *Auditor) examine(ctx context.Context, e *examination, progress *progress) (err error) {
	asked := make([]flashsale.OrderNo, len(e.stream))
	for n, order := range e.stream {
		asked[n] = order.OrderNo
	}
	begun := false
	e.books, err = a.config.Ledger.Examine(ctx, e.item.ID, asked,
		func(books *flashsale.ItemBooks, page []flashsale.Order) error {
			if !begun {
				begun, e.books = true, *books
				if e.after, err = a.account(ctx, e.item.ID); err != nil {
					return err
				}
				e.begin()
			}
			for n := range page {
				e.visit(&page[n])
			}
			progress.orders(len(page))
			return nil
		})
	if err != nil {
		return err
	}
	e.judgeLedger()
	e.judgeAccount()
	if !e.comparable() {
		return nil
	}
	e.conserve()
	return a.compareBuyers(ctx, e)
}

// selling reports whether Redis ought to hold the item.
func (e *examination) selling() bool { return e.books.Generation > 0 && !e.books.Retired }

// comparable reports whether both stores hold the same generation of the item, which is not being
// rebuilt.
func (e *examination) comparable() bool {
	return e.selling() && e.before.there && e.after.there && e.before.fault == nil && e.after.fault == nil &&
		e.before.State != engine.StateRebuilding && e.after.State != engine.StateRebuilding &&
		e.before.Generation == e.after.Generation && e.after.Generation == e.books.Generation
}

// begin takes in what the snapshot says beside the orders.
func (e *examination) begin() {
	e.owed = make(map[buyer]flashsale.OutboxRow)
	e.seals = make(map[int64]flashsale.Seal)
	for _, row := range e.books.Owed {
		e.owedUnits += int64(row.Quantity) // none for a pause
		switch row.Kind {
		case flashsale.Release:
			e.owed[buyer{row.OrderNo, row.User}] = row
		case flashsale.Restock:
			if row.ID > e.after.Restock {
				e.owedSurely += int64(row.Quantity)
			}
		}
	}
	// How far the sequences must go: as far as Redis had counted when its account was read. The
	// ledger may know more by now, and alone it tells when the item has left Redis.
	e.sequences.end = e.books.Sequence
	if e.comparable() {
		e.sequences.end = e.before.Sequence
	}
	for _, order := range e.books.Discarded {
		delete(e.owed, buyer{order.OrderNo, order.User})
		if order.Generation == e.books.Generation {
			e.sequences.excuse(order.Sequence)
			e.discarded = max(e.discarded, order.Sequence)
		}
	}
	for _, order := range e.stream {
		if !e.books.Unknown[order.OrderNo] {
			continue
		}
		e.streamUnits += int64(order.Quantity)
		e.wait(order)
	}
	for _, order := range e.dead {
		e.wait(order)
	}
	slices.Sort(e.sequences.excused)
}

// wait takes in an order that Redis has and the ledger has not.
func (e *examination) wait(order flashsale.Order) {
	e.waiting++
	if order.Generation == e.books.Generation {
		e.sequences.excuse(order.Sequence)
	}
	e.held = append(e.held, heldOrder{
		no: order.OrderNo, sum: heldSum(&order), must: e.accepted(&order),
	})
}

// accepted reports whether the order was accepted before the account was read.
func (e *examination) accepted(order *flashsale.Order) bool {
	return order.Generation < e.before.Generation || order.Generation == e.before.Generation && order.Sequence <= e.before.Sequence
}

// visit takes in an order of the snapshot. They come in the order of their sequences.
func (e *examination) visit(order *flashsale.Order) {
	e.orders++
	switch rejected := order.Status == flashsale.Rejected; {
	case order.Generation > e.books.Generation:
		e.findings.addf(1, nothingLost, "future", "order %s is of generation %d, the item is at %d",
			order.OrderNo, order.Generation, e.books.Generation)
	case order.Generation == e.books.Generation:
		if doubled := e.sequences.add(order.Sequence); doubled {
			e.findings.addf(1, nothingLost, "doubled", "orders %s and %s have the sequence %d",
				e.last.OrderNo, order.OrderNo, order.Sequence)
		}
		fallthrough
	default:
		if !rejected {
			seal := e.seals[order.Generation]
			e.seals[order.Generation] = flashsale.Seal{Orders: seal.Orders + 1, Digest: seal.Digest + order.Digest()}
		}
	}
	e.last = *order
	e.visitAmount(order)
	of := buyer{order.OrderNo, order.User}
	if row, owed := e.owed[of]; owed {
		delete(e.owed, of)
		if order.Status.Live() || row.Quantity != order.Quantity {
			e.findings.addf(1, nothingLost, "owed wrongly", "the outbox gives %d units of the %s order %s for %d back",
				row.Quantity, order.Status, order.OrderNo, order.Quantity)
		}
	}
	if !order.Status.Live() {
		return
	}
	e.live++
	e.liveUnits += int64(order.Quantity)
	hash := maphash.String(hashSeed, order.User)
	for range min(order.Quantity, e.books.Limit+1) { // more says no more
		e.units = append(e.units, hash)
	}
	e.held = append(e.held, heldOrder{no: order.OrderNo, sum: heldSum(order), must: e.accepted(order)})
}

func (e *examination) visitAmount(order *flashsale.Order) {
	fen, points := e.books.PriceFen*int64(order.Quantity), e.books.PointsPrice*int64(order.Quantity)
	if order.Status == flashsale.Rejected {
		fen, points = 0, 0
	}
	if order.AmountFen != fen || order.AmountPoints != points {
		e.findings.addf(1, nothingLost, "amount", "%s order %s of %d units costs %d fen and %d points, not %d and %d",
			order.Status, order.OrderNo, order.Quantity, order.AmountFen, order.AmountPoints, fen, points)
	}
}

func heldSum(order *flashsale.Order) uint32 {
	var h maphash.Hash
	h.SetSeed(hashSeed)
	fmt.Fprintf(&h, "%s %d %s", order.User, order.Quantity, order.IdempotencyKey)
	return uint32(h.Sum64())
}

// judgeLedger finds where the ledger contradicts itself, which one snapshot shows exactly.
func (e *examination) judgeLedger() {
	books, f := &e.books, &e.findings
	if e.liveUnits > books.Total {
		f.addf(1, neverOversold, "oversold", "oversold, %d units in live orders of %d", e.liveUnits, books.Total)
	}
	slices.Sort(e.units)
	if e.usersOver = longRuns(e.units, books.Limit); e.usersOver > 0 {
		f.addf(1, withinLimit, "limit", "%d users hold more than %d units", e.usersOver, books.Limit)
	}
	e.units = nil
	if !books.Holdings {
		f.addf(1, withinLimit, "holdings", "the table holdings contradicts the orders: nobody's limit is guarded")
	}
	if books.Stock+e.liveUnits != books.Total {
		f.addf(1, conservation, "ledger stock", "the ledger's stock %d and live orders %d do not add up to %d",
			books.Stock, e.liveUnits, books.Total)
	}
	for _, row := range e.owed {
		f.addf(1, nothingLost, "owed for nothing", "the outbox gives %d units of order %s of %s back, which is not in the ledger",
			row.Quantity, row.OrderNo, row.User)
	}
	if books.Generation > 0 {
		e.judgeSequences()
	}
	for generation, seal := range books.Seals {
		if now := e.seals[generation]; now.Orders != seal.Orders {
			f.addf(1, nothingLost, "seal count", "generation %d has %d orders, and had %d when it ended", generation, now.Orders, seal.Orders)
		} else if now != seal {
			f.addf(1, nothingLost, "seal", "the orders of generation %d are not as they were when it ended", generation)
		}
	}
}

// judgeSequences proves that every order that was accepted in this generation is somewhere.
func (e *examination) judgeSequences() {
	s, f := &e.sequences, &e.findings
	s.finish()
	if s.missing > 0 {
		f.addf(s.missing, nothingLost, "lost",
			"order of sequence %d is neither in the ledger nor in the stream nor among the dead letters", s.firstMissing)
	}
	if e.books.Sequence < s.highest || e.books.Sequence > max(s.highest, e.discarded) {
		f.addf(1, nothingLost, "highest", "the ledger has seen the sequence %d, but its highest order has %d",
			e.books.Sequence, s.highest)
	}
}

// judgeAccount compares the account in Redis with the ledger.
func (e *examination) judgeAccount() {
	books, f := &e.books, &e.findings
	there := e.before.there && e.after.there
	switch {
	case !e.selling():
		if there && books.Retired {
			f.addf(1, nothingLost, "returned", "it has left Redis for good, but Redis holds it again")
		}
		return
	case !e.before.there && !e.after.there && time.Since(books.ClosesAt) > flashsale.KeptAfterClose:
		return // it is leaving Redis for good
	case !e.before.there && !e.after.there:
		e.gap = e.liveUnits + e.streamUnits + e.owedUnits - books.Total
		f.addf(1, conservation, "gone", "not in Redis, though loaded %d times: run `flashsale sale rebuild`", books.Generation)
		return
	case e.before.there != e.after.there:
		return // it is being loaded or rebuilt at this moment
	}
	if fault := cmp.Or(e.before.fault, e.after.fault); fault != nil {
		f.addf(1, conservation, "unreadable", "its account in Redis cannot be read, run `flashsale sale rebuild`: %s", fault)
		return
	}
	if e.before.State == engine.StateRebuilding || e.after.State == engine.StateRebuilding {
		f.addf(1, atRest, "fenced", "off sale until it is rebuilt")
		return // behind a fence: the guardian is comparing it
	}
	if e.before.Generation != e.after.Generation {
		return // rebuilt at this moment
	}
	if e.after.Generation != books.Generation {
		f.addf(1, conservation, "generation", "Redis holds generation %d, the ledger %d: run `flashsale sale rebuild`",
			e.after.Generation, books.Generation)
		return
	}
	if highest := max(books.Sequence, e.sequences.highest); e.after.Sequence < highest {
		f.addf(1, conservation, "behind", "Redis is at order %d, the ledger has seen %d: Redis lost writes, run `flashsale sale rebuild`",
			e.after.Sequence, highest)
	}
	e.judgeFields()
}

// judgeFields compares what a change in the ledger brings to Redis by itself.
func (e *examination) judgeFields() {
	books, f := &e.books, &e.findings
	differ := func(name string, redis, ledger any) {
		f.addf(1, nothingLost, kindAccount+name, "%s is %v in Redis and %v in the ledger: run `flashsale sale rebuild`", name, redis, ledger)
	}
	if e.after.Limit != books.Limit {
		differ("limit", e.after.Limit, books.Limit)
	}
	if !e.after.OpensAt.Equal(books.OpensAt.Truncate(time.Millisecond)) {
		differ("opens_at_ms", e.after.OpensAt.UnixMilli(), books.OpensAt.UnixMilli())
	}
	if !e.after.ClosesAt.Equal(books.ClosesAt.Truncate(time.Millisecond)) {
		differ("closes_at_ms", e.after.ClosesAt.UnixMilli(), books.ClosesAt.UnixMilli())
	}
	state := engine.StateOpen
	if books.Paused {
		state = engine.StatePaused
	}
	owed := slices.ContainsFunc(books.Owed, func(row flashsale.OutboxRow) bool {
		return row.Kind == flashsale.Pause || row.Kind == flashsale.Resume
	})
	if e.after.State != state && !owed {
		differ("state", e.after.State, state)
	}
}

// conserve adds the item's units up, between the bounds that [Auditor] derives.
func (e *examination) conserve() {
	before, after, books := &e.before, &e.after, &e.books
	var back int64 // units that may have come back between the two looks at the account
	if before.Epoch != after.Epoch {
		back = max(0, after.Stock-before.Stock+(after.Sequence-before.Sequence)*int64(books.Limit))
	}
	lowest := after.Stock + e.streamUnits + e.liveUnits + e.owedSurely - back
	highest := before.Stock + e.streamUnits + e.liveUnits + e.owedUnits + back
	e.slack = highest - lowest
	switch {
	case lowest > books.Total:
		e.gap = lowest - books.Total
	case highest < books.Total:
		e.gap = highest - books.Total
	default:
		return
	}
	what := "too many"
	if e.gap < 0 {
		what = "stranded"
	}
	e.findings.addf(1, conservation, what, "%d units %s: redis %d + live %d + stream %d + owed %d, but total %d",
		max(e.gap, -e.gap), what, after.Stock, e.liveUnits, e.streamUnits, e.owedUnits, books.Total)
	if len(e.dead) > 0 {
		e.findings.addf(1, conservation, "dead", "%d dead letters hold units until they are retried or dropped", len(e.dead))
	}
}

// compareBuyers compares who holds the item by what Redis says with the orders of the ledger and
// those that wait, both ways.
func (a *Auditor) compareBuyers(ctx context.Context, e *examination) error {
	slices.SortFunc(e.held, compareHeld)
	e.held = slices.CompactFunc(e.held, func(x, y heldOrder) bool { return compareHeld(x, y) == 0 })
	var extra []flashsale.Order
	err := a.config.Engine.Buyers(ctx, e.item.ID, func(_ string, orders []flashsale.Order) error {
		for n := range orders {
			order := &orders[n]
			if order.Quantity < 0 {
				continue // it is over
			}
			e.buyers++
			if slices.ContainsFunc(orders[:n], func(o flashsale.Order) bool { return o.OrderNo == order.OrderNo }) {
				e.findings.addf(1, nothingLost, "buyer twice", "%s holds order %s twice in Redis", order.User, order.OrderNo)
			}
			if !e.hold(order) && len(extra) < extraMax {
				extra = append(extra, *order)
			}
		}
		return nil
	})
	if errors.Is(err, engine.ErrUnreadable) {
		e.findings.addf(1, nothingLost, "buyers unreadable", "its buyers in Redis cannot be read, run `flashsale sale rebuild`: %s", err)
		return nil
	}
	if err != nil {
		return err
	}
	found := e.findings
	if err := a.findMissing(ctx, e); err != nil {
		return err
	}
	if err := a.findForeign(ctx, e, extra); err != nil {
		return err
	}
	e.held = nil
	again, err := a.account(ctx, e.item.ID)
	if err == nil && (again.Generation != e.before.Generation || again.State == engine.StateRebuilding) {
		e.findings = found // it is being rebuilt: there was nothing to compare
	}
	return err
}

// hold notes that a buyer holds an order as another store says it, and reports whether one does.
func (e *examination) hold(order *flashsale.Order) bool {
	at, found := slices.BinarySearchFunc(e.held, heldOrder{no: order.OrderNo, sum: heldSum(order)}, compareHeld)
	if found {
		e.held[at].seen = true
	}
	return found
}

func compareHeld(x, y heldOrder) int {
	return cmp.Or(cmp.Compare(x.no, y.no), cmp.Compare(x.sum, y.sum))
}

// findMissing asks the ledger once more for the orders that the buyers lack. An order leaves the
// buyers only after it has ended: what has not ended by now was never among them.
func (a *Auditor) findMissing(ctx context.Context, e *examination) error {
	var missing []flashsale.OrderNo
	for _, h := range e.held {
		if h.must && !h.seen {
			missing = append(missing, h.no)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	now, err := a.config.Ledger.LookUp(ctx, missing)
	if err != nil {
		return err
	}
	for _, no := range missing {
		if order, known := now[no]; !known {
			e.findings.addf(1, nothingLost, "buyer missing", "order %s waits in the stream or among the dead letters, but no buyer in Redis holds it", no)
		} else if order.Status.Live() {
			e.findings.addf(1, nothingLost, "buyer missing", "%s order %s of %s for %d is not among the buyers in Redis",
				order.Status, no, order.User, order.Quantity)
		}
	}
	return nil
}

// findForeign looks for the orders that buyers hold and the snapshot does not have as they do.
// They were accepted, ended or dropped meanwhile, or they are nobody's.
func (a *Auditor) findForeign(ctx context.Context, e *examination, extra []flashsale.Order) error {
	unexplained, err := a.explain(ctx, e, extra, nil)
	if err != nil || len(unexplained) == 0 {
		return err
	}
	waits, err := a.readWaiting(ctx, []int{engine.Partition(e.item.ID, a.config.Partitions)})
	if err != nil {
		return err
	}
	waiting := make(map[flashsale.OrderNo]bool)
	for _, orders := range [][]flashsale.Order{waits.stream[e.item.ID], waits.dead[e.item.ID]} {
		for _, order := range orders {
			waiting[order.OrderNo] = true
		}
	}
	if unexplained, err = a.explain(ctx, e, unexplained, waiting); err != nil {
		return err
	}
	examples := 0
	for n, order := range unexplained {
		if examples >= findingExamples { // the others are counted, and the next look confirms them all
			e.findings.addf(int64(len(unexplained)-n), nothingLost, "buyer unknown", "")
			break
		}
		held, err := a.config.Engine.Orders(ctx, order.User, []flashsale.ItemID{e.item.ID})
		if err != nil {
			return err
		}
		if slices.ContainsFunc(held, func(o flashsale.Order) bool { return o.OrderNo == order.OrderNo && o.Quantity == order.Quantity }) {
			examples++
			e.findings.addf(1, nothingLost, "buyer unknown", "%s holds %d units for order %s in Redis, which has ended or is in no other store",
				order.User, order.Quantity, order.OrderNo)
		}
	}
	return nil
}

// explain returns the orders that the ledger does not hold as the buyers do. Those that wait, and
// those whose units it still owes to Redis, are explained.
func (a *Auditor) explain(ctx context.Context, e *examination, orders []flashsale.Order, waiting map[flashsale.OrderNo]bool,
) (unexplained []flashsale.Order, err error) {
	if len(orders) == 0 {
		return nil, nil
	}
	numbers := make([]flashsale.OrderNo, len(orders))
	for n, order := range orders {
		numbers[n] = order.OrderNo
	}
	known, err := a.config.Ledger.LookUp(ctx, numbers)
	if err != nil {
		return nil, err
	}
	for _, order := range orders {
		ledger, ok := known[order.OrderNo]
		switch {
		case ok && (ledger.ItemID != order.ItemID || heldSum(&ledger.Order) != heldSum(&order)):
			if !e.owes(order) {
				e.findings.addf(1, nothingLost, "buyer changed", "order %s is of %s for %d in Redis and of %s for %d of item %s in the ledger",
					order.OrderNo, order.User, order.Quantity, ledger.User, ledger.Quantity, ledger.ItemID)
			}
		case ok && (ledger.Status.Live() || ledger.Owed), waiting[order.OrderNo]:
		default:
			unexplained = append(unexplained, order)
		}
	}
	return unexplained, nil
}

// owes reports whether the snapshot owes the release of a buyer's order.
func (e *examination) owes(order flashsale.Order) bool {
	return slices.ContainsFunc(e.books.Owed, func(row flashsale.OutboxRow) bool {
		return row.Kind == flashsale.Release && row.OrderNo == order.OrderNo && row.User == order.User
	})
}

// longRuns counts the values that come more than limit times in a sorted slice.
func longRuns(sorted []uint64, limit int) (runs int64) {
	for start, n := 0, 1; n <= len(sorted); n++ {
		if n == len(sorted) || sorted[n] != sorted[start] {
			if n-start > limit {
				runs++
			}
			start = n
		}
	}
	return runs
}

// sequences checks that the sequences of a generation are 1 to end, each once.
type sequences struct {
	end     int64   // what comes later is not missed yet
	excused []int64 // of orders that wait or were discarded, ascending
	count   int64   // distinct sequences of the ledger's orders
	highest int64   // of the ledger's orders
	checked int64   // up to here nothing is missing that is not counted

	missing, firstMissing int64
}

func (s *sequences) excuse(numbers ...int64) { s.excused = append(s.excused, numbers...) }

// add takes the next sequence, in ascending order.
func (s *sequences) add(number int64) (doubled bool) {
	if number == s.highest {
		return true
	}
	s.miss(min(number-1, s.end))
	s.highest, s.checked = number, max(s.checked, number)
	s.count++
	return false
}

// finish looks at what is behind the last one.
func (s *sequences) finish() { s.miss(s.end) }

// miss counts what nobody has, from where it was checked up to last.
func (s *sequences) miss(last int64) {
	at, _ := slices.BinarySearch(s.excused, s.checked+1)
	for s.checked < last {
		next := last + 1
		if at < len(s.excused) {
			next = min(next, s.excused[at])
			at++
		}
		if gap := next - 1 - s.checked; gap > 0 {
			if s.missing == 0 {
				s.firstMissing = s.checked + 1
			}
			s.missing += gap
		}
		s.checked = max(s.checked, min(next, last))
	}
}
