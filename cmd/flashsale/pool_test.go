package main

import (
	"net/http"
	"strconv"
	"testing"

	"flashsale/internal/devstack/stacktest"
)

// Protects processes from waiting for themselves: nothing needs a second connection of
// PostgreSQL while it holds one. With a single connection each, preheats at once (which held one
// and asked for another), a sale, its cancellations, a rebuild and the audit all come to an end.
func TestPool_OneConnection(t *testing.T) {
	t.Parallel()
	redis := stacktest.NewRedis(t)
	i := newInstallationOn(t, redis.URL())
	i.env = append(i.env, "DATABASE_CONNS=1", "PARTITIONS=4")
	item := i.sell(10, "pay_timeout_s=1")
	node := i.serve()
	i.work("one")
	if err := parallel(16, 16, func(int) error {
		answer, err := call(t.Context(), http.MethodPost, node.ops+"/v1/admin/sales/1/preheat", adminToken, nil, "")
		if err == nil && answer.status != http.StatusOK && answer.status != http.StatusNoContent {
			t.Errorf("preheat: %d %s", answer.status, answer.text)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	bases := func() []string { return []string{node.base} }
	tokens := i.tokens("one", 10)
	if err := parallel(10, 10, func(k int) error {
		_, err := insist(t.Context(), bases, item, tokens[k], strconv.Itoa(k))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	comesBack(t, i, item, 10)
	redisCLI(t, redis, "FLUSHALL")
	comesBack(t, i, item, 10)
	i.command(exitOK, "sale", "rebuild", "--force", "1")
	i.auditClean()
}
