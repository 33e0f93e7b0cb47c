package baseline

import (
	"encoding/json"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/valyala/fasthttp"

	"flashsale/bench/target"
)

// A node must speak the engine's HTTP, or the generators would count its answers wrong.
func TestNode_SpeaksTheEnginesHTTP(t *testing.T) {
	t.Parallel()
	stores := setup(t)
	strategy, err := New("script", stores)
	if err != nil {
		t.Fatal(err)
	}
	if err := strategy.Prepare(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	node, err := Start(t.Context(), os.Args[0], Config{
		Strategy: "script", RedisURL: stack.RedisURL, DatabaseURL: stack.DatabaseURL,
		Item: stores.Item, Node: 7,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = node.Stop() })
	if err := stack.CreateSessions(t.Context(), 0, 2); err != nil {
		t.Fatal(err)
	}
	if err := target.Warm(t.Context(), node.URL, 0, 2); err != nil {
		t.Fatal(err)
	}
	path := "/v1/items/" + strconv.FormatInt(stores.Item, 10) + "/orders"
	var order Order
	for _, test := range []struct {
		path, token string
		status      int
		code        string
	}{
		{path, target.Token(0), 202, ""},
		{path, target.Token(0), 409, "duplicate_order"},
		{path, target.Token(1), 409, "sold_out"},
		{path, "nobody", 401, "invalid_token"},
		{path, "", 401, "invalid_token"},
		{"/v1/items/0/orders", target.Token(1), 404, "not_found"},
	} {
		status, answer := post(t, node.URL+test.path, test.token)
		if status != test.status || answer.Code != test.code {
			t.Errorf("%s as %q: %d %q, want %d %q", test.path, test.token, status, answer.Code, test.status, test.code)
		}
		if status == fasthttp.StatusAccepted {
			order = Order{answer.Number, target.User(0)}
			if answer.Status != "pending" {
				t.Errorf("accepted as %q, want pending", answer.Status)
			}
		}
	}
	if err := node.Stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	state, err := strategy.State(t.Context())
	if err != nil || !slices.Equal(state.Orders, []Order{order}) {
		t.Errorf("stored %+v, but told %+v; %v", state.Orders, order, err)
	}
}

type reply struct {
	Code   string `json:"code"`
	Number int64  `json:"order_no,string"`
	Status any    `json:"status"` // a word, or the number of a problem
}

func post(t *testing.T, url, token string) (int, reply) {
	t.Helper()
	request, response := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(request)
	defer fasthttp.ReleaseResponse(response)
	request.Header.SetMethod(fasthttp.MethodPost)
	request.SetRequestURI(url)
	request.Header.Set("Authorization", "Bearer "+token)
	if err := fasthttp.Do(request, response); err != nil {
		t.Fatal(err)
	}
	var answer reply
	if err := json.Unmarshal(response.Body(), &answer); err != nil {
		t.Fatalf("%s: %v", response.Body(), err)
	}
	return response.StatusCode(), answer
}

// A node that cannot serve must fail at once instead of leaving the comparison to wait.
func TestStart_Fails(t *testing.T) {
	t.Parallel()
	if _, err := Start(t.Context(), os.Args[0], Config{
		Strategy: "magic", RedisURL: stack.RedisURL, DatabaseURL: stack.DatabaseURL,
	}); err == nil {
		t.Error("a node of a strategy that does not exist has started")
	}
}
