package baseline

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/rueidis"
)

// Strategy is one way to take stock, of one item. Every user may have one order of one unit.
type Strategy interface {
	// Prepare puts so many units on sale. It is called once, before any node starts.
	Prepare(ctx context.Context, stock int64) error
	// Buy decides for a user. The number is the order's if the outcome is Accepted. An error
	// says nothing of the outcome.
	Buy(ctx context.Context, user string, number int64) (Outcome, error)
	// State reads the truth from where the strategy keeps it. It is called at rest.
	State(ctx context.Context) (State, error)
	// Forget drops what would burden the measurements that follow.
	Forget(ctx context.Context) error
}

// Outcome is how a request was decided.
type Outcome int

// Outcomes.
const (
	Accepted Outcome = iota + 1
	SoldOut
	Duplicate  // the user holds an order already
	Overloaded // nothing was decided: ask again
)

// State is an item at rest.
type State struct {
	Left   int64
	Orders []Order
}

// Order is one that was stored.
type Order struct {
	Number int64
	User   string
}

// Stores are what a strategy works on.
type Stores struct {
	Redis    rueidis.Client
	Database *pgxpool.Pool
	Item     int64
}

// Way names a strategy and makes it.
type Way struct {
	Name  string
	About string
	// InRedis tells that no request waits for PostgreSQL, so that a window serves many more
	// users.
	InRedis bool

	open func(Stores) (Strategy, error)
}

// Ways are all strategies, from the plainest to the nearest to the engine.
func Ways() []Way {
	return []Way{
		{"mutex", "process mutex around read, check, write in PostgreSQL", false, openMutex},
		{"lock", "lock in Redis around the same", false, openLock},
		{"optimistic", "PostgreSQL, UPDATE … WHERE version = …, retried", false, openOptimistic},
		{"conditional", "PostgreSQL, UPDATE … WHERE stock > 0 and a unique order", false, openConditional},
		{"separate", "Redis, three calls: HSETNX, HINCRBY, XADD", true, openSeparate},
		{"script", "Redis, one script a request, one stream entry an order", true, openScript},
	}
}

// New makes the strategy of a name.
func New(name string, stores Stores) (Strategy, error) {
	var names []string
	for _, way := range Ways() {
		if way.Name == name {
			return way.open(stores)
		}
		names = append(names, way.Name)
	}
	return nil, fmt.Errorf("there is no strategy %q: %s", name, strings.Join(names, ", "))
}

const connectionsMax = 16 // to PostgreSQL, a node

// Open connects to the stores. The caller closes them.
func Open(ctx context.Context, config Config) (Stores, error) {
	option, err := rueidis.ParseURL(config.RedisURL)
	if err != nil {
		return Stores{}, fmt.Errorf("redis url: %w", err)
	}
	option.DisableCache = true
	pool, err := pgxpool.ParseConfig(config.DatabaseURL)
	if err != nil {
		return Stores{}, fmt.Errorf("database url: %w", err)
	}
	pool.MaxConns = connectionsMax
	stores := Stores{Item: config.Item}
	if stores.Redis, err = rueidis.NewClient(option); err != nil {
		return Stores{}, fmt.Errorf("connect to redis: %w", err)
	}
	if stores.Database, err = pgxpool.NewWithConfig(ctx, pool); err == nil {
		err = stores.Database.Ping(ctx)
	}
	if err != nil {
		stores.Close()
		return Stores{}, fmt.Errorf("connect to postgresql: %w", err)
	}
	return stores, nil
}

// Close ends the connections.
func (s Stores) Close() {
	if s.Redis != nil {
		s.Redis.Close()
	}
	if s.Database != nil {
		s.Database.Close()
	}
}
