package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// Protects a restock that is sent again by whoever heard nothing: on two servers, after the effect
// stood and its process was gone, it adds once, in both stores; and the log of actions tells of it and
// of what was done on the command line.
func TestJournal_TwoServers(t *testing.T) {
	t.Parallel()
	i := newInstallation(t)
	item := i.sell(3, "").String()
	first, second := i.serve(), i.serve()
	restock := func(p *process, body, want string) accountBody {
		t.Helper()
		r := (ask{
			method: "POST", url: p.ops + "/v1/admin/items/" + item + "/stock", token: adminToken,
			header: map[string]string{"Content-Type": "application/json", "Idempotency-Key": "k"}, body: body,
		}).send(t)
		if want != "" {
			refused(t, "restock", r, want)
			return accountBody{}
		}
		if r.status != http.StatusOK {
			t.Fatalf("restock: %d %s", r.status, r.body)
		}
		return decode[accountBody](t, r)
	}
	restock(first, `{"add":5}`, "")
	// The answer was lost with the process, before it could be kept.
	if _, err := i.database().Exec(t.Context(), `UPDATE attempts SET status = NULL, body = NULL`); err != nil {
		t.Fatal(err)
	}
	first.stop()
	for range 2 {
		if got := restock(second, `{"add":5}`, ""); got.Total != 8 || got.Redis.Stock != 8 {
			t.Errorf("total %d, in Redis %d, want 8", got.Total, got.Redis.Stock)
		}
	}
	restock(second, `{"add":6}`, "422 idempotency_key_reused")

	r := (ask{method: "GET", url: second.ops + "/v1/admin/actions", token: adminToken}).send(t)
	var page struct {
		Actions []struct{ Who, Action, Target, Outcome string }
	}
	if err := json.Unmarshal([]byte(r.body), &page); err != nil || r.status != http.StatusOK {
		t.Fatalf("%d %s: %v", r.status, r.body, err)
	}
	var outcomes []string
	for _, a := range page.Actions {
		outcomes = append(outcomes, a.Outcome)
	}
	created := page.Actions[len(page.Actions)-1]
	if strings.Join(outcomes, ", ") != "422 idempotency_key_reused, 200 replayed, 200 replayed, 200, done" ||
		created.Action != "sale create" || !strings.HasPrefix(created.Who, "cli:") {
		t.Errorf("log of actions: %+v", page.Actions)
	}
}

// Protects an installation from tokens that can be guessed, and from a log-in without passwords that
// the world can reach.
func TestServe_Refuses(t *testing.T) {
	t.Parallel()
	i := newInstallation(t)
	i.expect([]string{"ADMIN_TOKEN=short"}, exitFailed, "at least 24", "serve")
	i.expect([]string{"ADMIN_VIEWER_TOKEN=short"}, exitFailed, "at least 24", "serve")
	i.expect([]string{"ADMIN_TOKEN=short"}, exitFailed, "at least 24", "work")
	for _, addr := range []string{"0.0.0.0:0", ":0", "shop.example:0"} {
		i.expect([]string{"ADDR=" + addr}, exitFailed, "dev-login-anywhere", "serve")
	}
	i.start("serving", "serve", "--dev-login-anywhere", "--addr=0.0.0.0:0").stop()
}
