package server

import (
	"strings"
	"testing"
	"time"

	"flashsale"
)

// Protects whoever looks into a complaint: an order is found by its user, pending ones too, by its
// number and by that of its trade, with all that happened to it; and shoppers cannot ask.
func TestLookUp(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	at := time.UnixMilli(1_700_000_000_000)
	b.ledger.orders[6] = flashsale.Order{
		OrderNo: 6, ItemID: 7, User: "ann", Quantity: 1, Status: flashsale.Paid, AmountFen: 990,
		Generation: 1, Sequence: 4, ReservedAt: at, CreatedAt: at, UpdatedAt: at, PayDeadline: at,
	}
	record := `{"order_no":"6","item_id":"7","user":"ann","quantity":1,"status":"paid","amount_fen":990,"amount_points":0,` +
		`"generation":1,"sequence":4,"reserved_at_ms":1700000000000,"updated_at_ms":1700000000000,"pay_deadline_ms":1700000000000}`
	for path, want := range map[string]string{
		"/v1/admin/orders?user=ann":         `{"orders":[` + record + `]}`,
		"/v1/admin/orders?user=ann&limit=1": `{"orders":[` + record + `],"next_cursor":"6"}`,
		"/v1/admin/orders?trade=T6":         `{"orders":[` + record + `]}`,
		"/v1/admin/orders?trade=T9":         `{"orders":[]}`,
		"/v1/admin/orders/6":                `{"order":` + record + `,"events":[{"at_ms":1700000000000,"event":"reserved","detail":"1 units"}]}`,
	} {
		if got := string(b.callOps("GET", path, "", bearer...).Body()); got != want {
			t.Errorf("%s:\n got %s\nwant %s", path, got, want)
		}
	}
	for path, want := range map[string]string{
		"/v1/admin/orders":                                   "400 invalid_look_up",
		"/v1/admin/orders?user=ann&trade=T6":                 "400 invalid_look_up",
		"/v1/admin/orders?user=":                             "400 invalid_look_up",
		"/v1/admin/orders?user=%00":                          "400 invalid_look_up",
		"/v1/admin/orders?trade=%00":                         "400 invalid_look_up",
		"/v1/admin/orders?trade=%ff":                         "400 invalid_look_up",
		"/v1/admin/orders?trade=" + strings.Repeat("9", 201): "400 invalid_look_up",
		"/v1/admin/orders?user=ann&limit=0":                  "400 invalid_limit",
		"/v1/admin/orders?order=6":                           "400 unknown_parameter",
		"/v1/admin/orders/9":                                 "404 order_not_found",
		"/v1/admin/orders/x":                                 "400 invalid_order_no",
	} {
		if got := code(b.callOps("GET", path, "", bearer...)); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	if got := code(b.call("GET", "/v1/admin/orders?user=ann", "", as("ann")...)); got != "404 not_found" {
		t.Errorf("a shopper: %s", got)
	}
}
