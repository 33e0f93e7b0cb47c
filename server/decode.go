package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"unicode/utf8"

	"github.com/valyala/fasthttp"

	"flashsale"
)

// echoMax bounds how much of a client's own text an answer repeats.
const echoMax = 64

// jsonBody returns the body, which must say that it is JSON unless it is empty.
func jsonBody(ctx *fasthttp.RequestCtx) ([]byte, *problem) {
	body := ctx.Request.Body()
	if len(body) == 0 {
		return nil, nil
	}
	media, _, _ := bytes.Cut(ctx.Request.Header.ContentType(), []byte{';'})
	if !bytes.EqualFold(bytes.TrimSpace(media), []byte(typeJSON)) {
		return nil, problemMediaType
	}
	return body, nil
}

// decodeQuantity reads the optional body {"quantity":n} of an order. What it does not
// recognize at once goes to the slow path, which only finds out what to answer.
func decodeQuantity(body []byte) (int, *problem) {
	if len(body) == 0 {
		return 1, nil
	}
	rest, ok := token(body, `{`)
	rest, ok = tokenIf(ok, rest, `"quantity"`)
	rest, ok = tokenIf(ok, rest, `:`)
	rest = trimSpace(rest)
	quantity, digits := 0, 0
	for digits < len(rest) && digits < 9 && rest[digits] >= '0' && rest[digits] <= '9' {
		quantity = quantity*10 + int(rest[digits]-'0')
		digits++
	}
	ok = ok && digits > 0 && rest[0] != '0' && quantity <= flashsale.LimitMax
	rest, ok = tokenIf(ok, rest[digits:], `}`)
	if !ok || len(trimSpace(rest)) > 0 {
		return decodeOddQuantity(body)
	}
	return quantity, nil
}

func decodeOddQuantity(body []byte) (int, *problem) {
	if !utf8.Valid(body) || !json.Valid(body) {
		return 0, problemMalformedJSON
	}
	if rest := trimSpace(body); rest[0] != '{' {
		return 0, problemBody
	}
	var request struct {
		Quantity json.RawMessage `json:"quantity"`
	}
	if p := checkMembers(body, reflect.TypeOf(request)); p != nil {
		return 0, p
	}
	if json.Unmarshal(body, &request) == nil && request.Quantity == nil {
		return 1, nil
	}
	return 0, problemQuantity // not a number in range
}

// token takes one token off the front, if it is there.
func token(text []byte, want string) ([]byte, bool) {
	text = trimSpace(text)
	if len(text) < len(want) || string(text[:len(want)]) != want {
		return text, false
	}
	return text[len(want):], true
}

func tokenIf(ok bool, text []byte, want string) ([]byte, bool) {
	if !ok {
		return text, false
	}
	return token(text, want)
}

// trimSpace trims what JSON calls white space off the front.
func trimSpace(text []byte) []byte {
	for len(text) > 0 && (text[0] == ' ' || text[0] == '\t' || text[0] == '\n' || text[0] == '\r') {
		text = text[1:]
	}
	return text
}

// decodeStrict reads a body that must be one JSON object with known members only.
func decodeStrict(ctx *fasthttp.RequestCtx, into any) *problem {
	body, p := jsonBody(ctx)
	if p != nil {
		return p
	}
	if !utf8.Valid(body) || !json.Valid(body) {
		return problemMalformedJSON
	}
	if rest := trimSpace(body); rest[0] != '{' {
		return problemBody
	}
	if p := checkMembers(body, reflect.TypeOf(into)); p != nil {
		return p
	}
	err := json.Unmarshal(body, into)
	var wrongType *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &wrongType):
		return problemInvalidField.at(wrongType.Field, placeOf(body, wrongType.Offset), "must not be "+wrongType.Value)
	}
	return problemInvalidField // of a type that reads its own text, such as an id
}

// idempotencyKey reads the header, in the quoted form of the IETF draft or bare. The copy
// outlives the handler.
func idempotencyKey(header *fasthttp.RequestHeader) (string, *problem) {
	given := header.PeekAll("Idempotency-Key")
	if len(given) == 0 {
		return "", nil
	}
	raw := given[0]
	if len(raw) >= 2 && raw[0] == '"' && raw[len(raw)-1] == '"' {
		raw = raw[1 : len(raw)-1]
	}
	if len(given) > 1 || len(raw) > flashsale.IdempotencyKeyLenMax {
		return "", problemIdempotencyKey
	}
	key := string(raw)
	if !flashsale.ValidIdempotencyKey(key) {
		return "", problemIdempotencyKey
	}
	return key, nil
}

// shorten bounds a client's text that is sent back, in bytes, and cuts no character in two.
func shorten(text string) string {
	if len(text) <= echoMax {
		return text
	}
	n := echoMax
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}
