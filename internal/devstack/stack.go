package devstack

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

var errNoPostgres = errors.New("devstack: this stack has no PostgreSQL")

// Stack is a private Redis, a private PostgreSQL, or both.
type Stack struct {
	Redis    *Server // nil unless Config.Redis, and where it is Nodes
	Postgres *Server // nil unless Config.Postgres

	// Nodes are those of a cluster, primaries first, then the replica of each in the same order; or
	// the primary that Sentinels watch at first, and its replicas.
	Nodes     []*Server
	Sentinels []*Server

	dir       string
	temporary bool
	lock      *os.File
	postgres  *postgresDaemon
	stop      func() error
}

// Start starts the servers that the config asks for and returns when they answer. The context
// bounds the start only; [Stack.Stop] ends them.
func Start(ctx context.Context, config Config) (*Stack, error) {
	config = config.withDefaults()
	if err := config.validate(); err != nil {
		return nil, fmt.Errorf("devstack: %w", err)
	}
	stack := &Stack{dir: config.Dir, temporary: config.Dir == ""}
	stack.stop = sync.OnceValue(stack.stopAll)
	if err := stack.start(ctx, config); err != nil {
		return nil, errors.Join(fmt.Errorf("devstack: %w", err), stack.Stop())
	}
	return stack, nil
}

func (s *Stack) start(ctx context.Context, config Config) error {
	// What is missing on the machine comes first: nothing is on the disk yet.
	var redis redisPrograms
	var runAs *account
	var err error
	if config.Redis {
		if redis, err = findRedis(); err != nil {
			return err
		}
	}
	if config.Postgres {
		if _, err = findPostgres(ctx, ""); err != nil {
			return err
		}
		if runAs, err = unprivileged(); err != nil {
			return err
		}
	}
	if err := s.openFolder(ctx, runAs); err != nil {
		return err
	}

	var starts []func(context.Context) error
	switch {
	case config.Cluster > 0:
		nodes := s.planCluster(config, redis)
		starts = append(starts, func(ctx context.Context) error {
			if err := together(ctx, nodes); err != nil {
				return err
			}
			if err := s.joinCluster(ctx, config.Cluster); err != nil {
				return fmt.Errorf("join the nodes to a cluster: %w", err)
			}
			return nil
		})
	case config.Sentinels > 0:
		starts = append(starts, func(ctx context.Context) error { return s.startSentinels(ctx, config, redis) })
	case config.Redis:
		s.Redis = s.server("redis", config, &redisDaemon{
			programs:    redis,
			dir:         filepath.Join(s.dir, "redis"),
			appendFsync: config.AppendFsync,
			args:        config.RedisArgs,
			lock:        s.lock,
		})
		starts = append(starts, s.Redis.start)
	}
	if config.Postgres {
		dir := filepath.Join(s.dir, "postgres")
		version, err := dataVersion(dir)
		if err != nil {
			return err
		}
		programs, err := findPostgres(ctx, version)
		if err != nil {
			return err
		}
		s.postgres = &postgresDaemon{
			programs: programs, dir: dir, temporary: s.temporary, account: runAs, lock: s.lock,
		}
		s.Postgres = s.server("postgres", config, s.postgres)
		starts = append(starts, s.Postgres.start)
	}
	return together(ctx, starts)
}

// openFolder makes sure of the data folder: there, ours alone, and reachable.
func (s *Stack) openFolder(ctx context.Context, runAs *account) error {
	var err error
	if s.temporary {
		if s.dir, err = makeTemp(runAs); err != nil {
			return err
		}
	} else {
		if err := os.MkdirAll(s.dir, 0o755); err != nil { //nolint:gosec // Each server's folder in it is closed.
			return err
		}
		if err := runAs.reaches(s.dir); err != nil {
			return err
		}
	}
	s.lock, err = lockFolder(ctx, s.dir)
	return err
}

func (s *Stack) server(name string, config Config, d daemon) *Server {
	return &Server{
		name:    name,
		daemon:  d,
		logPath: filepath.Join(s.dir, name+".log"),
		log:     config.Logger,
	}
}

// RedisURL is where clients find the Redis, "" when the stack has none. That of a cluster names
// every node, that of Sentinels each of them and the master set.
func (s *Stack) RedisURL() string {
	switch {
	case len(s.Sentinels) > 0:
		return sentinelURL(s.Sentinels)
	case len(s.Nodes) > 0:
		return severalURL(s.Nodes, url.Values{})
	case s.Redis == nil:
		return ""
	}
	return s.Redis.URL()
}

// DatabaseURL is where clients find the database of the PostgreSQL, "" when the stack has none.
func (s *Stack) DatabaseURL() string {
	if s.Postgres == nil {
		return ""
	}
	return s.Postgres.URL()
}

// CreateDatabase creates one more empty database and returns its URL.
func (s *Stack) CreateDatabase(ctx context.Context, name string) (string, error) {
	if s.Postgres == nil {
		return "", errNoPostgres
	}
	return s.postgres.createDatabase(ctx, s.Postgres.currentPort(), name)
}

// EnsureDatabase returns the URL of a database, which it creates unless it is there.
func (s *Stack) EnsureDatabase(ctx context.Context, name string) (string, error) {
	if s.Postgres == nil {
		return "", errNoPostgres
	}
	port := s.Postgres.currentPort()
	url, err := s.postgres.createDatabase(ctx, port, name)
	if isDuplicateDatabase(err) {
		return postgresURL(port, name), nil
	}
	return url, err
}

// DropDatabase drops a database together with the connections that are still open to it.
func (s *Stack) DropDatabase(ctx context.Context, name string) error {
	if s.Postgres == nil {
		return errNoPostgres
	}
	return s.postgres.dropDatabase(ctx, s.Postgres.currentPort(), name)
}

// Stop ends the servers, with their data in order unless it is temporary, and gives up the
// data folder. It is safe to stop twice.
func (s *Stack) Stop() error { return s.stop() }

func (s *Stack) stopAll() error {
	var stops []func(context.Context) error
	for _, server := range slices.Concat([]*Server{s.Redis, s.Postgres}, s.Nodes, s.Sentinels) {
		if server == nil {
			continue
		}
		stops = append(stops, func(context.Context) error {
			if s.temporary {
				server.Kill()
				return nil
			}
			return server.Stop()
		})
	}
	err := together(context.Background(), stops)
	if s.temporary && s.dir != "" {
		err = errors.Join(err, os.RemoveAll(s.dir))
	}
	if s.lock != nil {
		err = errors.Join(err, s.lock.Close())
	}
	return err
}

// together runs the steps at the same time and returns when all of them have.
func together(ctx context.Context, steps []func(context.Context) error) error {
	errs := make([]error, len(steps))
	var wg sync.WaitGroup
	for i, step := range steps {
		wg.Go(func() { errs[i] = step(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// dataVersion is the major version of PostgreSQL that wrote the data, "" when there is none:
// another version cannot read it.
func dataVersion(dir string) (string, error) {
	data, err := os.ReadFile(filepath.Join(dir, "PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(data)), err
}
