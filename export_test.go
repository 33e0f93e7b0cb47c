package flashsale_test

import (
	"strings"
	"testing"
	"time"

	"flashsale"
)

// Protects what is read elsewhere: both formats have the same names and values, ids stay whole, and
// what a person wrote stays in its cell.
func TestOrderWriter(t *testing.T) {
	t.Parallel()
	at := time.UnixMilli(1_800_000_000_000)
	orders := []flashsale.Order{
		{OrderNo: 9_007_199_254_740_993, ItemID: 3, User: "ann", Quantity: 2, Status: flashsale.Paid, AmountFen: 1980, AmountPoints: 14, ReservedAt: at, CreatedAt: at, UpdatedAt: at, PayDeadline: at},
		{OrderNo: 4, ItemID: 3, User: "+bob", Quantity: 1, Status: flashsale.Cancelled, Reason: "a, \"b\"\nc", ReservedAt: at, CreatedAt: at, UpdatedAt: at, PayDeadline: at},
	}
	for format, want := range map[string]string{
		flashsale.FormatCSV: "order_no,item_id,user,quantity,status,reason,amount_fen,amount_points,reserved_at_ms,created_at_ms,updated_at_ms,pay_deadline_ms\n" +
			"9007199254740993,3,ann,2,paid,,1980,14,1800000000000,1800000000000,1800000000000,1800000000000\n" +
			"4,3,+bob,1,cancelled,\"a, \"\"b\"\"\nc\",0,0,1800000000000,1800000000000,1800000000000,1800000000000\n",
		flashsale.FormatNDJSON: `{"order_no":"9007199254740993","item_id":"3","user":"ann","quantity":2,"status":"paid","reason":"","amount_fen":1980,"amount_points":14,"reserved_at_ms":1800000000000,"created_at_ms":1800000000000,"updated_at_ms":1800000000000,"pay_deadline_ms":1800000000000}` + "\n" +
			`{"order_no":"4","item_id":"3","user":"+bob","quantity":1,"status":"cancelled","reason":"a, \"b\"\nc","amount_fen":0,"amount_points":0,"reserved_at_ms":1800000000000,"created_at_ms":1800000000000,"updated_at_ms":1800000000000,"pay_deadline_ms":1800000000000}` + "\n",
	} {
		var out strings.Builder
		writer, err := flashsale.NewOrderWriter(&out, format)
		if err != nil {
			t.Fatal(err)
		}
		for _, order := range orders {
			if err := writer.Write([]flashsale.Order{order}); err != nil {
				t.Fatal(err)
			}
		}
		if out.String() != want {
			t.Errorf("%s:\n%s\nwant\n%s", format, out.String(), want)
		}
	}
	if _, err := flashsale.NewOrderWriter(nil, "xml"); err == nil {
		t.Error("a format that is none is accepted")
	}
}
