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
	setStateScript      = rueidis.NewLuaScriptRetryable(lua.SetState)
)

const (
	statusDecided    = lua.ReserveDecided
	statusNotReady   = lua.ReserveNotReady
	statusOverloaded = lua.ReserveOverloaded
)

// reserveReply is the decoded reply of lua/reserve.lua.
type reserveReply struct {
	status                   int64
	epoch, stock             int64
	nowMS, opensMS, closesMS int64
	outcomes                 string
	orderNos                 []flashsale.OrderNo // 0 where an L holds none, or none that is readable
}

var letterOutcomes = [256]flashsale.Outcome{
	lua.LetterAccepted:       flashsale.Accepted,
	lua.LetterReplayed:       flashsale.Replayed,
	lua.LetterDuplicateOrder: flashsale.DuplicateOrder,
	lua.LetterLimitReached:   flashsale.LimitReached,
	lua.LetterSoldOut:        flashsale.SoldOut,
	lua.LetterNotStarted:     flashsale.NotStarted,
	lua.LetterEnded:          flashsale.Ended,
	lua.LetterPaused:         flashsale.Paused,
}

// decodeReserve checks the whole reply before anybody is answered from it.
func decodeReserve(result rueidis.RedisResult, requests int) (reserveReply, error) {
	parts, err := result.ToArray()
	if err != nil {
		return reserveReply{}, err
	}
	if len(parts) != 8 {
		return reserveReply{}, shapeError("reserve", result)
	}
	var r reserveReply
	d := decoder{parts: parts}
	r.status, r.epoch, r.stock = d.int(0), d.int(1), d.int(2)
	r.nowMS, r.opensMS, r.closesMS = d.decimal(3), d.decimal(4), d.decimal(5)
	r.outcomes = d.text(6)
	orderNos, err := parts[7].ToArray()
	if d.err != nil || err != nil {
		return reserveReply{}, shapeError("reserve", result)
	}
	switch r.status {
	case statusNotReady, statusOverloaded:
		return r, nil
	case statusDecided:
	default:
		return reserveReply{}, shapeError("reserve", result)
	}
	if len(r.outcomes) != requests {
		return reserveReply{}, shapeError("reserve", result)
	}
	named := 0
	for i := range len(r.outcomes) {
		switch letterOutcomes[r.outcomes[i]] {
		case 0:
			return reserveReply{}, shapeError("reserve", result)
		case flashsale.Replayed, flashsale.DuplicateOrder, flashsale.LimitReached:
			named++
		}
	}
	if named != len(orderNos) {
		return reserveReply{}, shapeError("reserve", result)
	}
	for _, message := range orderNos {
		text, err := message.ToString()
		if err != nil {
			return reserveReply{}, shapeError("reserve", result)
		}
		// One user's unreadable entry must not fail the others: it stays 0.
		order, _ := flashsale.ParseID[flashsale.OrderNo](text)
		r.orderNos = append(r.orderNos, order)
	}
	return r, nil
}

// answer notes the decision on each request.
func (r *reserveReply) answer(item flashsale.ItemID, b *batch) {
	b.decisions = b.decisions[:0]
	named := 0
	for n := range b.requests {
		d := decision{reply: Reply{Outcome: letterOutcomes[r.outcomes[n]]}}
		switch d.reply.Outcome {
		case flashsale.Accepted:
			d.reply.OrderNo = b.orders[n]
		case flashsale.Replayed, flashsale.DuplicateOrder, flashsale.LimitReached:
			d.reply.OrderNo = r.orderNos[named]
			named++
			if d.reply.OrderNo == 0 && d.reply.Outcome != flashsale.LimitReached {
				d = decision{err: unknownError("reserve", item, ErrUnreadable)}
			}
		case flashsale.NotStarted:
			d.reply.OpensAt = fromMS(r.opensMS)
		}
		b.decisions = append(b.decisions, d)
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
