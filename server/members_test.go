package server

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// Protects from members that two readers take differently, and tells where in the body the fault
// is: by a pointer as RFC 9457 has it.
func TestMembers(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	const window = `"name":"N","opens_at_ms":1800000000000,"closes_at_ms":1800003600000,`
	for body, want := range map[string]string{
		`{"name":"a","name":"b"}`:                                   `400 repeated_field #/name`,
		`{"Name":"a"}`:                                              `400 misspelt_field #/Name`,
		`{"NAME":"a","name":"a"}`:                                   `400 misspelt_field #/NAME`,
		`{` + window + `"items":[{"stock":1,"stock":1}]}`:           `400 repeated_field #/items/0/stock`,
		`{` + window + `"items":[{},{"Stock":1}]}`:                  `400 misspelt_field #/items/1/Stock`,
		`{` + window + `"items":[{"a/b~c":1}]}`:                     `422 unknown_field #/items/0/a~1b~0c`,
		`{` + window + `"items":[{"product":"p","price_fen":"1"}]}`: `422 invalid_field #/items/0/price_fen`,
		`{` + window + `"items":[{"product":"p"},{"product":[1]}]}`: `422 invalid_field #/items/1/product`,
		`{` + window + `"items":[{"product":"p","price_fen":0}]}`:   `422 invalid_field #/items/0/price_fen`,
		`{` + window + `"items":{}}`:                                `422 invalid_field #/items`,
		`{"name":7}`:                                                `422 invalid_field #/name`,
		`{"x":{"y":1,"y":2}}`:                                       `422 unknown_field #/x`,
		`{"opens_at_ms":{"y":1,"y":2}}`:                             `400 repeated_field #/opens_at_ms/y`,
		`{"opens_at_ms":` + strings.Repeat(`{"y":`, 9000) + `1` + strings.Repeat(`}`, 9001): `422 invalid_field #/opens_at_ms`,
	} {
		response := b.callOps("POST", "/v1/admin/sales", body, bearer...)
		var p struct {
			Errors []struct{ Pointer string }
		}
		if err := json.Unmarshal(response.Body(), &p); err != nil || len(p.Errors) != 1 {
			t.Errorf("%.60s: %s", body, response.Body())
			continue
		}
		if got := code(response) + " " + p.Errors[0].Pointer; got != want {
			t.Errorf("%.60s: got %s, want %s", body, got, want)
		}
	}
	for path, body := range map[string]string{
		"/v1/sessions": `{"user":"ann","user":"bob"}`, "/v1/items/7/orders": `{"quantity":1,"quantity":1}`,
		"/v1/orders/1/payments": `{"method":"points","method":"alipay"}`, "/v1/orders/1/refunds": `{"reason":"a","reason":"b"}`,
	} {
		if got := code(b.call("POST", path, body, as("ann")...)); got != "400 repeated_field" {
			t.Errorf("%s: %s", path, got)
		}
	}
}

// Protects every decoder of bodies: whatever comes, the answer is a problem or a value that
// encoding/json reads alike, and the walk and the decoder agree.
func FuzzMembers(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"name":"a","name":"b"}`, `{"items":[{"stock":1}]}`, `{"Items":[]}`, `[`, `{"items":[{"limit":null}]}`,
		`{"opens_at_ms":1e3}`, `{"na\u006de":"x"}`, "{\"\xff\":1}", `{"items":[[[]]]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if !json.Valid(body) {
			return
		}
		var sale saleJSON
		p := checkMembers(body, reflect.TypeFor[*saleJSON]())
		strict := json.NewDecoder(strings.NewReader(string(body)))
		strict.DisallowUnknownFields()
		err := strict.Decode(&sale)
		if p == nil && err != nil && strings.Contains(err.Error(), "unknown field") {
			t.Fatalf("%q: %v was let through", body, err)
		}
		if p != nil && p.status >= 500 {
			t.Fatalf("%q: %d", body, p.status)
		}
		_ = placeOf(body, int64(len(body)/2))
	})
}
