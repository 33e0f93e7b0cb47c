package flashsale_test

import (
	"strings"
	"testing"
	"time"

	"flashsale"
)

// Protects shoppers from orders that nobody can pay: what no way to pay takes is refused before it
// is sold, with the bound that was crossed.
func TestSale_CheckPayable(t *testing.T) {
	t.Parallel()
	ways := func(offered ...flashsale.Method) []flashsale.Terms {
		all := []flashsale.Terms{
			{Method: flashsale.Alipay, AmountMax: 1000, PayTimeoutMin: 90*time.Second - time.Millisecond},
			{Method: flashsale.Points, AmountMax: 100, PayTimeoutMin: time.Second},
		}
		for n := range all {
			for _, method := range offered {
				all[n].Offered = all[n].Offered || all[n].Method == method
			}
		}
		return all
	}
	type item = flashsale.Item
	for _, c := range []struct {
		item item
		ways []flashsale.Terms
		want string // a part of the error; "" is payable
	}{
		{item{PriceFen: 1000, Limit: 1, PayTimeout: 90 * time.Second}, ways("alipay"), ""},
		{item{PriceFen: 100, Limit: 10, PayTimeout: 90 * time.Second}, ways("alipay"), ""},
		{item{PriceFen: 1001, Limit: 1, PayTimeout: time.Hour}, ways("alipay"), "items[0].price_fen × limit is 1001, and alipay takes at most 1000"},
		{item{PriceFen: 101, Limit: 10, PayTimeout: time.Hour}, ways("alipay"), "items[0].price_fen × limit is 1010"},
		{item{PriceFen: 101, Limit: 10, PayTimeout: time.Hour}, ways(), "price_fen"}, // the shop may be set up later
		{item{PriceFen: 1, PointsPrice: 51, Limit: 2, PayTimeout: time.Hour}, ways("points"), "items[0].points_price × limit is 102, and points takes at most 100"},
		{item{PriceFen: 1, PointsPrice: 50, Limit: 2, PayTimeout: time.Second}, ways("points"), ""},
		{item{PriceFen: 1, Limit: 1, PayTimeout: 89 * time.Second}, ways("alipay"), "items[0].pay_timeout_s must be at least 90: alipay"},
		{item{PriceFen: 1, Limit: 1, PayTimeout: 89 * time.Second}, ways("alipay", "points"), "pay_timeout_s must be at least 90"},
		{item{PriceFen: 1, PointsPrice: 1, Limit: 1, PayTimeout: time.Second}, ways("alipay", "points"), ""},
		{item{PriceFen: 1, PointsPrice: 1, Limit: 1, PayTimeout: time.Second}, ways("alipay"), "pay_timeout_s must be at least 90"},
		{item{PriceFen: 1, Limit: 1, PayTimeout: time.Hour}, ways("points"), "items[0].points_price must be positive"},
		{item{PriceFen: 1, Limit: 1, PayTimeout: time.Second}, ways(), ""},
		{item{PriceFen: 1, Limit: 1, PayTimeout: time.Second}, nil, ""},
	} {
		err := flashsale.Sale{Items: []item{c.item}}.CheckPayable(c.ways)
		if err != nil {
			got := err.Error()
			if c.want == "" || !strings.Contains(got, c.want) {
				t.Errorf("%+v: %s, want %q", c.item, got, c.want)
			}
		} else if c.want != "" {
			t.Errorf("%+v is payable, want %q", c.item, c.want)
		}
	}
}
