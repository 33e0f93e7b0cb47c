package worker

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"flashsale/internal/devstack/stacktest"
)

const (
	testLockTTL = 2 * time.Second
	testLockKey = "fs:lock:job"

	holderURL = "WORKER_TEST_HOLDER_REDIS_URL" // makes the test binary a process that holds the lock
)

// holdLock is a worker of its own that does the job until the job is taken from it. It says
// what happens to it, a line each.
func holdLock(url string) int {
	client, err := newClient(url, 2)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	_, err = newLocker(client).do(context.Background(), "job", testLockTTL, func(ctx context.Context) error {
		fmt.Println("held")
		<-ctx.Done()
		return nil
	})
	if errors.Is(err, errLockLost) {
		fmt.Println("lost")
		return 0
	}
	fmt.Println(err)
	return 1
}

// process is a running holdLock.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines *bufio.Scanner
}

func (s *setup) startHolder(t *testing.T) *process {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, cmd: exec.Command(program)}
	p.cmd.Env = append(os.Environ(), holderURL+"="+s.url)
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.lines = bufio.NewScanner(out)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	})
	return p
}

func (p *process) says(want string) {
	p.t.Helper()
	if !p.lines.Scan() || p.lines.Text() != want {
		p.t.Fatalf("holder says %q, want %q", p.lines.Text(), want)
	}
}

func (p *process) signal(sig os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
}

// take tries until the lock is ours, and runs the job.
func (s *setup) take(t *testing.T, job func(context.Context) error) {
	t.Helper()
	stacktest.Eventually(t, patience, func() error {
		ran, err := newLocker(s.client).do(t.Context(), "job", testLockTTL, job)
		if err == nil && !ran {
			err = errors.New("another holds the lock")
		}
		return err
	})
}

// Of many workers that want a job at once one does it, the others learn so at once, and once it
// is done the next may.
func TestLock_OneAtATime(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	var ran, inside atomic.Int32
	var workers sync.WaitGroup
	release := make(chan struct{})
	var tried sync.WaitGroup
	tried.Add(19)
	for range 20 {
		workers.Go(func() {
			done, err := newLocker(s.client).do(t.Context(), "job", time.Minute, func(context.Context) error {
				if inside.Add(1) > 1 {
					t.Error("two workers do the job")
				}
				<-release
				inside.Add(-1)
				return nil
			})
			switch {
			case err != nil:
				t.Error(err)
			case done:
				ran.Add(1)
			default:
				tried.Done()
			}
		})
	}
	tried.Wait()
	ttl, err := s.client.PTTL(t.Context(), testLockKey).Result()
	if err != nil || ttl <= 0 || ttl > time.Minute {
		t.Errorf("lock %s ends in %s: %v", testLockKey, ttl, err)
	}
	close(release)
	workers.Wait()
	if ran.Load() != 1 {
		t.Errorf("%d workers did the job", ran.Load())
	}
	if n, err := s.client.Exists(t.Context(), testLockKey).Result(); err != nil || n != 0 {
		t.Errorf("the lock is left: %v", err)
	}
	want := errors.New("job failed")
	if ran, err := newLocker(s.client).do(t.Context(), "job", time.Minute, func(context.Context) error { return want }); !ran || !errors.Is(err, want) {
		t.Errorf("next: %v, %v", ran, err)
	}
}

// The watchdog keeps the lock for as long as the job runs: for longer than the time to live.
func TestLock_WatchdogExtends(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	s.take(t, func(ctx context.Context) error {
		began := time.Now()
		stacktest.Eventually(t, patience, func() error {
			if ran, err := newLocker(s.client).do(t.Context(), "job", testLockTTL, func(context.Context) error { return nil }); ran || err != nil {
				t.Errorf("another did the job after %s: %v", time.Since(began), err)
			}
			if time.Since(began) < 2*testLockTTL {
				return errors.New("not long enough yet")
			}
			return nil
		})
		return ctx.Err()
	})
}

// A holder that is killed, with kill -9, leaves the lock to its time to live: another takes it
// then, and not before it.
func TestLock_HolderKilled(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	holder := s.startHolder(t)
	holder.says("held")
	holder.signal(syscall.SIGKILL)
	left, err := s.client.PTTL(t.Context(), testLockKey).Result()
	if err != nil || left <= 0 {
		t.Fatalf("the killed holder's lock ends in %s: %v", left, err)
	}
	began := time.Now()
	s.take(t, func(context.Context) error { return nil })
	if waited := time.Since(began); waited < left-100*time.Millisecond {
		t.Errorf("taken after %s of %s", waited, left)
	}
}

// A holder that is paused for longer than the time to live, with SIGSTOP, loses the lock to
// another. When it goes on its job is cancelled, and what it gives back is not the other's.
func TestLock_HolderPaused(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	holder := s.startHolder(t)
	holder.says("held")
	holder.signal(syscall.SIGSTOP)
	s.take(t, func(ctx context.Context) error {
		ours := s.client.Get(t.Context(), testLockKey).Val()
		holder.signal(syscall.SIGCONT)
		holder.says("lost")
		if err := holder.cmd.Wait(); err != nil {
			t.Errorf("holder: %v", err)
		}
		if now := s.client.Get(t.Context(), testLockKey).Val(); now != ours || ours == "" {
			t.Errorf("the lock is %q, was %q", now, ours)
		}
		return ctx.Err()
	})
}

// gate is a hook that keeps a client from Redis while it is shut: its calls run into their
// deadlines, as behind a network that drops everything.
type gate struct {
	dialWake
	shut atomic.Bool
}

func (g *gate) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if g.shut.Load() {
			<-ctx.Done()
			return ctx.Err()
		}
		return next(ctx, cmd)
	}
}

// A holder that is cut off from Redis knows by its own clock when the lock is over, and cancels
// its job before another can have it; a short cut is bridged.
func TestLock_CutOff(t *testing.T) {
	t.Parallel()
	const ttl = testLockTTL
	s := newSetup(t)
	client, err := newClient(s.url, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	cut := &gate{dialWake: dialWake{newWake()}}
	client.AddHook(cut)
	ran, err := newLocker(client).do(t.Context(), "job", ttl, func(ctx context.Context) error {
		cut.shut.Store(true)
		pause(ctx, ttl/4)
		cut.shut.Store(false)
		pause(ctx, ttl)
		if ctx.Err() != nil {
			t.Error("a short cut lost the lock")
		}
		cut.shut.Store(true)
		began := time.Now()
		select {
		case <-ctx.Done():
		case <-time.After(patience):
			t.Error("the job was not cancelled")
		}
		// The lock was extended before the cut, so by then it was over; the rest is for a busy machine.
		if took := time.Since(began); took > ttl+5*time.Second {
			t.Errorf("the holder knew after %s that a lock of %s was lost", took, ttl)
		}
		return nil
	})
	if !ran || !errors.Is(err, errLockLost) {
		t.Errorf("ran %v, %v", ran, err)
	}
	s.take(t, func(context.Context) error { return nil })
}

// A lock that is gone from Redis, or another's, is lost with the next extension.
func TestLock_Refused(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	for _, value := range []string{"", "another's"} {
		ran, err := newLocker(s.client).do(t.Context(), "job", testLockTTL, func(ctx context.Context) error {
			if value == "" {
				s.client.Del(t.Context(), testLockKey)
			} else {
				s.client.Set(t.Context(), testLockKey, value, 0)
			}
			began := time.Now()
			<-ctx.Done()
			if took := time.Since(began); took > testLockTTL {
				t.Errorf("noticed after %s", took)
			}
			return context.Cause(ctx)
		})
		if !ran || !errors.Is(err, errLockLost) {
			t.Errorf("%q: ran %v, %v", value, ran, err)
		}
		if left := s.client.Get(t.Context(), testLockKey).Val(); left != value {
			t.Errorf("the key holds %q, want %q", left, value)
		}
	}
}

// While Redis is away nobody does the job.
func TestLock_RedisAway(t *testing.T) {
	t.Parallel()
	server := stacktest.NewRedis(t)
	client, err := newClient(server.URL(), 2)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server.Kill()
	ran, err := newLocker(client).do(t.Context(), "job", testLockTTL, func(context.Context) error { return nil })
	if ran || err == nil {
		t.Errorf("ran %v, %v", ran, err)
	}
}
