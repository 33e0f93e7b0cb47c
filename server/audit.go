package server

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// auditWait is how long an audit is waited for unless the caller says.
const auditWait = WaitMax

// Auditor proves the invariants. What it returns, and what it tells of its progress, is sent as
// JSON. A full audit takes what has left Redis for good too.
type Auditor func(ctx context.Context, full bool, progress func(any)) (any, error)

// audits lets operators ask for audits, of each kind one at a time: whoever asks while one runs
// waits for that. An audit may take longer than a request, so it goes on without whoever asked,
// and its report is kept for the next who asks.
type audits struct {
	prove   Auditor
	base    context.Context //nolint:containedctx // of the audits, which no request owns
	stop    context.CancelFunc
	running sync.WaitGroup

	mu   sync.Mutex
	runs map[bool]*auditRun // by whether it is full; one that is done goes with the first who reads it
}

// auditRun is one audit.
type auditRun struct {
	began    time.Time
	progress atomic.Value
	done     chan struct{} // closed when what follows is there
	report   any
	err      error
}

func newAudits(prove Auditor) *audits {
	a := &audits{prove: prove, runs: make(map[bool]*auditRun)}
	a.base, a.stop = context.WithCancel(context.Background())
	return a
}

// end stops what runs, and waits for it.
func (a *audits) end() {
	a.stop()
	a.running.Wait()
}

// join returns the audit of a kind that runs or that nobody has read, or starts one.
func (a *audits) join(full bool) *auditRun {
	a.mu.Lock()
	defer a.mu.Unlock()
	if run := a.runs[full]; run != nil {
		return run
	}
	run := &auditRun{began: time.Now(), done: make(chan struct{})}
	a.runs[full] = run
	a.running.Go(func() {
		defer close(run.done)
		run.report, run.err = a.prove(a.base, full, func(progress any) { run.progress.Store(progress) })
	})
	return run
}

// leave makes the next who asks start an audit of his own.
func (a *audits) leave(full bool, run *auditRun) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.runs[full] == run {
		delete(a.runs, full)
	}
}

// runningJSON answers for an audit that is not done.
type runningJSON struct {
	Running bool  `json:"running"`
	SinceMS int64 `json:"since_ms"` // how long
	// Progress is how far it is. Left out: it has not read anything yet.
	Progress any `json:"progress,omitempty"`
}

// audit answers the report, or how far the audit is when it takes longer than ?wait.
func (s *Server) audit(ctx *fasthttp.RequestCtx) {
	if s.config.Audit == nil {
		refuse(ctx, problemNotFound)
		return
	}
	text, full := queryText(ctx, "full")
	if full && text != "1" {
		refuse(ctx, problemFull)
		return
	}
	wait, ok := queryWait(ctx, auditWait)
	if !ok {
		return
	}
	run := s.audits.join(full)
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-run.done:
	case <-timer.C:
		s.answerValue(ctx, fasthttp.StatusAccepted, runningJSON{
			Running: true, SinceMS: time.Since(run.began).Milliseconds(), Progress: run.progress.Load(),
		})
		return
	}
	s.audits.leave(full, run)
	if run.err != nil {
		s.fault(ctx, "audit", run.err)
		return
	}
	s.answerValue(ctx, fasthttp.StatusOK, run.report)
}
