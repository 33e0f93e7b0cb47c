package baseline

import (
	"context"
	"sync"
)

// mutex holds a lock of the process while it reads the stock, checks it and writes it back with
// the order.
//
// It is what a first version does, and many a tutorial: it is right on one node, and stays so
// in every test on one machine. On two nodes each has a lock of its own: both read 5, both
// write 4, and two orders have cost one unit. And one node decides one request at a time, each
// as long as a commit takes.
type mutex struct {
	table

	mu sync.Mutex // serializes this node, and only this one
}

func openMutex(s Stores) (Strategy, error) { return &mutex{table: newTable(s)}, nil }

// Buy implements [Strategy].
func (m *mutex) Buy(ctx context.Context, user string, number int64) (Outcome, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.readThenWrite(ctx, user, number)
}
