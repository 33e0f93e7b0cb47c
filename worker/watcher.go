package worker

import (
	"context"
	"strconv"
	"time"

	"flashsale"
)

const (
	// auditLock is held by the worker that audits.
	auditLock = "audit"
	// auditShare bounds which part of the time is spent on auditing: a long audit is followed
	// by a long rest.
	auditShare = 10
)

// WatchLedger is the ledger of record as the audit watcher needs it.
type WatchLedger interface {
	AuditLedger
	// SetPaused pauses or resumes an item and owes that to Redis.
	SetPaused(ctx context.Context, id flashsale.ItemID, paused bool) (flashsale.Item, error)
	// Seal keeps what the orders of a generation that is over are. The first seal stays.
	Seal(ctx context.Context, id flashsale.ItemID, generation int64, seal flashsale.Seal) error
}

// auditWatcher audits from time to time, shows the result as metrics and in the log, and pauses
// items of which more is sold or on sale than there is: each further sale could only be refused
// by the ledger. Of all workers one audits; the others have no such metrics.
type auditWatcher struct {
	config  Config
	auditor *Auditor
	locks   *locker
	metrics *metrics
}

func newAuditWatcher(config Config, auditor *Auditor, locks *locker, metrics *metrics) *auditWatcher {
	return &auditWatcher{config: config, auditor: auditor, locks: locks, metrics: metrics}
}

// run waits for its turn, and then audits until ctx ends or Redis has forgotten whose turn it is.
func (w *auditWatcher) run(ctx context.Context) {
	for ctx.Err() == nil {
		_, err := w.locks.do(ctx, auditLock, lockTTL, func(held context.Context) error {
			w.watch(held)
			return nil
		})
		w.metrics.forgetAudit() // another worker's are the true ones
		if err != nil && ctx.Err() == nil {
			w.config.Logger.Debug("audits are left to others", "error", err)
		}
		pause(ctx, w.config.AuditEvery)
	}
}

func (w *auditWatcher) watch(ctx context.Context) {
	rest := w.config.AuditEvery
	for {
		if pause(ctx, rest); ctx.Err() != nil {
			return
		}
		began := time.Now()
		report, err := w.auditor.Audit(ctx, AuditScope{})
		if err == nil {
			w.show(report)
			w.pauseOversold(ctx, report)
			w.seal(ctx, report)
		} else if ctx.Err() == nil {
			w.config.Logger.Warn("audit not possible", "error", err)
		}
		took := time.Since(began) - w.auditor.config.Settle // which is spent waiting
		rest = max(w.config.AuditEvery, (auditShare-1)*took)
	}
}

func (w *auditWatcher) show(report Report) {
	w.metrics.outbox.Set(float64(report.Outbox))
	w.metrics.gap.Reset() // an item that has left Redis has no figures any more
	for _, item := range report.Items {
		w.metrics.gap.WithLabelValues(item.ItemID.String()).Set(float64(item.Gap))
	}
	for _, invariant := range report.Invariants {
		broken := w.metrics.broken.WithLabelValues(strconv.Itoa(invariant.Number))
		broken.Set(0)
		// At rest is for those who know that there is rest: here something always moves.
		if !invariant.OK && invariant.Number != atRest {
			broken.Set(1)
			w.config.Logger.Error("invariant broken", "invariant", invariant.Number,
				"name", invariant.Name, "broken", invariant.Broken)
		}
	}
	w.metrics.audited.SetToCurrentTime()
}

// pauseOversold pauses an item once: while it is paused the audit finds nothing new, and
// whoever resumes it before its sum is right sees it paused again.
func (w *auditWatcher) pauseOversold(ctx context.Context, report Report) {
	if !*w.config.PauseOnOversell {
		return
	}
	for _, item := range report.Items {
		if !item.Oversold || item.paused {
			continue
		}
		if _, err := w.config.Ledger.SetPaused(ctx, item.ItemID, true); err != nil {
			w.config.Logger.Error("oversold item not paused, trying again", "item", item.ItemID, "error", err)
			continue
		}
		w.metrics.paused.Inc()
		w.config.Logger.Error("item paused: the audit found it oversold", "item", item.ItemID,
			"total", item.Total, "live_units", item.LiveUnits, "gap", item.Gap)
	}
}

// seal keeps what the orders of generations are that are over, once they were found right.
func (w *auditWatcher) seal(ctx context.Context, report Report) {
	for _, item := range report.Items {
		for generation, seal := range item.seals {
			if err := w.config.Ledger.Seal(ctx, item.ItemID, generation, seal); err != nil {
				w.config.Logger.Warn("generation not sealed, trying again", "item", item.ItemID,
					"generation", generation, "error", err)
			}
		}
	}
}
