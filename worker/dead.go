package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
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

// DeadLetters are the entries that no transaction could ever hold, for an operator to look at,
// to try again after the cause is mended, or to drop. Each holds its units until then.
// Close it afterwards.
type DeadLetters struct {
	config DeadLettersConfig
	client redis.UniversalClient
}

// DeadLetter is one entry with the reason why it was set aside.
type DeadLetter struct {
	ID     string            `json:"id"`     // <partition>/<id in the dead stream>
	Entry  string            `json:"entry"`  // the id that it had in the stream of orders
	Reason string            `json:"reason"` // of the ledger or of the decoder
	At     time.Time         `json:"at"`     // when it was set aside
	Fields map[string]string `json:"fields"` // of the entry, as they are: they may hold anything
}

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

// List returns the dead letters, partition by partition, the oldest first, at most limit.
func (d *DeadLetters) List(ctx context.Context, limit int) ([]DeadLetter, error) {
	var letters []DeadLetter
	for p := 0; p < d.config.Partitions && len(letters) < limit; p++ {
		entries, err := d.client.XRangeN(ctx, engine.DeadKey(p), "-", "+", int64(limit-len(letters))).Result()
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", engine.DeadKey(p), err)
		}
		for _, entry := range entries {
			letters = append(letters, newDeadLetter(p, entry))
		}
	}
	return letters, nil
}

func newDeadLetter(partition int, entry redis.XMessage) DeadLetter {
	letter := DeadLetter{
		ID:     strconv.Itoa(partition) + "/" + entry.ID,
		Fields: make(map[string]string, len(entry.Values)),
	}
	for name, value := range entry.Values {
		letter.Fields[name], _ = value.(string) // go-redis gives strings
	}
	letter.Entry, letter.Reason = letter.Fields["entry"], letter.Fields["reason"]
	delete(letter.Fields, "entry")
	delete(letter.Fields, "reason")
	ms, _, _ := strings.Cut(entry.ID, "-")
	if n, err := strconv.ParseInt(ms, 10, 64); err == nil {
		letter.At = time.UnixMilli(n)
	}
	return letter
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
	keys := []string{engine.DeadKey(partition), engine.OrdersKey(partition)}
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

// retryPage is how many dead letters RetryAll reads at once.
const retryPage = 1000

// RetryAll puts all dead letters that there are now back into their streams, and says how many
// those were and how many hold no order and were left. One that comes back meanwhile is not
// tried twice.
func (d *DeadLetters) RetryAll(ctx context.Context) (retried, left int, err error) {
	for p := range d.config.Partitions {
		newest, err := d.client.XRevRangeN(ctx, engine.DeadKey(p), "+", "-", 1).Result()
		if err != nil {
			return retried, left, fmt.Errorf("retry %s: %w", engine.DeadKey(p), err)
		}
		for from := "-"; len(newest) > 0 && from != ""; {
			page, err := d.client.XRangeN(ctx, engine.DeadKey(p), from, newest[0].ID, retryPage).Result()
			if err != nil {
				return retried, left, fmt.Errorf("retry %s: %w", engine.DeadKey(p), err)
			}
			from = ""
			for _, entry := range page {
				switch err := d.retry(ctx, p, entry.ID); {
				case err == nil:
					retried++
				case errors.Is(err, flashsale.ErrConflict):
					left++
				case !errors.Is(err, flashsale.ErrNotFound):
					return retried, left, fmt.Errorf("retry dead letter %d/%s: %w", p, entry.ID, err)
				}
				from = "(" + entry.ID
			}
		}
	}
	return retried, left, nil
}

// Drop removes a dead letter for ever and gives its units back, so that the user may buy again,
// if it tells whose order it is. After an error, drop it again rather than retry it: its units
// may be given back already. One that is gone is [flashsale.ErrNotFound].
func (d *DeadLetters) Drop(ctx context.Context, id string) error {
	p, entry, err := d.locate(id)
	if err != nil {
		return fmt.Errorf("drop dead letter: %w", err)
	}
	found, err := d.client.XRangeN(ctx, engine.DeadKey(p), entry, entry, 1).Result()
	if err != nil {
		return fmt.Errorf("drop dead letter %s: %w", id, err)
	}
	if len(found) == 0 {
		return fmt.Errorf("drop dead letter %s: %w", id, flashsale.ErrNotFound)
	}
	letter := newDeadLetter(p, found[0])
	if order, ok := letter.order(); ok {
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

// order reads of whom the units are. The rest of the entry may be what is wrong with it.
func (l DeadLetter) order() (order flashsale.Order, ok bool) {
	no, noErr := flashsale.ParseID[flashsale.OrderNo](l.Fields["order"])
	item, itemErr := flashsale.ParseID[flashsale.ItemID](l.Fields["item"])
	order = flashsale.Order{OrderNo: no, ItemID: item, User: l.Fields["user"], IdempotencyKey: l.Fields["key"]}
	order.Quantity, _ = strconv.Atoi(l.Fields["qty"])
	order.Generation, _ = strconv.ParseInt(l.Fields["gen"], 10, 64)
	order.Sequence, _ = strconv.ParseInt(l.Fields["seq"], 10, 64)
	return order, noErr == nil && itemErr == nil && flashsale.ValidUser(order.User)
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
