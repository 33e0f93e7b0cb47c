package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"time"

	"flashsale/worker"
)

type auditCommand struct {
	stores `embed:""`
	JSON   bool `name:"json" help:"Print the report as JSON."`
	Full   bool `help:"Take the items too that have left Redis for good. It reads every order there is."`
}

// Run proves the invariants. A broken one is exit code 1; so is an audit that cannot be made.
func (c *auditCommand) Run(ctx context.Context, out io.Writer, logger *slog.Logger) error {
	r, err := openRooms(ctx, c.stores, logger, looking)
	if err != nil {
		return err
	}
	defer r.close()
	scope := worker.AuditScope{Full: c.Full}
	if isTerminal(out) {
		scope.Progress = auditProgress(out)
	}
	report, err := r.audit(ctx, scope)
	if scope.Progress != nil {
		fmt.Fprint(out, eraseLine)
	}
	if err != nil {
		return err
	}
	if c.JSON {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(report); err != nil {
			return err
		}
	} else {
		fmt.Fprintln(out, report)
	}
	if !report.OK {
		return errBroken
	}
	return nil
}

// eraseLine takes a line of progress off a terminal.
const eraseLine = "\r\x1b[K"

// auditProgress shows people that a long audit goes on.
func auditProgress(out io.Writer) func(worker.AuditProgress) {
	var shown time.Time
	return func(p worker.AuditProgress) {
		if time.Since(shown) > barInterval {
			shown = time.Now()
			fmt.Fprintf(out, "%s%d items proved, %d orders read", eraseLine, p.Items, p.Orders)
		}
	}
}

// audit takes one report.
func (r *rooms) audit(ctx context.Context, scope worker.AuditScope) (worker.Report, error) {
	money, err := r.newDesk(nil, nil, nil) // it adds up, it takes no payments
	if err != nil {
		return worker.Report{}, err
	}
	auditor, err := worker.NewAuditor(worker.AuditorConfig{
		Engine: r.engine, Ledger: r.ledger, Money: money, Partitions: r.engine.Partitions(), RedisURL: r.redisURL,
	})
	if err != nil {
		return worker.Report{}, err
	}
	defer auditor.Close()
	return auditor.Audit(ctx, scope)
}

// auditAtRest audits until everything is right and nothing is on its way any more, for at most the given
// time: an item that is being rebuilt is at rest a moment later.
func (r *rooms) auditAtRest(ctx context.Context, atMost time.Duration) (worker.Report, error) {
	deadline := time.Now().Add(atMost)
	for {
		report, err := r.audit(ctx, worker.AuditScope{})
		if err != nil || report.OK && !report.Moving || time.Now().After(deadline) {
			return report, err
		}
		select {
		case <-ctx.Done():
			return report, ctx.Err()
		case <-time.After(auditPause):
		}
	}
}

const auditPause = 50 * time.Millisecond
