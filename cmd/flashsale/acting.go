package main

import (
	"context"
	"errors"
	"os"
	"os/user"
	"time"

	"flashsale"
)

// actionTimeout bounds the note of what came of an action, which is written also when the command is
// interrupted.
const actionTimeout = 5 * time.Second

// acting writes what an operator does on the command line into the log of actions, before it is done
// and after, as the admin API does.
func (r *rooms) acting(ctx context.Context, action, target string, do func() error) error {
	id, err := r.ledger.Begin(ctx, flashsale.Action{
		Who: commandUser(), Action: action, Target: target,
	})
	if err != nil {
		return err
	}
	failed := do()
	outcome := "done"
	if failed != nil {
		outcome = "failed: " + failed.Error()
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), actionTimeout)
	defer cancel()
	return errors.Join(failed, r.ledger.End(end, id, outcome))
}

// commandUser is who runs the command, and where.
func commandUser() string {
	name, host := "somebody", "somewhere"
	if who, err := user.Current(); err == nil {
		name = who.Username
	}
	if here, err := os.Hostname(); err == nil {
		host = here
	}
	return "cli:" + name + "@" + host
}
