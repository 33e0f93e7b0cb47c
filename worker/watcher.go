package worker

import (
	"context"
	"strconv"

	"flashsale"
)

// PauseLedger is the ledger of record as the audit watcher needs it.
type PauseLedger interface {
	// SetPaused pauses or resumes an item and owes that to Redis.
	SetPaused(ctx context.Context, id flashsale.ItemID, paused bool) (flashsale.Item, error)
}

// auditWatcher audits from time to time, shows the result as metrics and in the log, and pauses
// items of which more is sold or on sale than there is: each further sale could only be refused
// by the ledger.
type auditWatcher struct {
	config  Config
	auditor *Auditor
	metrics *metrics
}

func newAuditWatcher(config Config, auditor *Auditor, metrics *metrics) *auditWatcher {
	return &auditWatcher{config: config, auditor: auditor, metrics: metrics}
}

func (w *auditWatcher) run(ctx context.Context) {
	for {
		pause(ctx, w.config.AuditEvery)
		if ctx.Err() != nil {
			return
		}
		report, err := w.auditor.Audit(ctx)
		if err == nil {
			w.show(report)
			w.pauseOversold(ctx, report)
		} else if ctx.Err() == nil {
			w.config.Logger.Warn("audit not possible", "error", err)
		}
	}
}

func (w *auditWatcher) show(report Report) {
	w.metrics.outbox.Set(float64(report.Outbox))
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
