package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"flashsale"
	"flashsale/engine"
	"flashsale/internal/devstack"
	"flashsale/internal/devstack/stacktest"
)

const operationsPage = "../../docs/operations.md"

// block is one that the page says can be typed.
type block struct {
	line   int
	needs  string // how the stores are to be, such as redis=stopped
	script string
}

var (
	blockFence = regexp.MustCompile("\n( *)```sh *([a-z=]*)\n((?s:.*?)\n) *```\n")
	printsLine = regexp.MustCompile(`(?m)^# prints: (.+)$`)
)

// readOperations returns the page and its blocks.
func readOperations(t *testing.T) (page string, blocks []block) {
	t.Helper()
	text, err := os.ReadFile(operationsPage)
	if err != nil {
		t.Fatal(err)
	}
	page = string(text)
	for _, at := range blockFence.FindAllStringSubmatchIndex(page, -1) {
		indent, script := page[at[2]:at[3]], page[at[6]:at[7]]
		blocks = append(blocks, block{
			line: 1 + strings.Count(page[:at[2]], "\n"), needs: page[at[4]:at[5]],
			script: strings.ReplaceAll("\n"+script, "\n"+indent, "\n"),
		})
	}
	if fences := strings.Count(page, "```sh"); len(blocks) != fences || fences < 30 {
		t.Fatalf("%d blocks read of %d: this test reads the page wrongly", len(blocks), fences)
	}
	return page, blocks
}

// Protects whoever is on call at night: every command of the page works as it is typed, in the
// order of the page, on an installation with orders, dead letters, and stores that come and go;
// and it prints what the page says.
func TestOperations_Commands(t *testing.T) {
	t.Parallel()
	_, blocks := readOperations(t)
	o := newOperations(t)
	for _, b := range blocks {
		o.run(b)
	}
	if !t.Failed() {
		o.auditClean()
	}
}

// operations is an installation with the variables that the page asks for.
type operations struct {
	*installation
	redis, postgres *devstack.Server
	node            *process
	client          *redis.Client
	item            flashsale.ItemID
	env             map[string]string
}

func newOperations(t *testing.T) *operations {
	t.Helper()
	redisServer, postgresServer := stacktest.NewRedis(t), stacktest.NewPostgres(t)
	o := &operations{
		installation: newInstallationOver(t, redisServer.URL(), postgresServer.URL()),
		redis:        redisServer, postgres: postgresServer,
	}
	o.client = o.redisClient()
	o.command(exitOK, "sale", "create", "--name", "old", "--duration", "1s",
		"--item", "product=old thing,price_fen=1,stock=5", "--preheat")
	o.age(1)
	o.item = o.sell(50, "limit=2")
	o.node = o.serve()
	worker := o.work("a")
	o.work("b")
	tokens := o.tokens("night", 10)
	orders := make([]string, len(tokens))
	for k, token := range tokens {
		orders[k] = o.buy(token)
	}
	dir, err := o.client.ConfigGet(t.Context(), "dir").Result()
	if err != nil {
		t.Fatal(err)
	}
	o.env = map[string]string{
		"ADMIN_TOKEN": adminToken, "DATABASE_URL": o.postgres.URL(), "REDIS_URL": o.redis.URL(),
		"OPS": o.node.ops, "WORK_OPS": worker.ops, "REDIS_DIR": dir["dir"],
		"SALE": "2", "ITEM": o.item.String(), "P": "0", "OLD_ITEM": "1", "OLD_P": "0",
		"SHOPPER": shopper("night", 0), "TOKEN": tokens[0], "ORDER": orders[0],
		"PATH": o.onPath() + string(os.PathListSeparator) + os.Getenv("PATH"),
	}
	o.auditClean()
	return o
}

// age makes an item one that was sold long ago, in both stores.
func (o *operations) age(item flashsale.ItemID) {
	o.t.Helper()
	_, err := o.database().Exec(o.t.Context(),
		`UPDATE items SET opens_at = '2020-01-01 00:00Z', closes_at = '2020-01-01 01:00Z' WHERE id = $1`, int64(item))
	if err == nil {
		err = o.client.HSet(o.t.Context(), engine.ItemKey(0, item), "opens_at_ms", 1577836800000, "closes_at_ms", 1577840400000).Err()
	}
	if err != nil {
		o.t.Fatal(err)
	}
}

// onPath returns a folder with a `flashsale` that is this test binary.
func (o *operations) onPath() (dir string) {
	o.t.Helper()
	dir = o.t.TempDir()
	self, err := filepath.Abs(os.Args[0])
	if err != nil {
		o.t.Fatal(err)
	}
	script := fmt.Sprintf("#!/bin/sh\n%s=1 exec '%s' \"$@\"\n", asCommand, self)
	if err := os.WriteFile(filepath.Join(dir, "flashsale"), []byte(script), 0o700); err != nil {
		o.t.Fatal(err)
	}
	return dir
}

// buy returns the number of an order that was accepted.
func (o *operations) buy(token string) string {
	o.t.Helper()
	bases := func() []string { return []string{o.node.base} }
	r, err := insist(o.t.Context(), bases, o.item, token, fmt.Sprintf("key-%d", time.Now().UnixNano()))
	if err != nil || r.status != http.StatusAccepted {
		o.t.Fatalf("buy: %d %s %v", r.status, r.text, err)
	}
	return r.OrderNo
}

// run types one block and compares what it prints.
func (o *operations) run(b block) {
	o.t.Helper()
	restore := o.prepare(b.needs)
	defer restore()
	if strings.Contains(b.script, "$DEAD") {
		o.env["DEAD"] = o.deadLetter()
	}
	ctx, cancel := context.WithTimeout(o.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-euc", b.script)
	cmd.Env = append(os.Environ(), o.installation.env...)
	for name, value := range o.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	cmd.WaitDelay = time.Second // what the shell has started may hold the pipe
	var out, faults bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &faults
	if err := cmd.Run(); err != nil {
		o.t.Fatalf("%s:%d: %v\n%s%s%s", operationsPage, b.line, err, b.script, &out, &faults)
	}
	rest := out.String()
	for _, prints := range printsLine.FindAllStringSubmatch(b.script, -1) {
		at := o.pattern(prints[1]).FindStringIndex(rest)
		if at == nil {
			o.t.Errorf("%s:%d: does not print %q\n%s\nprinted:\n%s%s", operationsPage, b.line, prints[1], b.script, &out, &faults)
			return
		}
		rest = rest[at[1]:]
	}
}

// pattern reads what the page says is printed: … is anything, a blank any number of blanks.
func (o *operations) pattern(prints string) *regexp.Regexp {
	text := regexp.QuoteMeta(os.Expand(prints, func(name string) string { return o.env[name] }))
	text = strings.ReplaceAll(text, "…", ".*?")
	return regexp.MustCompile(regexp.MustCompile(` +`).ReplaceAllString(text, ` +`))
}

// prepare brings about what a block needs and returns what ends it.
func (o *operations) prepare(needs string) (restore func()) {
	o.t.Helper()
	stop := func(server *devstack.Server) func() {
		server.Kill()
		return func() {
			if err := server.Restart(o.t.Context()); err != nil {
				o.t.Fatal(err)
			}
			o.auditClean()
		}
	}
	switch needs {
	case "":
	case "redis=stopped":
		return stop(o.redis)
	case "postgres=stopped":
		return stop(o.postgres)
	case "redis=emptied":
		if err := o.client.FlushAll(o.t.Context()).Err(); err != nil {
			o.t.Fatal(err)
		}
	case "dead=planted":
		o.plantDeadLetter()
	default:
		o.t.Fatalf("%s: a block needs %q", operationsPage, needs)
	}
	return func() {}
}

// plantDeadLetter does what reserve.lua does, but for a quantity that nobody can read: the entry
// holds a unit, and can never be persisted.
func (o *operations) plantDeadLetter() {
	o.t.Helper()
	const order, user = "900000000000000001", "spoiled"
	ctx, account := o.t.Context(), engine.ItemKey(0, o.item)
	counted, err := o.client.HMGet(ctx, account, "gen", "seq").Result()
	if err != nil {
		o.t.Fatal(err)
	}
	generation := counted[0].(string)
	last, err := strconv.ParseInt(counted[1].(string), 10, 64)
	if err != nil {
		o.t.Fatal(err)
	}
	sequence := strconv.FormatInt(last+1, 10)
	_, err = o.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.HIncrBy(ctx, account, "stock", -1)
		p.HIncrBy(ctx, account, "seq", 1)
		p.HSet(ctx, engine.BuyersKey(0, o.item), user, order+" 1 ")
		p.XAdd(ctx, &redis.XAddArgs{Stream: engine.OrdersKey(0), Values: []string{
			"item", o.item.String(), "gen", generation, "seq", sequence, "at_ms", "1700000000000", user, order + " one ",
		}})
		p.Incr(ctx, engine.WaitingKey(0))
		return nil
	})
	if err != nil {
		o.t.Fatal(err)
	}
	o.deadLetter()
}

// deadLetter returns the id of a dead letter, once there is one.
func (o *operations) deadLetter() (id string) {
	o.t.Helper()
	stacktest.Eventually(o.t, patience, func() error {
		entries, err := o.client.XRange(o.t.Context(), engine.DeadKey(0), "-", "+").Result()
		if err != nil || len(entries) == 0 {
			return fmt.Errorf("%d dead letters: %w", len(entries), err)
		}
		id = "0/" + entries[0].ID
		return nil
	})
	return id
}

// metricRow is a line of the page's table.
type metricRow struct {
	kind, labels string
	of           string // S, W or SW
}

var (
	tableLine   = regexp.MustCompile("(?m)^\\| `(flashsale_[a-z_]+)` \\| ([a-z]+) \\| ([a-z, ]*) \\| ([SW]+) \\|")
	metricName  = regexp.MustCompile(`flashsale_[a-z_]+[a-z]`)
	description = regexp.MustCompile(`fqName: "(flashsale_[a-z_]+)".*variableLabels: \{([a-z_,]*)\}`)
	typeLine    = regexp.MustCompile(`(?m)^# TYPE (flashsale_[a-z_]+) ([a-z]+)$`)
	seriesPart  = regexp.MustCompile(`_(bucket|sum|count)$`)
)

// Protects the table of metrics: it has every metric that a server or a worker registers, with its
// labels and its type, and no other; and nothing on the page speaks of a metric that is not.
func TestOperations_Metrics(t *testing.T) {
	t.Parallel()
	page, _ := readOperations(t)
	table := make(map[string]metricRow)
	for _, row := range tableLine.FindAllStringSubmatch(page, -1) {
		if _, twice := table[row[1]]; twice {
			t.Errorf("the table has %s twice", row[1])
		}
		table[row[1]] = metricRow{kind: row[2], labels: strings.ReplaceAll(strings.TrimSpace(row[3]), " ", ""), of: row[4]}
	}
	for _, name := range metricName.FindAllString(page, -1) {
		_, known := table[name]
		_, ofHistogram := table[seriesPart.ReplaceAllString(name, "")]
		if !known && !ofHistogram && !strings.Contains(page, name+"_") {
			t.Errorf("the page speaks of %s, which is not in its table", name)
		}
	}

	// What is registered, from the descriptions: a series appears only when it first happens.
	i := newInstallation(t)
	registered := i.registered()
	for name, row := range table {
		if got := registered[name]; got.of != row.of || got.labels != row.labels {
			t.Errorf("%s: the table says labels %q of %s, registered are %q of %q", name, row.labels, row.of, got.labels, got.of)
		}
	}
	for name := range registered {
		if _, known := table[name]; !known {
			t.Errorf("the table leaves out %s", name)
		}
	}

	// What processes serve is of the type that the table says, and all that has no labels is served.
	for of, p := range map[string]*process{"S": i.serve(), "W": i.work("w")} {
		served := make(map[string]bool)
		for _, line := range typeLine.FindAllStringSubmatch(ask{method: "GET", url: p.ops + "/metrics"}.send(t).body, -1) {
			served[line[1]] = true
			if row := table[line[1]]; row.kind != line[2] || !strings.Contains(row.of, of) {
				t.Errorf("%s of %s is a %s, the table says %s of %q", line[1], of, line[2], row.kind, row.of)
			}
		}
		for name, row := range table {
			if row.labels == "" && strings.Contains(row.of, of) && !served[name] {
				t.Errorf("%s is not served by %s", name, of)
			}
		}
	}
}

// registered returns what servers and workers register, by name.
func (i *installation) registered() map[string]metricRow {
	i.t.Helper()
	rows := make(map[string]metricRow)
	note := func(of string, registry *prometheus.Registry) {
		descriptions := make(chan *prometheus.Desc)
		go func() {
			defer close(descriptions)
			registry.Describe(descriptions)
		}()
		for d := range descriptions {
			if found := description.FindStringSubmatch(d.String()); found != nil {
				row := rows[found[1]]
				rows[found[1]] = metricRow{labels: found[2], of: row.of + of}
			}
		}
	}
	alipay := paying{PublicURL: "https://shop.example", Alipay: alipayFlags{
		AppID: "2021000000000001", SellerID: "2088000000000001",
		PrivateKey: "../../pay/alipay/testdata/app_private.pem", PublicKey: "../../pay/alipay/testdata/alipay_public.pem",
	}}
	open := func() *rooms {
		r := i.rooms()
		i.t.Cleanup(r.close)
		if err := r.openDesk(alipay, nil); err != nil {
			i.t.Fatal(err)
		}
		return r
	}
	server := open()
	s, err := server.newServer(serving{Addr: "127.0.0.1:0", OpsAddr: "127.0.0.1:0"})
	if err != nil {
		i.t.Fatal(err)
	}
	note("S", server.metrics)
	stopped, stop := context.WithCancel(i.t.Context())
	stop() // it closes its listeners when it ends
	if err := s.Run(stopped); err != nil {
		i.t.Fatal(err)
	}
	worker := open()
	if _, err := worker.newWorker(working{Consumer: "w"}); err != nil {
		i.t.Fatal(err)
	}
	note("W", worker.metrics)
	return rows
}

// Protects the links of the page: at three in the morning they lead somewhere.
func TestOperations_Links(t *testing.T) {
	t.Parallel()
	page, _ := readOperations(t)
	anchors := make(map[string]bool)
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(page, -1) {
		plain := regexp.MustCompile(`[^a-z0-9_ -]`).ReplaceAllString(strings.ToLower(heading[1]), "")
		anchors[strings.ReplaceAll(plain, " ", "-")] = true
	}
	for _, link := range regexp.MustCompile(`\]\(([^)#]*)#?([^)]*)\)`).FindAllStringSubmatch(page, -1) {
		if link[1] == "" && !anchors[link[2]] {
			t.Errorf("%s: no heading for #%s", operationsPage, link[2])
		}
		if link[1] != "" {
			if _, err := os.Stat(filepath.Join(filepath.Dir(operationsPage), link[1])); err != nil {
				t.Error(err)
			}
		}
	}
}
