package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"flashsale"
)

const (
	// scheduleEvery is how often due sales are looked for. It is below PreheatBeforeMin, so a
	// sale that is announced in time is loaded when it opens.
	scheduleEvery   = 2 * time.Second
	scheduleTimeout = 30 * time.Second
	scheduleLock    = "preheat"
)

// ScheduleLedger is the ledger of record as the scheduler needs it.
type ScheduleLedger interface {
	PreheatLedger
	// DueSales returns the sales that open before the given time, are not over, and have an item
	// that was never loaded.
	DueSales(ctx context.Context, before time.Time) ([]flashsale.SaleID, error)
}

// scheduler loads sales into Redis some time before they open. A sale that is open already and
// was never loaded, because it was announced late or no worker ran, is loaded too.
type scheduler struct {
	config    Config
	locks     *locker
	metrics   *metrics
	preheater *Preheater
	wake      wake
}

func newScheduler(config Config, locks *locker, metrics *metrics, wake wake) *scheduler {
	return &scheduler{
		config: config, locks: locks, metrics: metrics, wake: wake,
		preheater: NewPreheater(config.Ledger, config.Engine, config.Logger),
	}
}

// run schedules until ctx ends; the sale that it is at then it completes while work lasts.
func (s *scheduler) run(ctx, work context.Context) {
	var faults backoff
	for ctx.Err() == nil {
		wait := scheduleEvery
		if err := s.pass(ctx, work); err == nil {
			faults.reset()
		} else {
			wait = faults.next()
			s.metrics.faults.WithLabelValues("scheduler").Inc()
			s.config.Logger.Warn("scheduled preheat failed, trying again", "wait", wait, "error", err)
		}
		s.wake.wait(ctx, wait)
	}
}

// pass loads what is due, unless another worker is at it. Whoever gets the lock asks again what
// is due: the other may have done it.
func (s *scheduler) pass(ctx, work context.Context) error {
	work, cancel := context.WithTimeout(work, scheduleTimeout)
	defer cancel()
	due, err := s.due(work)
	if err != nil || len(due) == 0 {
		return err
	}
	_, err = s.locks.do(work, scheduleLock, lockTTL, func(held context.Context) error {
		due, err := s.due(held)
		for _, sale := range due {
			if ctx.Err() != nil {
				break
			}
			if fault := s.preheater.PreheatSale(held, sale); fault != nil {
				err = errors.Join(err, fault) // the others are loaded, this one is due again
				continue
			}
			s.metrics.preheated.Inc()
			s.config.Logger.Info("sale preheated on schedule", "sale", sale)
		}
		return err
	})
	return err
}

func (s *scheduler) due(ctx context.Context) ([]flashsale.SaleID, error) {
	due, err := s.config.Ledger.DueSales(ctx, time.Now().Add(s.config.PreheatBefore))
	if err != nil {
		return nil, fmt.Errorf("due sales: %w", err)
	}
	return due, nil
}
