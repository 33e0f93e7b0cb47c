package server

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/valyala/fasthttp"
)

var update = flag.Bool("update", false, "write docs/openapi.json anew")

const (
	specYAML = "../docs/openapi.yaml"
	specJSON = "../docs/openapi.json"
)

// problemMembers tell one kind of refusal from another.
var problemMembers = regexp.MustCompile(`"code":"[a-z_]+"|"[a-z_]+":`)

// spec is the document, and what finds the operation of a request in it.
type spec struct {
	doc    *openapi3.T
	router routers.Router
	seen   *sync.Map
}

var theSpec = sync.OnceValue(func() spec {
	doc, err := openapi3.NewLoader().LoadFromFile(specYAML)
	if err == nil {
		err = doc.Validate(context.Background())
	}
	if err != nil {
		panic(fmt.Sprintf("%s: %v", specYAML, err))
	}
	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		panic(fmt.Sprintf("%s: %v", specYAML, err))
	}
	return spec{doc, router, new(sync.Map)}
})

// conforms holds an answer, and the request if it was accepted, against the document. Addresses that
// it does not know must be refused, or belong to what operators' tools read.
func (s spec) conforms(request *fasthttp.Request, response *fasthttp.Response) error {
	exchange := fmt.Sprintf("%s %s %d %s", request.Header.Method(), request.RequestURI(), response.StatusCode(), request.Body())
	if response.StatusCode() >= 400 { // a refusal says nothing of the body that was refused
		members := problemMembers.FindAll(response.Body(), -1)
		exchange = fmt.Sprintf("%s %d %q", request.Header.Method(), response.StatusCode(), members)
	}
	if _, again := s.seen.LoadOrStore(exchange, true); again {
		return nil // a crowd asks alike
	}
	return s.check(request, response)
}

func (s spec) check(request *fasthttp.Request, response *fasthttp.Response) error {
	method, status := string(request.Header.Method()), response.StatusCode()
	if method == fasthttp.MethodHead {
		method = fasthttp.MethodGet
	}
	asked, err := http.NewRequestWithContext(context.Background(), method, string(request.RequestURI()), bytes.NewReader(request.Body()))
	if err != nil || method == fasthttp.MethodOptions {
		return nil //nolint:nilerr // no client of net/http sends it
	}
	for key, value := range request.Header.All() {
		asked.Header.Add(string(key), string(value))
	}
	route, params, err := s.router.FindRoute(asked)
	if err != nil {
		if other := regexp.MustCompile(`^/(docs/operations\.md|healthz|readyz|metrics|debug/pprof/.*|a/.*|items/\w+|orders(/\w+)?)?$`); status < 400 && !other.MatchString(asked.URL.Path) {
			return fmt.Errorf("is answered %d, but not in the document", status)
		}
		return nil
	}
	options := &openapi3filter.Options{
		AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true, MultiError: true,
		ExcludeResponseBody: request.Header.IsHead(),
	}
	input := &openapi3filter.RequestValidationInput{Request: asked, PathParams: params, Route: route, Options: options}
	if status < 400 {
		if err := openapi3filter.ValidateRequest(context.Background(), input); err != nil {
			return fmt.Errorf("was accepted, but is not what the document takes: %w", err)
		}
	}
	header := http.Header{}
	for key, value := range response.Header.All() {
		header.Add(string(key), string(value))
	}
	return openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input, Status: status, Header: header,
		Body: io.NopCloser(bytes.NewReader(response.Body())), Options: options,
	})
}

// Protects the document from leaving out a call or a code, or naming one that is gone.
func TestOpenAPI_Complete(t *testing.T) {
	t.Parallel()
	var known []string
	for file, pattern := range map[string]string{
		"routes.go": `handle\("([A-Z]+)", "([^"]+)"`, "ops.go": `(?:admin|open)\("([A-Z]+)", "([^"]+)"`,
	} {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, call := range regexp.MustCompile(pattern).FindAllStringSubmatch(string(source), -1) {
			known = append(known, call[1]+" "+call[2])
		}
	}
	var told []string
	for path, item := range theSpec().doc.Paths.Map() {
		for method := range item.Operations() {
			told = append(told, method+" "+path)
		}
	}
	same(t, "call", known, told)

	var codes []string
	for _, code := range theSpec().doc.Components.Schemas["Code"].Value.Enum {
		codes = append(codes, code.(string))
	}
	source, err := os.ReadFile("respond.go")
	if err != nil {
		t.Fatal(err)
	}
	known = nil
	for _, code := range regexp.MustCompile(`(?:refusal|later)\(\d+, "([a-z_]+)"`).FindAllStringSubmatch(string(source), -1) {
		if !slices.Contains(known, code[1]) {
			known = append(known, code[1])
		}
	}
	same(t, "code", known, codes)
}

func same(t *testing.T, what string, known, told []string) {
	t.Helper()
	for _, name := range known {
		if !slices.Contains(told, name) {
			t.Errorf("%s leaves out the %s %s", specYAML, what, name)
		}
	}
	for _, name := range told {
		if !slices.Contains(known, name) {
			t.Errorf("%s has the %s %s, which the server does not know", specYAML, what, name)
		}
	}
	if len(known) < 20 {
		t.Errorf("only %d %ss found: this test reads the server wrongly", len(known), what)
	}
}

// Protects what the server hands out from being another document than the one that people edit.
func TestOpenAPI_JSON(t *testing.T) {
	t.Parallel()
	want, err := json.MarshalIndent(theSpec().doc, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(filepath.Clean(specJSON), append(want, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	response := setup(t, nil).call("GET", "/v1/openapi.json", "")
	if got := bytes.TrimSpace(response.Body()); !bytes.Equal(got, want) && !*update {
		t.Errorf("%s is not %s: go test ./server -run TestOpenAPI_JSON -update", specJSON, specYAML)
	}
	if !strings.HasPrefix(theSpec().doc.OpenAPI, "3.1.") {
		t.Errorf("openapi: %s", theSpec().doc.OpenAPI)
	}
}

// Protects this whole suite from holding answers against a document that takes anything.
func TestOpenAPI_Refuses(t *testing.T) {
	t.Parallel()
	var request fasthttp.Request
	request.Header.SetMethod("GET")
	request.SetRequestURI("/v1/items/7")
	for body, good := range map[string]bool{
		`{"id":"7","sale_id":"1","product":"p","price_fen":1,"points_price":0,"limit":1,"opens_at_ms":1,"closes_at_ms":2,"state":"open","server_time_ms":1}`:   true,
		`{"id":7,"sale_id":"1","product":"p","price_fen":1,"points_price":0,"limit":1,"opens_at_ms":1,"closes_at_ms":2,"state":"open","server_time_ms":1}`:     false,
		`{"id":"7","sale_id":"1","product":"p","price_fen":1,"points_price":0,"limit":1,"opens_at_ms":1,"closes_at_ms":2,"state":"closed","server_time_ms":1}`: false,
		`{"id":"7"}`: false,
	} {
		var response fasthttp.Response
		response.Header.SetContentType(typeJSON)
		response.Header.Set("X-Request-Id", "1")
		response.SetBodyString(body)
		if err := theSpec().check(&request, &response); (err == nil) != good {
			t.Errorf("%s: %v", body, err)
		}
	}
	var response fasthttp.Response
	response.SetStatusCode(404)
	response.Header.SetContentType(typeProblem)
	response.Header.Set("X-Request-Id", "1")
	response.SetBodyString(`{"type":"/docs/api.md#gone","status":404,"code":"gone","title":"t","instance":"urn:flashsale:request:1"}`)
	if theSpec().check(&request, &response) == nil {
		t.Error("a code that nobody knows passes")
	}
}
