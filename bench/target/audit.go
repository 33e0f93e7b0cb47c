package target

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// Audit is what the engine's audit says, as `flashsale audit --json` prints it.
type Audit struct {
	OK         bool `json:"ok"`
	Moving     bool `json:"moving"` // something was on its way: the sums are not final
	Invariants []struct {
		Number int      `json:"number"`
		Name   string   `json:"name"`
		OK     bool     `json:"ok"`
		Broken []string `json:"broken"`
	} `json:"invariants"`
	Items []struct {
		Item  string `json:"item"`
		Live  int64  `json:"live_units"` // in live orders of the ledger
		Redis int64  `json:"redis_stock"`
	} `json:"items"`
	Money []Money `json:"money"`
}

// Money is what came in by one way of paying, and where it is.
type Money struct {
	Method    string `json:"method"`
	Received  int64  `json:"received"`
	Held      int64  `json:"held"` // of orders that are paid
	Refunding int64  `json:"refunding"`
	Refunded  int64  `json:"refunded"`
}

// Audit asks the server to add everything up.
func (s *Server) Audit(ctx context.Context) (Audit, error) {
	var audit Audit
	const path = "/v1/admin/audit"
	answer, err := s.get(ctx, path)
	if err != nil {
		return audit, err
	}
	if answer.status != http.StatusOK {
		return audit, fmt.Errorf("GET %s: status %d: %s", path, answer.status, answer.body)
	}
	if err := json.Unmarshal(answer.body, &audit); err != nil {
		return audit, fmt.Errorf("GET %s: %w", path, err)
	}
	return audit, nil
}

// Live is how many units of an item the ledger holds in live orders.
func (a Audit) Live(item string) int64 {
	for _, i := range a.Items {
		if i.Item == item {
			return i.Live
		}
	}
	return 0
}

// By is the money that came in by a way of paying.
func (a Audit) By(method string) Money {
	for _, m := range a.Money {
		if m.Method == method {
			return m
		}
	}
	return Money{Method: method}
}

// Broken are the lines of the invariants that do not hold.
func (a Audit) Broken() (lines []string) {
	for _, i := range a.Invariants {
		if !i.OK {
			lines = append(lines, fmt.Sprintf("%s: %s", i.Name, strings.Join(i.Broken, "; ")))
		}
	}
	return lines
}

// String is the audit for people.
func (a Audit) String() string {
	var b strings.Builder
	for _, i := range a.Invariants {
		word := "ok    "
		if !i.OK {
			word = "BROKEN"
		}
		fmt.Fprintf(&b, "%d  %s  %s\n", i.Number, word, i.Name)
		for _, line := range i.Broken {
			fmt.Fprintf(&b, "           %s\n", line)
		}
	}
	for _, m := range a.Money {
		fmt.Fprintf(&b, "%s: received %d = held %d + refunding %d + refunded %d\n",
			m.Method, m.Received, m.Held, m.Refunding, m.Refunded)
	}
	return strings.TrimSuffix(b.String(), "\n")
}
