package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"flashsale"
)

// Bounds of a rush: everything runs on this machine.
const (
	rushMax       = 200_000
	rushConns     = 1_000            // open connections; more shoppers wait for one
	rushDrain     = 30 * time.Second // for the worker to persist what was accepted
	rushTimeout   = 30 * time.Second // for one request
	rushTries     = 2                // each shopper tries twice: a winner must learn his order again
	sessionTTL    = 10 * time.Minute
	barWidth      = 40
	barInterval   = 200 * time.Millisecond
	percentScale  = 100
	answerLenMax  = 4 << 10
	preparersBusy = 64
)

// answer is what one request of a rush got.
type answer struct {
	user    string
	try     int
	code    string // an outcome's code, or what was wrong
	orderNo string
	took    time.Duration
}

// rush sends n shoppers to an item over HTTP and reports what they got, what the ledger holds
// and whether the invariants stand. A broken expectation is an error.
func (r *rooms) rush(ctx context.Context, out io.Writer, base string, item flashsale.Item, n int) error {
	run := fmt.Sprintf("rush%d", time.Now().UnixMilli())
	tokens := make([]string, n)
	bar := newBar(out, "preparing shoppers", n)
	err := parallel(n, preparersBusy, func(i int) error {
		token, err := r.engine.CreateSession(ctx, flashsale.User{ID: shopper(run, i)}, sessionTTL)
		tokens[i] = token
		bar.add(1)
		return err
	})
	bar.end()
	if err != nil {
		return err
	}

	client := &http.Client{
		Timeout: rushTimeout,
		Transport: &http.Transport{
			MaxConnsPerHost: rushConns, MaxIdleConnsPerHost: rushConns, DisableCompression: true,
		},
	}
	defer client.CloseIdleConnections()
	url := fmt.Sprintf("%s/v1/items/%s/orders", base, item.ID)
	answers := make([]answer, n*rushTries)
	bar = newBar(out, "rush", n*rushTries)
	began := time.Now()
	err = parallel(n, n, func(i int) error {
		for try := range rushTries {
			answers[i*rushTries+try] = buy(ctx, client, url, tokens[i], shopper(run, i), try)
			bar.add(1)
		}
		return ctx.Err()
	})
	took := time.Since(began)
	bar.end()
	if err != nil {
		return err
	}

	// The worker is a moment behind: the audit is clean at rest only.
	report, err := r.auditAtRest(ctx, rushDrain)
	if err != nil {
		return err
	}
	figures, err := r.ledger.Figures(ctx)
	if err != nil {
		return err
	}
	persisted := int64(-1)
	for _, f := range figures.Items {
		if f.ID == item.ID {
			persisted = f.LiveUnits
		}
	}
	wrong := reportRush(out, answers, n, took, item, persisted)
	fmt.Fprintln(out)
	fmt.Fprintln(out, report)
	if !report.OK {
		return errors.Join(errBroken, wrong)
	}
	return wrong
}

func shopper(run string, i int) string { return fmt.Sprintf("%s-%06d", run, i) }

// buy sends one request.
func buy(ctx context.Context, client *http.Client, url, token, user string, try int) answer {
	a := answer{user: user, try: try}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, http.NoBody)
	if err != nil {
		a.code = err.Error()
		return a
	}
	request.Header.Set("Authorization", "Bearer "+token)
	began := time.Now()
	response, err := client.Do(request)
	if err != nil {
		a.code = "no answer"
		return a
	}
	defer response.Body.Close()
	var body struct {
		Code    string `json:"code"`
		OrderNo string `json:"order_no"`
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, answerLenMax))
	a.took = time.Since(began)
	if err == nil {
		err = json.Unmarshal(text, &body)
	}
	switch {
	case err != nil:
		a.code = "unreadable answer"
	case response.StatusCode == http.StatusAccepted:
		a.code = "sold"
	default:
		a.code = body.Code
	}
	a.orderNo = body.OrderNo
	return a
}

// reportRush prints the figures and checks what must hold whatever the timing.
func reportRush(out io.Writer, answers []answer, n int, took time.Duration, item flashsale.Item, persisted int64) error {
	counts := make(map[string]int)
	held := make(map[string]string) // user -> order_no of the accepted try
	times := make([]time.Duration, 0, len(answers))
	var wrong []error
	for _, a := range answers {
		counts[a.code]++
		times = append(times, a.took)
		if a.code == "sold" {
			if held[a.user] != "" {
				wrong = append(wrong, fmt.Errorf("%s was sold two units", a.user))
			}
			held[a.user] = a.orderNo
		}
	}
	for _, a := range answers {
		if a.code == flashsale.DuplicateOrder.String() && held[a.user] != a.orderNo {
			wrong = append(wrong, fmt.Errorf("%s holds order %q, but was told %q", a.user, held[a.user], a.orderNo))
		}
		if a.try > 0 && held[a.user] != "" && a.code == flashsale.SoldOut.String() {
			wrong = append(wrong, fmt.Errorf("%s holds order %s, but was told sold_out", a.user, held[a.user]))
		}
	}
	slices.Sort(times)
	quantile := func(percent int) time.Duration { return times[(len(times)-1)*percent/percentScale] }
	sold := counts["sold"]
	fmt.Fprintf(out, "\n%d shoppers, %d requests in %.2f s (%.0f a second)\n\n",
		n, len(answers), took.Seconds(), float64(len(answers))/took.Seconds())
	codes := make([]string, 0, len(counts))
	for code := range counts {
		codes = append(codes, code)
	}
	slices.Sort(codes)
	for _, code := range codes {
		fmt.Fprintf(out, "  %-18s %8d\n", code, counts[code])
	}
	fmt.Fprintf(out, "\n  %-18s %8s\n  %-18s %8s\n", "p50", quantile(50).Round(time.Microsecond), "p99", quantile(99).Round(time.Microsecond))
	fmt.Fprintf(out, "\n  %-18s %8d\n  %-18s %8d\n", "units offered", item.Total, "orders persisted", persisted)
	if want := min(int64(n), item.Total); int64(sold) != want || persisted != want {
		wrong = append(wrong, fmt.Errorf("%d sold and %d persisted, but %d should be", sold, persisted, want))
	}
	return errors.Join(wrong...)
}

// parallel calls do for 0 to n-1 on so many goroutines and returns the first error.
func parallel(n, goroutines int, do func(i int) error) error {
	var next atomic.Int64
	var once sync.Once
	var first error
	var wg sync.WaitGroup
	for range min(n, goroutines) {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := do(i); err != nil {
					once.Do(func() { first = err })
					return
				}
			}
		})
	}
	wg.Wait()
	return first
}

// bar shows progress: drawn over itself on a terminal, and only its end elsewhere.
type bar struct {
	out      io.Writer
	label    string
	total    int
	done     atomic.Int64
	terminal bool
	stop     chan struct{}
	stopped  chan struct{}
}

func newBar(out io.Writer, label string, total int) *bar {
	b := &bar{out: out, label: label, total: total, stop: make(chan struct{}), stopped: make(chan struct{})}
	b.terminal = isTerminal(out)
	go b.run()
	return b
}

func isTerminal(out io.Writer) bool {
	file, ok := out.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func (b *bar) add(n int64) { b.done.Add(n) }

func (b *bar) run() {
	defer close(b.stopped)
	ticker := time.NewTicker(barInterval)
	defer ticker.Stop()
	for {
		select {
		case <-b.stop:
			return
		case <-ticker.C:
			if b.terminal {
				b.draw("\r")
			}
		}
	}
}

func (b *bar) draw(start string) {
	done := int(b.done.Load())
	full := barWidth * done / max(b.total, 1)
	fmt.Fprintf(b.out, "%s%-18s [%s%s] %d/%d", start, b.label,
		strings.Repeat("#", full), strings.Repeat("-", barWidth-full), done, b.total)
}

func (b *bar) end() {
	close(b.stop)
	<-b.stopped
	start := ""
	if b.terminal {
		start = "\r"
	}
	b.draw(start)
	fmt.Fprintln(b.out)
}
