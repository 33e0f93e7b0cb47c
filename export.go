package flashsale

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"
)

// The formats of an export of orders.
const (
	FormatCSV    = "csv"    // with a line of names first
	FormatNDJSON = "ndjson" // one JSON object a line
)

var exportNames = []string{
	"order_no", "item_id", "user", "quantity", "status", "reason", "amount_fen", "amount_points", "reserved_at_ms",
	"created_at_ms", "updated_at_ms", "pay_deadline_ms",
}

// exportedOrder has the members of exportNames.
type exportedOrder struct {
	OrderNo       OrderNo `json:"order_no"`
	ItemID        ItemID  `json:"item_id"`
	User          string  `json:"user"`
	Quantity      int     `json:"quantity"`
	Status        Status  `json:"status"`
	Reason        string  `json:"reason"`
	AmountFen     int64   `json:"amount_fen"`
	AmountPoints  int64   `json:"amount_points"`
	ReservedAtMS  int64   `json:"reserved_at_ms"`
	CreatedAtMS   int64   `json:"created_at_ms"`
	UpdatedAtMS   int64   `json:"updated_at_ms"`
	PayDeadlineMS int64   `json:"pay_deadline_ms"`
}

// OrderWriter writes orders, page by page, for people and programs elsewhere.
type OrderWriter struct {
	csv  *csv.Writer
	json *json.Encoder
}

// NewOrderWriter begins an export in one of the formats; in CSV it writes the names.
func NewOrderWriter(w io.Writer, format string) (*OrderWriter, error) {
	switch format {
	case FormatCSV:
		writer := csv.NewWriter(w)
		return &OrderWriter{csv: writer}, writer.Write(exportNames)
	case FormatNDJSON:
		return &OrderWriter{json: json.NewEncoder(w)}, nil
	}
	return nil, fmt.Errorf("format must be %s or %s, not %q", FormatCSV, FormatNDJSON, format)
}

// Write writes a page of orders, and everything before it, to the underlying writer.
func (w *OrderWriter) Write(orders []Order) error {
	for _, o := range orders {
		var err error
		if w.json != nil {
			err = w.json.Encode(exportedOrder{
				o.OrderNo, o.ItemID, o.User, o.Quantity, o.Status, o.Reason, o.AmountFen, o.AmountPoints,
				o.ReservedAt.UnixMilli(), o.CreatedAt.UnixMilli(), o.UpdatedAt.UnixMilli(), o.PayDeadline.UnixMilli(),
			})
		} else {
			err = w.csv.Write([]string{
				o.OrderNo.String(), o.ItemID.String(), o.User, strconv.Itoa(o.Quantity), string(o.Status), o.Reason,
				strconv.FormatInt(o.AmountFen, 10), strconv.FormatInt(o.AmountPoints, 10),
				millis(o.ReservedAt), millis(o.CreatedAt), millis(o.UpdatedAt), millis(o.PayDeadline),
			})
		}
		if err != nil {
			return err
		}
	}
	if w.csv == nil {
		return nil
	}
	w.csv.Flush()
	return w.csv.Error()
}

func millis(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }
