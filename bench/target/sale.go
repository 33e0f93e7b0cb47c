package target

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Day is a time to pay in which nothing is cancelled while we measure.
const Day = 24 * time.Hour

// Offer is an item to be put on sale, one unit a user.
type Offer struct {
	Stock       int64
	PriceFen    int64
	PointsPrice int64         // 0: not payable with points
	PayTimeout  time.Duration // whole seconds, at least one
}

// CreateItems creates a sale that is open now, with so many items, loads it into Redis and
// returns the items' ids.
func (s *Server) CreateItems(ctx context.Context, count int, stock int64) ([]string, error) {
	offers := make([]Offer, count)
	for n := range offers {
		offers[n] = Offer{Stock: stock, PriceFen: 100, PayTimeout: Day}
	}
	return s.Sell(ctx, offers...)
}

// Sell creates a sale that is open now, loads it into Redis and returns the items' ids.
func (s *Server) Sell(ctx context.Context, offers ...Offer) ([]string, error) {
	return s.SellAt(ctx, time.Now().Add(-time.Minute), offers...)
}

// SellAt does the same for a sale that opens at a moment, to the millisecond.
func (s *Server) SellAt(ctx context.Context, opens time.Time, offers ...Offer) ([]string, error) {
	type item struct {
		ID          json.RawMessage `json:"id,omitempty"`
		Product     string          `json:"product"`
		PriceFen    int64           `json:"price_fen"`
		PointsPrice int64           `json:"points_price"`
		Stock       int64           `json:"stock"`
		Limit       int             `json:"limit"`
		Timeout     int64           `json:"pay_timeout_s"`
	}
	sale := struct {
		ID       json.RawMessage `json:"id,omitempty"`
		Name     string          `json:"name"`
		OpensAt  int64           `json:"opens_at_ms"`
		ClosesAt int64           `json:"closes_at_ms"`
		Items    []item          `json:"items"`
	}{
		Name:     "bench",
		OpensAt:  opens.UnixMilli(),
		ClosesAt: opens.Add(Day / 2).UnixMilli(),
	}
	for n, offer := range offers {
		sale.Items = append(sale.Items, item{
			Product: "bench-" + strconv.Itoa(n), PriceFen: offer.PriceFen, PointsPrice: offer.PointsPrice,
			Stock: offer.Stock, Limit: 1, Timeout: int64(offer.PayTimeout / time.Second),
		})
	}
	request, err := json.Marshal(sale)
	if err != nil {
		return nil, err
	}
	sale.Items = nil
	if err := s.post(ctx, "/v1/admin/sales", request, http.StatusCreated, &sale); err != nil {
		return nil, err
	}
	if err := s.post(ctx, "/v1/admin/sales/"+unquote(sale.ID)+"/preheat", nil, http.StatusOK, nil); err != nil {
		return nil, err
	}
	ids := make([]string, 0, len(offers))
	for _, created := range sale.Items {
		ids = append(ids, unquote(created.ID))
	}
	return ids, nil
}

func unquote(id json.RawMessage) string { return strings.Trim(string(id), `"`) }

// GrantPoints gives a user points, once a ref.
func (s *Server) GrantPoints(ctx context.Context, user string, points int64, ref string) error {
	body, err := json.Marshal(map[string]any{"user": user, "points": points, "ref": ref})
	if err != nil {
		return err
	}
	return s.post(ctx, "/v1/admin/points", body, http.StatusOK, nil)
}

// Holding reads what Redis holds of an item by way of the server; Waiting and Buyers are not
// shown there.
func (s *Server) Holding(ctx context.Context, item string) (Item, error) {
	path := "/v1/admin/items/" + item
	answer, err := s.get(ctx, path)
	if err != nil {
		return Item{}, err
	}
	var shown struct {
		Redis *struct {
			Sequence int64 `json:"sequence"`
			Stock    int64 `json:"stock"`
		} `json:"redis"`
	}
	if answer.status != http.StatusOK || json.Unmarshal(answer.body, &shown) != nil || shown.Redis == nil {
		return Item{}, fmt.Errorf("GET %s: status %d: %s", path, answer.status, answer.body)
	}
	return Item{Sequence: shown.Redis.Sequence, Stock: shown.Redis.Stock}, nil
}
