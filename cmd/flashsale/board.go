package main

import (
	"context"

	"flashsale"
	"flashsale/worker"
)

// boardDead is how the server sees the dead letters.
type boardDead struct{ letters *worker.DeadLetters }

func (b boardDead) List(ctx context.Context, filter flashsale.DeadFilter, limit int) (any, bool, error) {
	letters, err := b.letters.List(ctx, filter, limit+1)
	if letters == nil {
		letters = []worker.DeadLetter{}
	}
	return letters[:min(limit, len(letters))], len(letters) > limit, err
}

func (b boardDead) Retry(ctx context.Context, filter flashsale.DeadFilter) (retried, left int, err error) {
	return b.letters.RetryAll(ctx, filter)
}

func (b boardDead) Drop(ctx context.Context, filter flashsale.DeadFilter) (dropped, units int, err error) {
	return b.letters.DropAll(ctx, filter)
}

// boardChanger is how the server sees the rebuilder.
type boardChanger struct{ *worker.Rebuilder }

func (b boardChanger) Rebuild(ctx context.Context, id flashsale.ItemID, dryRun bool) (any, error) {
	return b.Rebuilder.Rebuild(ctx, id, dryRun)
}

// openBoard opens what operators of a server change things with.
func (r *rooms) openBoard() (err error) {
	if r.rebuilder, err = r.newRebuilder(); err != nil {
		return err
	}
	r.dead, err = r.newDeadLetters()
	return err
}
