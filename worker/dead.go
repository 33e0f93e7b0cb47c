package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"flashsale"
	"flashsale/engine"
	"flashsale/lua"
)

var deadRetryScript = redis.NewScript(lua.DeadRetry)

// DeadEngine is Redis' side of the engine as the dead letters need it.
type DeadEngine interface {
	Item(ctx context.Context, item flashsale.ItemID) (engine.Account, error)
	Release(ctx context.Context, item flashsale.ItemID, orders []engine.Held) (released int, err error)
}

// DeadLedger is the ledger of record as the dead letters need it.
type DeadLedger interface {
	// Order returns an order, or [flashsale.ErrNotFound].
	Order(ctx context.Context, no flashsale.OrderNo) (flashsale.Order, error)
	// Discard keeps that an order which Redis accepted is dropped, and why: its sequence is
	// accounted for.
	Discard(ctx context.Context, item flashsale.ItemID, order flashsale.Discarded, reason string) error
}

// DeadLettersConfig configures [DeadLetters].
type DeadLettersConfig struct {
	// Engine gives units back. Required.
	Engine DeadEngine
	// Ledger is the ledger of record. Required.
	Ledger DeadLedger
	// Partitions is how many streams there are. Default 1.
	Partitions int
	// RedisURL is that of the worker. Required.
	RedisURL string
}

// DeadLetters are the orders that no transaction could ever hold, for an operator to look at,
// to try again after the cause is mended, or to drop. Each holds its units until then.
// Close it afterwards.
type DeadLetters struct {
	config DeadLettersConfig
	client redis.UniversalClient
}

// DeadLetter is one order, or one entry that cannot be read, with the reason why it was set aside.
type DeadLetter struct {
	ID     string    `json:"id"`     // <partition>/<id in the dead stream>
	Entry  string    `json:"entry"`  // the id of its entry in the stream of orders
	Reason string    `json:"reason"` // of the ledger or of the decoder
	At     time.Time `json:"at"`     // when it was set aside
	// Fields are names and values in turn, as they are: item, gen, seq, at_ms, then the user with
	// his "order_no qty key". Of an entry that cannot be read they may be anything.
	Fields []string `json:"fields"`
}

// letterFields are those that lua/dead_letter.lua writes before the entry's: entry, reason.
const letterFields = 4

// NewDeadLetters checks the configuration. It connects to nothing.
func NewDeadLetters(config DeadLettersConfig) (*DeadLetters, error) {
	config.Partitions = cmp.Or(config.Partitions, 1)
	switch {
	case config.RedisURL == "":
		return nil, errors.New("dead letters: RedisURL is required")
	case config.Engine == nil || config.Ledger == nil:
		return nil, errors.New("dead letters: Engine and Ledger are required")
	case config.Partitions < 1:
		return nil, fmt.Errorf("dead letters: Partitions must be positive, not %d", config.Partitions)
	}
	client, err := newClient(config.RedisURL, poolSpare)
	if err != nil {
		return nil, err
	}
	return &DeadLetters{config: config, client: client}, nil
}

// Close closes the connections.
func (d *DeadLetters) Close() error { return d.client.Close() }

// taken reports whether a filter takes a dead letter.
func (l DeadLetter) taken(f flashsale.DeadFilter) bool {
	if len(f.IDs) > 0 && !slices.Contains(f.IDs, l.ID) {
		return false
	}
	if f.Item != 0 && (len(l.Fields) < 2 || l.Fields[0] != headerNames[0] || l.Fields[1] != f.Item.String()) {
		return false
	}
	return strings.Contains(strings.ToLower(l.Reason), strings.ToLower(f.Reason))
}

// List returns the dead letters that the filter takes, partition by partition, the oldest first, at
// most limit.
func (d *DeadLetters) List(ctx context.Context, filter flashsale.DeadFilter, limit int) (letters []DeadLetter, err error) {
	err = d.walk(ctx, filter, func(letter DeadLetter) (bool, error) {
		if len(letters) < limit {
			letters = append(letters, letter)
		}
		return len(letters) < limit, nil
	})
	if err != nil {
		return nil, fmt.Errorf("list: %w", err)
	}
	return letters, nil
}

// deadPage is how many dead letters are read at once.
const deadPage = 1000

// walk calls fn with the dead letters that there are now and that the filter takes, until it says no
// more. What comes meanwhile is not among them.
func (d *DeadLetters) walk(ctx context.Context, filter flashsale.DeadFilter, fn func(DeadLetter) (more bool, err error)) error {
	for p := range d.config.Partitions {
		newest, err := d.client.XRevRangeN(ctx, engine.DeadKey(p), "+", "-", 1).Result()
		if err != nil {
			return fmt.Errorf("read %s: %w", engine.DeadKey(p), err)
		}
		for from := "-"; len(newest) > 0 && from != ""; {
			page, err := d.read(ctx, p, from, newest[0].ID, deadPage)
			if err != nil {
				return err
			}
			from = ""
			for _, letter := range page {
				_, entry, _ := strings.Cut(letter.ID, "/")
				from = "(" + entry
				if !letter.taken(filter) {
					continue
				}
				if more, err := fn(letter); err != nil || !more {
					return err
				}
			}
		}
	}
	return nil
}

// read returns dead letters of a partition, from one id to another.
func (d *DeadLetters) read(ctx context.Context, partition int, from, to string, limit int) ([]DeadLetter, error) {
	return readLetters(ctx, d.client, partition, from, to, limit)
}

func readLetters(ctx context.Context, client redis.UniversalClient, partition int, from, to string, limit int) ([]DeadLetter, error) {
	key := engine.DeadKey(partition)
	r, err := do(ctx, client, "xrange", key, from, to, "count", limit)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	entries, err := r.array()
	letters := make([]DeadLetter, 0, max(entries, 0))
	for range entries {
		letter, err := readLetter(&r, partition)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", key, err)
		}
		letters = append(letters, letter)
	}
	return letters, err
}

func readLetter(r *reply, partition int) (letter DeadLetter, err error) {
	if n, err := r.array(); err != nil || n != 2 {
		return letter, errReply
	}
	id, err := r.text()
	if err != nil {
		return letter, err
	}
	n, err := r.array()
	for range n {
		text, err := r.text()
		if err != nil {
			return letter, err
		}
		letter.Fields = append(letter.Fields, text)
	}
	letter.ID = strconv.Itoa(partition) + "/" + id
	letter.At, _ = entryTime(id)
	if f := letter.Fields; len(f) > letterFields && f[0] == "entry" && f[2] == "reason" {
		letter.Entry, letter.Reason, letter.Fields = f[1], f[3], f[letterFields:]
	}
	return letter, err
}

// Retry puts a dead letter back into its stream, where the workers try it again. If nothing was
// mended it comes back as another dead letter. One that was retried or dropped before is
// [flashsale.ErrNotFound].
func (d *DeadLetters) Retry(ctx context.Context, id string) error {
	p, entry, err := d.locate(id)
	if err != nil {
		return fmt.Errorf("retry dead letter: %w", err)
	}
	if err := d.retry(ctx, p, entry); err != nil {
		return fmt.Errorf("retry dead letter %s: %w", id, err)
	}
	return nil
}

func (d *DeadLetters) retry(ctx context.Context, partition int, entry string) error {
	keys := []string{engine.DeadKey(partition), engine.OrdersKey(partition), engine.WaitingKey(partition)}
	reply, err := deadRetryScript.Run(ctx, d.client, keys, entry).Int64Slice()
	switch {
	case err != nil:
		return err
	case len(reply) != 1:
		return errReply
	case reply[0] == lua.DeadRetryGone:
		return flashsale.ErrNotFound
	case reply[0] == lua.DeadRetryForeign:
		return fmt.Errorf("it does not hold an order: %w", flashsale.ErrConflict)
	}
	return nil
}

// RetryAll puts all dead letters that the filter takes back into their streams, and says how many
// those were and how many hold no order and were left. One that comes back meanwhile is not tried
// twice.
func (d *DeadLetters) RetryAll(ctx context.Context, filter flashsale.DeadFilter) (retried, left int, err error) {
	err = d.walk(ctx, filter, func(letter DeadLetter) (bool, error) {
		p, entry, err := d.locate(letter.ID)
		if err == nil {
			err = d.retry(ctx, p, entry)
		}
		switch {
		case err == nil:
			retried++
		case errors.Is(err, flashsale.ErrConflict):
			left++
		case !errors.Is(err, flashsale.ErrNotFound):
			return false, fmt.Errorf("retry dead letter %s: %w", letter.ID, err)
		}
		return true, nil
	})
	return retried, left, err
}

// DropAll drops all dead letters that the filter takes, and says how many those were and how many
// units they gave back.
func (d *DeadLetters) DropAll(ctx context.Context, filter flashsale.DeadFilter) (dropped, units int, err error) {
	err = d.walk(ctx, filter, func(letter DeadLetter) (bool, error) {
		switch err := d.Drop(ctx, letter.ID); {
		case err == nil:
			dropped++
			for _, order := range letter.orders() {
				units += order.Quantity
			}
		case !errors.Is(err, flashsale.ErrNotFound):
			return false, err
		}
		return true, nil
	})
	return dropped, units, err
}

// Drop removes a dead letter for ever and gives its units back, so that the user may buy again,
// if it tells whose order it is. After an error, drop it again rather than retry it: its units
// may be given back already. One that is gone is [flashsale.ErrNotFound].
func (d *DeadLetters) Drop(ctx context.Context, id string) error {
	p, entry, err := d.locate(id)
	if err != nil {
		return fmt.Errorf("drop dead letter: %w", err)
	}
	found, err := d.read(ctx, p, entry, entry, 1)
	if err != nil {
		return fmt.Errorf("drop dead letter %s: %w", id, err)
	}
	if len(found) == 0 {
		return fmt.Errorf("drop dead letter %s: %w", id, flashsale.ErrNotFound)
	}
	letter := found[0]
	for _, order := range letter.orders() {
		if err := d.release(ctx, order, letter.Reason); err != nil {
			return fmt.Errorf("drop dead letter %s: %w", id, err)
		}
	}
	if err := d.client.XDel(ctx, engine.DeadKey(p), entry).Err(); err != nil {
		return fmt.Errorf("drop dead letter %s: %w", id, err)
	}
	return nil
}

// release gives an order's units back, and keeps that it did, unless the ledger holds that very
// order: then its units are the ledger's, and the dead letter is but a spoiled copy.
func (d *DeadLetters) release(ctx context.Context, order flashsale.Order, reason string) error {
	stored, err := d.config.Ledger.Order(ctx, order.OrderNo)
	switch {
	case err == nil && stored.ItemID == order.ItemID && stored.User == order.User:
		return nil
	case err != nil && !errors.Is(err, flashsale.ErrNotFound):
		return err
	}
	if order.Generation > 0 && order.Sequence > 0 {
		err := d.config.Ledger.Discard(ctx, order.ItemID, flashsale.Discarded{
			OrderNo: order.OrderNo, User: order.User, Quantity: order.Quantity,
			Generation: order.Generation, Sequence: order.Sequence,
		}, reason)
		if err != nil {
			return err
		}
	}
	_, err = d.config.Engine.Release(ctx, order.ItemID, []engine.Held{{OrderNo: order.OrderNo, User: order.User}})
	if !errors.Is(err, engine.ErrNotReady) {
		return err
	}
	// An item that Redis does not hold counts no units for it, and if it is rebuilt, neither.
	if _, missing := d.config.Engine.Item(ctx, order.ItemID); errors.Is(missing, flashsale.ErrNotFound) {
		return nil
	}
	return err
}

// orders reads of whom the units are. The rest of the entry may be what is wrong with it.
func (l DeadLetter) orders() (orders []flashsale.Order) {
	if len(l.Fields) <= 2*len(headerNames) || l.Fields[0] != headerNames[0] {
		return nil
	}
	item, err := flashsale.ParseID[flashsale.ItemID](l.Fields[1])
	if err != nil {
		return nil
	}
	generation, _ := strconv.ParseInt(l.Fields[3], 10, 64)
	sequence, _ := strconv.ParseInt(l.Fields[5], 10, 64)
	for pair := range slices.Chunk(l.Fields[2*len(headerNames):], 2) {
		order := flashsale.Order{ItemID: item, Generation: generation, Sequence: sequence}
		if sequence++; len(pair) < 2 || !flashsale.ValidUser(pair[0]) {
			continue
		}
		order.User = pair[0]
		text, rest, _ := strings.Cut(pair[1], " ")
		qty, key, _ := strings.Cut(rest, " ")
		order.Quantity, _ = strconv.Atoi(qty)
		order.IdempotencyKey = key
		if order.OrderNo, err = flashsale.ParseID[flashsale.OrderNo](text); err == nil {
			orders = append(orders, order)
		}
	}
	return orders
}

// locate reads <partition>/<id>.
func (d *DeadLetters) locate(id string) (partition int, entry string, err error) {
	text, entry, ok := strings.Cut(id, "/")
	partition, err = strconv.Atoi(text)
	if !ok || err != nil || partition < 0 || !validEntryID(entry) {
		return 0, "", fmt.Errorf("%.80q is no <partition>/<id>: %w", id, flashsale.ErrMalformedID)
	}
	if partition >= d.config.Partitions {
		return 0, "", fmt.Errorf("%s: partition %d of %d: %w", id, partition, d.config.Partitions, flashsale.ErrNotFound)
	}
	return partition, entry, nil
}

// validEntryID wants <ms>-<n>, so that nothing else, such as a range, comes to Redis.
func validEntryID(id string) bool {
	ms, n, ok := strings.Cut(id, "-")
	_, msErr := strconv.ParseUint(ms, 10, 64)
	_, nErr := strconv.ParseUint(n, 10, 64)
	return ok && msErr == nil && nErr == nil
}
