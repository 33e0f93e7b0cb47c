package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"flashsale"
	"flashsale/engine"
	"flashsale/internal/devstack/stacktest"
	"flashsale/worker"
)

// outcome is what a command left behind.
type outcome struct {
	code        int
	out, faults string
}

// try runs a command with further environment; NAME= alone removes a variable. It may be
// called from any goroutine.
func (i *installation) try(env []string, args ...string) outcome {
	cmd := i.exec(args...)
	for _, line := range env {
		name, value, _ := strings.Cut(line, "=")
		cmd.Env = slices.DeleteFunc(cmd.Env, func(have string) bool { return strings.HasPrefix(have, name+"=") })
		if value != "" {
			cmd.Env = append(cmd.Env, line)
		}
	}
	var out, faults bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &faults
	if err := cmd.Start(); err != nil {
		return outcome{-1, "", err.Error()}
	}
	// A command that should have refused to start would run for ever.
	overdue := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer overdue.Stop()
	_ = cmd.Wait() // the exit code says more
	return outcome{cmd.ProcessState.ExitCode(), out.String(), faults.String()}
}

// expect fails unless a command ends with the code and prints a line that matches: to its
// output when it succeeds, and only to its error output when it does not.
func (i *installation) expect(env []string, code int, pattern string, args ...string) {
	i.t.Helper()
	got := i.try(env, args...)
	text := got.out
	if code != exitOK {
		text = got.faults
	}
	if got.code != code || !regexp.MustCompile(pattern).MatchString(text) {
		i.t.Errorf("%v flashsale %q: exit code %d, want %d and a text like %s\n%s%s", env, args, got.code, code, pattern, got.out, got.faults)
	}
	if code != exitOK && got.out != "" {
		i.t.Errorf("flashsale %q complains on its output: %s", args, got.out)
	}
	if strings.Contains(got.out+got.faults, "hunter2") {
		i.t.Errorf("flashsale %q shows a password: %s%s", args, got.out, got.faults)
	}
}

// bare is an installation whose database is empty.
func bare(t *testing.T) *installation {
	t.Helper()
	return &installation{t: t, env: []string{"REDIS_URL=" + stacktest.Redis(t), "DATABASE_URL=" + stacktest.Postgres(t)}}
}

// database connects to the ledger from outside.
func (i *installation) database() *pgx.Conn {
	i.t.Helper()
	for _, line := range i.env {
		if databaseURL, ok := strings.CutPrefix(line, "DATABASE_URL="); ok {
			conn, err := pgx.Connect(i.t.Context(), databaseURL)
			if err != nil {
				i.t.Fatal(err)
			}
			i.t.Cleanup(func() { _ = conn.Close(i.t.Context()) })
			return conn
		}
	}
	i.t.Fatal("no DATABASE_URL")
	return nil
}

// Protects databases: a schema goes only into an empty one, once, and no command works on
// another; each says what to do.
func TestMigrate(t *testing.T) {
	t.Parallel()
	i := bare(t)
	for _, args := range [][]string{{"serve"}, {"work"}, {"audit"}, {"sale", "list"}, {"sale", "show", "1"}} {
		i.expect(nil, exitFailed, `holds none: run flashsale migrate\n$`, args...)
	}
	var wg sync.WaitGroup
	codes := make([]outcome, 2)
	for n := range codes { // two at once: one creates, the other finds it
		wg.Go(func() { codes[n] = i.try(nil, "migrate") })
	}
	wg.Wait()
	texts := []string{codes[0].out, codes[1].out}
	slices.Sort(texts)
	if !slices.Equal(texts, []string{"schema created\n", "schema is current, nothing to do\n"}) {
		t.Fatal(codes)
	}
	i.expect(nil, exitOK, `^schema is current, nothing to do\n$`, "migrate")
	i.expect(nil, exitOK, `^SALE +OPENS +CLOSES +ITEMS +NAME\n$`, "sale", "list")

	conn := i.database()
	if _, err := conn.Exec(t.Context(), `UPDATE schema_version SET sha256 = 'of another version'`); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"migrate"}, {"serve"}, {"work"}, {"audit"}, {"sale", "list"}} {
		i.expect(nil, exitFailed, `the database holds version of another [^ ]*, this program needs [0-9a-f]{12}: run `, args...)
	}

	foreign := bare(t)
	if _, err := foreign.database().Exec(t.Context(), `CREATE TABLE somebody_elses (n integer)`); err != nil {
		t.Fatal(err)
	}
	foreign.expect(nil, exitFailed, `tables that are not ours \(somebody_elses\): give flashsale an empty database`, "migrate")
	foreign.expect(nil, exitFailed, `holds none: run flashsale migrate`, "audit")
}

// Protects whoever types something wrong: exit code 2 and a line that says what.
func TestUsage(t *testing.T) {
	t.Parallel()
	i := &installation{t: t, env: []string{"REDIS_URL=redis://127.0.0.1:1", "DATABASE_URL=postgres://127.0.0.1:1/x"}}
	for _, c := range []struct {
		env     []string
		pattern string
		args    []string
	}{
		{nil, `expected one of "demo", "serve"`, nil},
		{nil, `unexpected argument bogus`, []string{"bogus"}},
		{nil, `unknown flag --bogus`, []string{"audit", "--bogus"}},
		{nil, `unexpected argument more`, []string{"audit", "more"}},
		{nil, `expected one of "create"`, []string{"sale"}},
		{nil, `expected "<sale>"`, []string{"sale", "show"}},
		{nil, `missing flags: --item=`, []string{"sale", "create", "--name", "x"}},
		{nil, `missing flags: --name=`, []string{"sale", "create", "--item", "product=x,price_fen=1,stock=1"}},
		{nil, `--batch-max`, []string{"serve", "--batch-max", "many"}},
		{nil, `--duration`, []string{"sale", "create", "--duration", "long"}},
		{[]string{"LOG_LEVEL=loud"}, `--log-level "loud" is none of debug, info, warn, error`, []string{"audit"}},
		{[]string{"REDIS_URL="}, `missing flags: --redis-url=\$REDIS_URL`, []string{"audit"}},
		{[]string{"DATABASE_URL="}, `missing flags: --database-url=\$DATABASE_URL`, []string{"migrate"}},
		{[]string{"REDIS_URL=", "DATABASE_URL="}, `missing flags: --database-url=\$DATABASE_URL, --redis-url=\$REDIS_URL`, []string{"serve"}},
	} {
		i.expect(c.env, exitUsage, `^flashsale: .*`+c.pattern+`.*\n(try: flashsale --help\n)?$`, c.args...)
	}
	for _, args := range [][]string{{"--help"}, {"serve", "--help"}, {"sale", "create", "--help"}} {
		i.expect([]string{"REDIS_URL=", "DATABASE_URL="}, exitOK, `Usage: flashsale `, args...)
	}
}

// Protects an operator from a riddle at start: stores that cannot be reached, that are the
// wrong ones or not to be trusted are named, in one text, without the password.
func TestStores_Refused(t *testing.T) {
	t.Parallel()
	i := bare(t)
	i.command(exitOK, "migrate")
	evicting := stacktest.NewRedis(t, "--maxmemory-policy", "allkeys-lru")
	i.command(exitOK, "audit") // stores 1 as the number of partitions
	for _, c := range []struct{ env, pattern string }{
		{"REDIS_URL=redis://:hunter2@127.0.0.1:1", `connect to redis: dial tcp 127.0.0.1:1: connect: connection refused`},
		{"REDIS_URL=nonsense", `RedisURL`},
		{"REDIS_URL=redis://:hunter2@127.0.0.1:1/x", `RedisURL`},
		{"REDIS_URL=" + evicting.URL(), `maxmemory-policy is "allkeys-lru" and could evict the stock: set it with CONFIG SET maxmemory-policy noeviction`},
		{"DATABASE_URL=postgres://flashsale:hunter2@127.0.0.1:1/x", `ping postgres: .*(?s:.*)127.0.0.1:1 .*connection refused`},
		{"DATABASE_URL=mysql://hunter2@localhost", `URL`},
		{"PARTITIONS=3", `configured for 3 partitions, but this installation has 1`},
	} {
		for _, args := range [][]string{{"serve"}, {"work"}, {"audit"}, {"sale", "show", "1"}} {
			i.expect([]string{c.env, "START_TIMEOUT=0"}, exitFailed, `(?m)^flashsale: .*`+c.pattern, args...)
		}
	}
	i.expect([]string{"DATABASE_URL=postgres://flashsale:hunter2@127.0.0.1:1/x", "START_TIMEOUT=0"}, exitFailed, `connection refused`, "migrate")
	for flag, pattern := range map[string]string{
		"--batch-max=-1": `BatchMax must be from`, "--in-flight=-1": `InFlight must be`, "--flag-ttl=-1s": `FlagTTL must not be negative`,
		"--addr=127.0.0.1:99999": `listen for shoppers: `, "--ops-addr=nonsense": `listen for operators: `,
	} {
		i.expect([]string{"ADDR=127.0.0.1:0"}, exitFailed, `(?m)^flashsale: .*`+pattern, "serve", flag)
	}
	i.expect(nil, exitFailed, `^flashsale: .*BatchSize must be`, "work", "--batch-size=-1")
}

// Protects the operator's way to sales: what is created is what was asked for, what is not
// acceptable is refused with its reason and creates nothing, and preheating twice is harmless.
func TestSaleCommands(t *testing.T) {
	t.Parallel()
	i := bare(t)
	i.command(exitOK, "migrate")
	const good = "product=Thing,price_fen=1,stock=1"
	for _, c := range []struct {
		pattern string
		args    []string
	}{
		{`name must be 1 to 200`, []string{"--name", "", "--item", good}},
		{`name must be 1 to 200`, []string{"--name", "a\x1bb", "--item", good}},
		{`"" is not name=value`, []string{"--item", ""}},
		{`"Thing" is not name=value \(a value cannot hold a comma\)`, []string{"--item", "product=Nice,Thing,price_fen=1,stock=1"}},
		{`unknown name "colour"; known are product, `, []string{"--item", good + ",colour=1"}},
		{`price_fen must be an integer, not "1.5"`, []string{"--item", "product=x,price_fen=1.5,stock=1"}},
		{`stock must be an integer, not ""`, []string{"--item", "product=x,price_fen=1,stock="}},
		{`stock is given twice`, []string{"--item", good + ",stock=2"}},
		{`items\[0\].product must be 1 to 200`, []string{"--item", "price_fen=1,stock=1"}},
		{`items\[0\].price_fen must be from 1 to `, []string{"--item", "product=x,stock=1"}},
		{`items\[1\].stock must be from 1 to `, []string{"--item", good, "--item", "product=x,price_fen=1,stock=100000001"}},
		{`items\[0\].points_price must be from 0 to `, []string{"--item", good + ",points_price=-1"}},
		{`items\[0\].limit must be from 1 to `, []string{"--item", good + ",limit=0"}},
		{`items\[0\].limit must be from 1 to `, []string{"--item", good + ",limit=4294967297"}},
		{`items\[0\].pay_timeout_s must be from 1 to `, []string{"--item", good + ",pay_timeout_s=0"}},
		{`items\[0\].pay_timeout_s must be from 1 to `, []string{"--item", good + ",pay_timeout_s=18446744075"}},
		{`--opens-at "tomorrow" is neither now, nor a duration`, []string{"--item", good, "--opens-at", "tomorrow"}},
		{`--opens-at "2026-11-11 20:00:00" is neither`, []string{"--item", good, "--opens-at", "2026-11-11 20:00:00"}},
		{`closes_at_ms \(.*\) must be after opens_at_ms `, []string{"--item", good, "--duration", "0s"}},
		{`closes_at_ms \(.*\) must be after opens_at_ms `, []string{"--item", good, "--duration=-1h"}},
		{`closes_at_ms \d+ is 2020-01-01T01:00:00Z, which is over`, []string{"--item", good, "--opens-at", "2020-01-01T00:00:00Z"}},
		{`opens_at_ms must be positive`, []string{"--item", good, "--opens-at", "1960-01-01T00:00:00Z"}},
	} {
		args := append([]string{"sale", "create"}, c.args...)
		if !slices.Contains(args, "--name") {
			args = append(args, "--name", "x")
		}
		i.expect(nil, exitFailed, `^flashsale: .*`+c.pattern, args...)
	}
	i.expect(nil, exitOK, `^SALE .*\n$`, "sale", "list") // nothing was created

	i.expect(nil, exitOK, `^sale 1  11.11  .* to .*\n`+
		`ITEM +PRODUCT +PRICE_FEN +LIMIT +TOTAL +STOCK +REDIS_STOCK +REDIS_STATE\n`+
		`1 +手机 = phone +399900 +2 +1000 +1000 +- +not loaded\n2 +Case +1900 +1 +50 +50 +- +not loaded\n$`,
		"sale", "create", "--name", "11.11", "--opens-at", "2030-11-11T20:00:00+08:00", "--duration", "90m",
		"--item", "product=手机 = phone,price_fen=399900,points_price=4000,stock=1000,limit=2,pay_timeout_s=60",
		"--item", "product=Case,price_fen=1900,stock=50")
	r := i.rooms()
	defer r.close()
	sale, err := r.ledger.Sale(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	phone := sale.Items[0]
	if sale.OpensAt.Unix() != 1920628800 || sale.ClosesAt.Sub(sale.OpensAt).Minutes() != 90 || phone.PointsPrice != 4000 || phone.PayTimeout.Seconds() != 60 {
		t.Errorf("created %+v", sale)
	}

	i.expect(nil, exitOK, `\n1 +手机 = phone +399900 +2 +1000 +1000 +1000 +open\n2 .* +50 +open\n$`, "sale", "preheat", "1")
	if reply, err := r.engine.Reserve(t.Context(), engine.Request{Item: 1, User: "ann", Quantity: 1}); err != nil || reply.Outcome != flashsale.NotStarted {
		t.Errorf("%+v %v", reply, err)
	}
	i.expect(nil, exitOK, `\n1 .* +1000 +open\n`, "sale", "preheat", "1")
	i.expect(nil, exitOK, `\n1 .* +1000 +open\n`, "sale", "show", "1")
	i.expect(nil, exitOK, `\n1 +2030-11-11T\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d) +2030\S+ +2 +11.11\n$`, "sale", "list")
	i.expect(nil, exitOK, `\n1 .*11.11\n$`, "sale", "list", "--state", "upcoming")
	i.expect(nil, exitOK, `^SALE .*\n$`, "sale", "list", "--state", "open")
	i.expect(nil, exitUsage, `must be one of .*"upcoming"`, "sale", "list", "--state", "paused")
	for _, command := range []string{"show", "preheat", "delete"} {
		i.expect(nil, exitFailed, `^flashsale: sale 999: not found`, "sale", command, "999")
		i.expect(nil, exitFailed, `id must be 1 to 19 digits`, "sale", command, "x")
		i.expect(nil, exitFailed, `id must be 1 to 19 digits`, "sale", command, "99999999999999999999")
		i.expect(nil, exitFailed, `not found`, "sale", command, "0")
	}
	i.expect(nil, exitOK, `\n3 +Now +1 +1 +7 +7 +7 +open\n$`, "sale", "create", "--name", "now", "--item", "product=Now,price_fen=1,stock=7", "--preheat")

	// A sale made by mistake goes, out of both stores; one with an order stays.
	i.expect(nil, exitOK, `\n4 +Oops .* +open\n$`, "sale", "create", "--name", "oops", "--item", "product=Oops,price_fen=1,stock=7", "--preheat")
	i.expect(nil, exitOK, `^deleted: sale 3  oops\n$`, "sale", "delete", "3")
	i.expect(nil, exitFailed, `^flashsale: sale 3: not found`, "sale", "show", "3")
	if _, err := r.engine.Item(t.Context(), 4); !errors.Is(err, flashsale.ErrNotFound) {
		t.Errorf("deleted, yet in redis: %v", err)
	}
	if reply, err := r.engine.Reserve(t.Context(), engine.Request{Item: 3, User: "ann", Quantity: 1}); err != nil || reply.Outcome != flashsale.Accepted {
		t.Errorf("%+v %v", reply, err)
	}
	i.expect(nil, exitFailed, `^flashsale: somebody has bought from sale 2: it stays\n$`, "sale", "delete", "2") // pending: in Redis only

	// Redis has lost an item that was loaded: preheating must not put its full stock on sale.
	if err := i.redisClient().Del(t.Context(), engine.ItemKey(engine.Partition(3, 1), 3)).Err(); err != nil {
		t.Fatal(err)
	}
	i.expect(nil, exitFailed, `preheat item 3 of sale 2: `, "sale", "preheat", "2")
	i.expect(nil, exitOK, `\n3 .* +- +not loaded\n$`, "sale", "show", "2")
}

// Protects the audit, which the whole promise rests on: it is clean when all adds up, and each
// break, planted by hand in either store, ends it with exit code 1 and a line that names the
// invariant and the figures, for people and as JSON. (TestAudit_Plants knows many more.)
func TestAudit(t *testing.T) {
	t.Parallel()
	i := newInstallation(t)
	item := i.sell(3, "limit=2")
	client, conn := i.redisClient(), i.database()
	w := i.work("w")
	r := i.rooms()
	for _, user := range []string{"ann", "bob"} {
		reply, err := r.engine.Reserve(t.Context(), engine.Request{Item: item, User: user, Quantity: 1})
		if err != nil || reply.Outcome != flashsale.Accepted {
			t.Fatalf("%+v %v", reply, err)
		}
	}
	r.close()
	i.auditClean()
	w.stop() // nothing repairs what is broken now

	partition := engine.Partition(item, 1)
	itemKey := engine.ItemKey(partition, item)
	set := func(field string, value any) func() error {
		return func() error { return client.HSet(t.Context(), itemKey, field, value).Err() }
	}
	sql := func(text string, args ...any) func() error {
		return func() error {
			tag, err := conn.Exec(t.Context(), text, args...)
			if err == nil && tag.RowsAffected() == 0 {
				return fmt.Errorf("%s: no row", text)
			}
			return err
		}
	}
	if _, err := conn.Exec(t.Context(), `CREATE TABLE kept AS SELECT * FROM orders`); err != nil {
		t.Fatal(err)
	}
	restore := sql(`INSERT INTO orders SELECT * FROM kept WHERE user_id = 'ann'`)

	i.checkAudit("clean", nil)
	for _, c := range []struct {
		name          string
		broken        map[int]string // by invariant
		plant, repair func() error
	}{
		{
			"a unit too many in Redis",
			map[int]string{3: `1 units too many: redis 2 \+ live 2 \+ stream 0 \+ owed 0, but total 3`},
			set("stock", 2), set("stock", 1),
		},
		{
			"an order lost in PostgreSQL",
			map[int]string{
				2: `holdings`, 3: `stock 1 and live orders 1 do not add up to 3`,
				4: `order of sequence 1 is neither in the ledger nor in the stream`,
			},
			sql(`DELETE FROM orders WHERE user_id = 'ann'`), restore,
		},
		{
			"an oversold item and a user over the limit",
			map[int]string{
				1: `oversold, 4 units in live orders of 3`, 2: `1 users hold more than 2 units`,
				3: `stock 1 and live orders 4 do not add up to 3`, 4: `unpaid order \d+ of 3 units costs`,
			},
			sql(`UPDATE orders SET quantity = 3 WHERE user_id = 'ann'`), sql(`UPDATE orders SET quantity = 1`),
		},
		{
			"an effect that nobody carries out",
			map[int]string{6: `0 stream entries .*, 0 pending, 1 outbox rows are left`},
			sql(`INSERT INTO outbox (kind, item_id, quantity) VALUES ('pause', $1, 0)`, int64(item)), sql(`DELETE FROM outbox`),
		},
	} {
		if err := c.plant(); err != nil {
			t.Fatalf("plant %s: %v", c.name, err)
		}
		i.checkAudit(c.name, c.broken)
		if err := c.repair(); err != nil {
			t.Fatalf("repair %s: %v", c.name, err)
		}
	}
	i.checkAudit("repaired", nil)
}

// audited runs an audit until there is a report: one that could not be made, because a store was
// slow on a busy machine, says nothing.
func (i *installation) audited(args ...string) outcome {
	deadline := time.Now().Add(patience)
	for {
		if got := i.try(nil, args...); got.out != "" || time.Now().After(deadline) {
			return got
		}
	}
}

// checkAudit audits, for people and as JSON at the same time, and compares what is broken.
func (i *installation) checkAudit(name string, broken map[int]string) {
	i.t.Helper()
	var text, asJSON outcome
	var wg sync.WaitGroup
	wg.Go(func() { text = i.audited("audit") })
	wg.Go(func() { asJSON = i.audited("audit", "--json") })
	wg.Wait()
	want := exitOK
	if len(broken) > 0 {
		want = exitFailed
	}
	if text.code != want || asJSON.code != want {
		i.t.Errorf("%s: exit codes %d and %d, want %d\n%s%s%s", name, text.code, asJSON.code, want, text.out, text.faults, asJSON.faults)
	}
	var report worker.Report
	if err := json.Unmarshal([]byte(asJSON.out), &report); err != nil {
		i.t.Errorf("%s: %v: %s%s", name, err, asJSON.out, asJSON.faults)
		return
	}
	if report.OK != (len(broken) == 0) || len(report.Items) != 1 || report.Items[0].Total != 3 {
		i.t.Errorf("%s: %s", name, asJSON.out)
	}
	var numbers []int
	for _, invariant := range report.Invariants {
		numbers = append(numbers, invariant.Number)
		pattern := broken[invariant.Number]
		if invariant.OK != (pattern == "") || invariant.OK != (len(invariant.Broken) == 0) {
			i.t.Errorf("%s: invariant %+v, want %q", name, invariant, pattern)
			continue
		}
		line := fmt.Sprintf(`(?m)^%d  ok      %s$`, invariant.Number, regexp.QuoteMeta(invariant.Name))
		if pattern != "" {
			if !regexp.MustCompile(pattern).MatchString(invariant.Broken[0]) {
				i.t.Errorf("%s: invariant %d says %q, want %s", name, invariant.Number, invariant.Broken, pattern)
			}
			line = fmt.Sprintf(`(?m)^%d  BROKEN  %s\n +item \d+: .*(%s)|^%[1]d  BROKEN  .*\n +(%[3]s)`,
				invariant.Number, regexp.QuoteMeta(invariant.Name), pattern)
		}
		if !regexp.MustCompile(line).MatchString(text.out) {
			i.t.Errorf("%s: no line like %s in\n%s", name, line, text.out)
		}
	}
	if !slices.Equal(numbers, []int{1, 2, 3, 4, 5, 6}) {
		i.t.Errorf("%s: invariants %v", name, numbers)
	}
}
