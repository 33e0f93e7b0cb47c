package engine

import (
	"fmt"

	"github.com/redis/rueidis"

	"flashsale"
	"flashsale/lua"
)

// The scripts, as rueidis runs them: EVALSHA, and EVAL when Redis has forgotten the script.
// Those that are idempotent by their keys and arguments may be sent again after a lost
// connection; reserve may not.
var (
	fenceScript         = rueidis.NewLuaScriptRetryable(lua.Fence)
	fenceLiftScript     = rueidis.NewLuaScript(lua.FenceLift)
	preheatScript       = rueidis.NewLuaScript(lua.Preheat)
	rebuildBuyersScript = rueidis.NewLuaScript(lua.RebuildBuyers)
	rebuildOpenScript   = rueidis.NewLuaScript(lua.RebuildOpen)
	releaseScript       = rueidis.NewLuaScript(lua.Release)
	reserveScript       = rueidis.NewLuaScript(lua.Reserve)
	restockScript       = rueidis.NewLuaScript(lua.Restock)
	runScript           = rueidis.NewLuaScriptRetryable(lua.Run)
	setStateScript      = rueidis.NewLuaScriptRetryable(lua.SetState)
)

const (
	statusDecided    = lua.ReserveDecided
	statusNotReady   = lua.ReserveNotReady
	statusOverloaded = lua.ReserveOverloaded
)

// reserveReply is the decoded reply of lua/reserve.lua.
type reserveReply struct {
	status    int64
	nowMS     int64
	decisions []itemDecision // one a section of the run
}

// itemDecision is what it says of one item.
type itemDecision struct {
	status            int64
	sight             sight
	stock             int64
	opensMS, closesMS int64
	outcomes          string
	orderNos          []flashsale.OrderNo // 0 where an L holds none, or none that is readable
}

// sight is the moment at which an item was seen, by what only grows: the version of its stock, its
// generation, and the orders accepted in that.
type sight struct{ epoch, gen, seq int64 }

var letterOutcomes = [256]flashsale.Outcome{
	lua.LetterAccepted:       flashsale.Accepted,
	lua.LetterReplayed:       flashsale.Replayed,
	lua.LetterDuplicateOrder: flashsale.DuplicateOrder,
	lua.LetterLimitReached:   flashsale.LimitReached,
	lua.LetterSoldOut:        flashsale.SoldOut,
	lua.LetterNotStarted:     flashsale.NotStarted,
	lua.LetterEnded:          flashsale.Ended,
	lua.LetterPaused:         flashsale.Paused,
	lua.LetterKeyReused:      flashsale.KeyReused,
	lua.LetterOverloaded:     flashsale.Overloaded,
}

// namesOrder tells of which outcomes the script names the order.
var namesOrder = [flashsale.Overloaded + 1]bool{
	flashsale.Replayed: true, flashsale.DuplicateOrder: true, flashsale.LimitReached: true, flashsale.KeyReused: true,
}

// decodeReserve checks the whole reply before anybody is answered from it.
func decodeReserve(result rueidis.RedisResult, run *run) (reserveReply, error) {
	parts, err := result.ToArray()
	if err != nil {
		return reserveReply{}, err
	}
	if len(parts) != 3 {
		return reserveReply{}, shapeError("reserve", result)
	}
	d := decoder{parts: parts}
	r := reserveReply{status: d.int(0), nowMS: d.decimal(1)}
	items, err := parts[2].ToArray()
	if d.err != nil || err != nil {
		return reserveReply{}, shapeError("reserve", result)
	}
	switch {
	case r.status == statusOverloaded:
		return r, nil
	case r.status != statusDecided || len(items) != len(run.sections):
		return reserveReply{}, shapeError("reserve", result)
	}
	r.decisions = make([]itemDecision, len(items))
	for n := range items {
		if !r.decisions[n].decode(items[n], run.sections[n].requests) {
			return reserveReply{}, shapeError("reserve", result)
		}
	}
	return r, nil
}

// decode reports whether the part of a reply that is of one item has the shape that was agreed.
func (i *itemDecision) decode(message rueidis.RedisMessage, requests int) bool {
	parts, err := message.ToArray()
	if err != nil || len(parts) != 9 {
		return false
	}
	d := decoder{parts: parts}
	i.status, i.sight.epoch, i.stock = d.int(0), d.int(1), d.int(2)
	i.opensMS, i.closesMS = d.decimal(3), d.decimal(4)
	i.sight.gen, i.sight.seq = d.int(5), d.int(6)
	i.outcomes = d.text(7)
	orderNos, err := parts[8].ToArray()
	if d.err != nil || err != nil {
		return false
	}
	if i.status == statusNotReady {
		return true
	}
	named := 0
	for n := range len(i.outcomes) {
		outcome := letterOutcomes[i.outcomes[n]]
		if outcome == 0 {
			return false
		}
		if namesOrder[outcome] {
			named++
		}
	}
	if i.status != statusDecided || len(i.outcomes) != requests || named != len(orderNos) {
		return false
	}
	for _, message := range orderNos {
		text, err := message.ToString()
		if err != nil {
			return false
		}
		// One user's unreadable entry must not fail the others: it stays 0.
		order, _ := flashsale.ParseID[flashsale.OrderNo](text)
		i.orderNos = append(i.orderNos, order)
	}
	return true
}

// answer notes the decision on each request of a section, which the numbers were made for.
func (i *itemDecision) answer(s *section, numbers []flashsale.OrderNo) {
	n, named := 0, 0
	for _, g := range s.groups {
		g.decisions = g.decisions[:0]
		for range g.requests {
			reply, err := Reply{Outcome: letterOutcomes[i.outcomes[n]]}, error(nil)
			switch outcome := reply.Outcome; {
			case outcome == flashsale.Accepted:
				reply.OrderNo = numbers[n]
			case outcome == flashsale.NotStarted:
				reply.OpensAt = fromMS(i.opensMS)
			case namesOrder[outcome]:
				reply.OrderNo = i.orderNos[named]
				named++
				if reply.OrderNo == 0 && outcome != flashsale.LimitReached {
					reply, err = Reply{}, unknownError("reserve", s.queue.item, ErrUnreadable)
				}
			}
			g.decide(reply, err)
			n++
		}
	}
}

// decodeInts reads a reply of exactly n integers, the first of them the status.
func decodeInts(script string, result rueidis.RedisResult, n int) ([]int64, error) {
	numbers, err := result.AsIntSlice()
	if err != nil {
		return nil, err
	}
	if len(numbers) != n {
		return nil, shapeError(script, result)
	}
	return numbers, nil
}

// shapeError tells of a reply that the script's contract does not know.
func shapeError(script string, result rueidis.RedisResult) error {
	return fmt.Errorf("%s.lua: unexpected reply %s", script, result.String())
}

// decoder reads the parts of a reply and keeps the first error.
type decoder struct {
	parts []rueidis.RedisMessage
	err   error
}

func (d *decoder) int(n int) int64 {
	v, err := d.parts[n].ToInt64()
	d.keep(err)
	return v
}

func (d *decoder) decimal(n int) int64 {
	v, err := d.parts[n].AsInt64()
	d.keep(err)
	return v
}

func (d *decoder) text(n int) string {
	v, err := d.parts[n].ToString()
	d.keep(err)
	return v
}

func (d *decoder) keep(err error) {
	if d.err == nil {
		d.err = err
	}
}
