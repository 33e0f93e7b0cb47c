package server

import (
	"maps"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"flashsale"
	"flashsale/engine"
)

// appendString appends text as a JSON string. Broken UTF-8 becomes U+FFFD.
func appendString(dst []byte, text string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < ' ' || c == 0x7f:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&0xf])
		case c < utf8.RuneSelf:
			dst = append(dst, c)
		default:
			r, size := utf8.DecodeRuneInString(text[i:])
			dst = utf8.AppendRune(dst, r)
			i += size
			continue
		}
		i++
	}
	return append(dst, '"')
}

// appendID appends an id as the decimal string that it is everywhere outside Go.
func appendID[ID ~int64](dst []byte, id ID) []byte {
	dst = strconv.AppendInt(append(dst, '"'), int64(id), 10)
	return append(dst, '"')
}

// appendMillis appends a named moment, and nothing for one that has not happened.
func appendMillis(dst []byte, name string, t time.Time) []byte {
	if t.IsZero() {
		return dst
	}
	return appendInt(dst, name, t.UnixMilli())
}

// appendInt appends a named number after other members.
func appendInt(dst []byte, name string, n int64) []byte {
	dst = append(append(append(dst, `,"`...), name...), `":`...)
	return strconv.AppendInt(dst, n, 10)
}

func appendUser(dst []byte, user flashsale.User) []byte {
	dst = appendString(append(dst, `{"user":`...), user.ID)
	if user.Name != "" {
		dst = appendString(append(dst, `,"name":`...), user.Name)
	}
	return append(dst, '}')
}

// appendOrder names the product and the sale as far as they are known.
func appendOrder(dst []byte, o flashsale.Order, title flashsale.Title) []byte {
	dst = appendID(append(dst, `{"order_no":`...), o.OrderNo)
	dst = appendID(append(dst, `,"item_id":`...), o.ItemID)
	dst = appendInt(dst, "quantity", int64(o.Quantity))
	dst = appendString(append(dst, `,"status":`...), string(o.Status))
	if o.Reason != "" {
		dst = appendString(append(dst, `,"reason":`...), o.Reason)
	}
	if o.Status != flashsale.Pending { // a pending order has no amount yet
		dst = appendInt(dst, "amount_fen", o.AmountFen)
		dst = appendInt(dst, "amount_points", o.AmountPoints)
	}
	dst = appendMillis(dst, "reserved_at_ms", o.ReservedAt)
	dst = appendMillis(dst, "created_at_ms", o.CreatedAt)
	dst = appendMillis(dst, "updated_at_ms", o.UpdatedAt)
	dst = appendMillis(dst, "pay_deadline_ms", o.PayDeadline)
	if title.SaleID != 0 {
		dst = appendText(dst, "product", title.Product)
		dst = appendTexts(dst, "names", title.Names)
		dst = appendText(dst, "image_url", title.ImageURL)
		dst = appendID(append(dst, `,"sale_id":`...), title.SaleID)
		dst = appendText(dst, "sale_name", title.SaleName)
		dst = appendTexts(dst, "sale_names", title.SaleNames)
	}
	return append(dst, '}')
}

// appendState is what a websocket is told.
func appendState(dst []byte, no flashsale.OrderNo, status flashsale.Status, reason string) []byte {
	dst = appendID(append(dst, `{"order_no":`...), no)
	dst = appendString(append(dst, `,"status":`...), string(status))
	if reason != "" {
		dst = appendString(append(dst, `,"reason":`...), reason)
	}
	return append(dst, '}')
}

// appendItem leaves the object open: the caller adds the time of the answer, or not. What is long
// is for an item that is looked at closely.
func appendItem(dst []byte, i flashsale.Item, seen shown, closely bool) []byte {
	dst = appendID(append(dst, `{"id":`...), i.ID)
	dst = appendID(append(dst, `,"sale_id":`...), i.SaleID)
	dst = appendString(append(dst, `,"product":`...), i.Product)
	dst = appendInt(dst, "price_fen", i.PriceFen)
	dst = appendInt(dst, "points_price", i.PointsPrice)
	dst = appendInt(dst, "limit", int64(i.Limit))
	dst = appendMillis(dst, "opens_at_ms", i.OpensAt)
	dst = appendMillis(dst, "closes_at_ms", i.ClosesAt)
	dst = appendString(append(dst, `,"state":`...), string(seen.state))
	dst = appendInt(dst, "total", i.Total)
	if !i.HideLeft {
		dst = appendInt(dst, "left_percent", seen.left)
	}
	if i.Details == nil {
		return dst
	}
	if i.Details.ListPriceFen > 0 {
		dst = appendInt(dst, "list_price_fen", i.Details.ListPriceFen)
	}
	dst = appendText(dst, "image_url", i.Details.ImageURL)
	dst = appendTexts(dst, "names", i.Details.Names)
	if closely {
		dst = appendText(dst, "description", i.Details.Description)
		dst = appendTexts(dst, "descriptions", i.Details.Descriptions)
	}
	return dst
}

// appendSale leaves the object open.
func appendSale(dst []byte, sale flashsale.Sale, now time.Time,
	left map[flashsale.ItemID]*engine.Account, closely bool,
) []byte {
	dst = appendID(append(dst, `{"id":`...), sale.ID)
	dst = appendString(append(dst, `,"name":`...), sale.Name)
	dst = appendTexts(dst, "names", sale.Names)
	dst = appendMillis(dst, "opens_at_ms", sale.OpensAt)
	dst = appendMillis(dst, "closes_at_ms", sale.ClosesAt)
	dst = appendString(append(dst, `,"state":`...), string(sale.StateAt(now)))
	dst = appendInt(dst, "item_count", int64(sale.ItemCount))
	dst = append(dst, `,"items":[`...)
	for n, item := range sale.Items {
		if n > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendItem(dst, item, shownAt(now, item, left), closely), '}')
	}
	return append(dst, ']')
}

// appendText appends a named text after other members, and nothing for none.
func appendText(dst []byte, name, text string) []byte {
	if text == "" {
		return dst
	}
	return appendString(append(append(append(dst, `,"`...), name...), `":`...), text)
}

// appendTexts appends texts by language after other members, and nothing for none.
func appendTexts(dst []byte, name string, texts map[string]string) []byte {
	for n, language := range slices.Sorted(maps.Keys(texts)) {
		if n == 0 {
			dst = append(append(append(dst, `,"`...), name...), `":{`...)
		} else {
			dst = append(dst, ',')
		}
		dst = appendString(append(appendString(dst, language), ':'), texts[language])
	}
	if len(texts) > 0 {
		dst = append(dst, '}')
	}
	return dst
}
