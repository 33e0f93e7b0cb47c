package postgres

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"

	"github.com/jackc/pgx/v5"

	"flashsale"
)

const (
	// Old keys are forgotten a few with each new one, so that nothing else has to think of it.
	forgetAttemptsSQL = `
DELETE FROM attempts WHERE ctid IN (
    SELECT ctid FROM attempts WHERE created_at < now() - $1::interval ORDER BY created_at LIMIT 100
    FOR UPDATE SKIP LOCKED) OR scope = $2 AND key = $3 AND created_at < now() - $1::interval`

	claimSQL = `
INSERT INTO attempts (scope, key, fingerprint) VALUES ($1, $2, $3) ON CONFLICT (scope, key) DO NOTHING`

	attemptSQL = `
SELECT fingerprint, coalesce(status, 0), coalesce(body, '') FROM attempts WHERE scope = $1 AND key = $2`
)

// Claim gives an attempt its key and returns the answer that it has got before, if any. When the
// key is another request's it is [flashsale.ErrConflict].
func (l *Ledger) Claim(ctx context.Context, a *flashsale.Attempt) (reply flashsale.Reply, err error) {
	err = l.transact(ctx, "claim idempotency key", pgx.TxOptions{}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, forgetAttemptsSQL, flashsale.AttemptKept, a.Scope, a.Key); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, claimSQL, a.Scope, a.Key, a.Fingerprint); err != nil {
			return err
		}
		var first []byte
		if err := tx.QueryRow(ctx, attemptSQL, a.Scope, a.Key).Scan(&first, &reply.Status, &reply.Body); err != nil {
			return err
		}
		if !bytes.Equal(first, a.Fingerprint) {
			return fmt.Errorf("%w: it is another request's", flashsale.ErrConflict)
		}
		return nil
	})
	return reply, err
}

// Answered keeps the answer to an attempt. The first one stays.
func (l *Ledger) Answered(ctx context.Context, a *flashsale.Attempt, reply flashsale.Reply) error {
	_, err := l.pool.Exec(ctx, `UPDATE attempts SET status = $3, body = $4 WHERE scope = $1 AND key = $2 AND status IS NULL`,
		a.Scope, a.Key, reply.Status, reply.Body)
	return classify("keep the answer to an idempotency key", err)
}

// transactOnce runs fn in a transaction, unless the attempt of ctx has run it before: then it only
// brings the result back. The result is kept in the same transaction as what fn does.
func transactOnce[T any](ctx context.Context, l *Ledger, operation string, result *T, fn func(pgx.Tx) error) error {
	return l.transact(ctx, operation, pgx.TxOptions{}, func(tx pgx.Tx) error {
		a := flashsale.AttemptOf(ctx)
		if a == nil {
			return fn(tx)
		}
		var kept []byte
		const lockSQL = `SELECT result FROM attempts WHERE scope = $1 AND key = $2 FOR UPDATE`
		if err := tx.QueryRow(ctx, lockSQL, a.Scope, a.Key).Scan(&kept); err != nil {
			return fmt.Errorf("idempotency key: %w", err)
		}
		if kept != nil {
			a.Replayed = true
			return json.Unmarshal(kept, result)
		}
		if err := fn(tx); err != nil {
			return err
		}
		text, err := json.Marshal(result)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE attempts SET result = $3 WHERE scope = $1 AND key = $2`, a.Scope, a.Key, text)
		return err
	})
}

// Begin writes an action into the log before it is done, and returns its id.
func (l *Ledger) Begin(ctx context.Context, a flashsale.Action) (id int64, err error) {
	err = l.pool.QueryRow(ctx, `
INSERT INTO actions (who, action, target, detail, request_id)
VALUES (left($1, $6), left($2, $7), left($3, $8), left($4, $8), nullif(left($5, $7), '')) RETURNING id`,
		a.Who, a.Action, a.Target, a.Detail, a.RequestID,
		flashsale.OperatorNameMax, flashsale.ActionNameMax, flashsale.ActionTextMax).Scan(&id)
	return id, classify("log an action", err)
}

// End says what became of an action.
func (l *Ledger) End(ctx context.Context, id int64, outcome string) error {
	_, err := l.pool.Exec(ctx, `UPDATE actions SET outcome = left($2, $3), ended_at = now() WHERE id = $1`,
		id, outcome, flashsale.ActionTextMax)
	return classify("log the outcome of an action", err)
}

// Actions returns a page of the log below an id (0: from the newest), newest first.
func (l *Ledger) Actions(ctx context.Context, before int64, limit int) ([]flashsale.Action, error) {
	if before <= 0 {
		before = math.MaxInt64
	}
	rows, _ := l.pool.Query(ctx, `
SELECT id, created_at, who, action, target, detail, coalesce(outcome, ''), coalesce(request_id, '')
FROM actions WHERE id < $1 ORDER BY id DESC LIMIT $2`, before, limit)
	actions, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (a flashsale.Action, err error) {
		err = row.Scan(&a.ID, &a.At, &a.Who, &a.Action, &a.Target, &a.Detail, &a.Outcome, &a.RequestID)
		return a, err
	})
	return actions, classify("list actions", err)
}
