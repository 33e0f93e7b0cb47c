package ratios

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"flashsale/bench/target"
)

// shopper buys and waits, one request after the other.
type shopper struct {
	client *http.Client
	token  string
}

// purchase is an order as its answers tell it.
type purchase struct {
	OrderNo string `json:"order_no"`
	Status  string `json:"status"`
}

// buy buys a unit of an item at a server.
func (s shopper) buy(ctx context.Context, server *target.Server, item string) (purchase, error) {
	return s.call(ctx, http.MethodPost, server.URL+"/v1/items/"+item+"/orders", http.StatusAccepted)
}

// confirmed waits at a server until an order is no longer pending.
func (s shopper) confirmed(ctx context.Context, server *target.Server, item string, order purchase) error {
	at := server.URL + "/v1/orders/" + order.OrderNo + "?wait=10s&status=pending&item=" + item
	now, err := s.call(ctx, http.MethodGet, at, http.StatusOK)
	if err == nil && now.Status != "unpaid" {
		err = fmt.Errorf("order %s is %s, want unpaid", order.OrderNo, now.Status)
	}
	return err
}

func (s shopper) call(ctx context.Context, method, url string, want int) (found purchase, err error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, url, http.NoBody)
	if err != nil {
		return found, err
	}
	request.Header.Set("Authorization", "Bearer "+s.token)
	answer, err := s.client.Do(request)
	if err != nil {
		return found, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != want {
		err = fmt.Errorf("%s %s: status %d: %s", method, url, answer.StatusCode, body)
	}
	if err != nil {
		return found, err
	}
	err = json.Unmarshal(body, &found)
	return found, err
}
