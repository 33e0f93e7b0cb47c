package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const apiPage = "../../docs/api.md"

// Protects docs/api.md from going stale: its table of codes is the table of the server, status
// by status and code by code.
func TestDocs_ProblemCodes(t *testing.T) {
	t.Parallel()
	known := make(map[string]bool)
	for _, call := range callsIn(t, "../../server/respond.go", "refusal", "later") {
		known[call[1]+" "+call[2]] = true
	}
	told := make(map[string]bool)
	for _, row := range regexp.MustCompile("(?m)^\\| (\\d{3}) \\| `([a-z_]+)` \\|").FindAllStringSubmatch(readPage(t), -1) {
		told[row[1]+" "+row[2]] = true
	}
	compare(t, "problem", known, told)
	for problem := range known { // where its type leads
		if _, code, _ := strings.Cut(problem, " "); strings.Count(readPage(t), `<a id="`+code+`"></a>`) != 1 {
			t.Errorf("%s has no anchor of its own for %s", apiPage, code)
		}
	}
}

// Protects it from naming calls that do not exist, and from leaving one out.
func TestDocs_Calls(t *testing.T) {
	t.Parallel()
	known := make(map[string]bool)
	for _, call := range callsIn(t, "../../server/routes.go", "handle") {
		known[call[1]+" "+call[2]] = true
	}
	for _, call := range callsIn(t, "../../server/ops.go", "admin", "open") {
		known[call[1]+" "+call[2]] = true
	}
	for _, call := range callsIn(t, "../../server/ops.go", "route") { // of every ops listener
		known[call[1]+" "+strings.ReplaceAll(call[2], ":*}", "}")] = true
	}
	told := make(map[string]bool)
	for _, heading := range regexp.MustCompile("(?m)^### `([A-Z]+ /[^`]*)`$").FindAllStringSubmatch(readPage(t), -1) {
		told[heading[1]] = true
	}
	compare(t, "call", known, told)
}

// Protects its links: a heading that is renamed takes the table of contents along.
func TestDocs_Links(t *testing.T) {
	t.Parallel()
	page := readPage(t)
	anchors := make(map[string]bool)
	for _, heading := range regexp.MustCompile(`(?m)^##+ (.+)$`).FindAllStringSubmatch(page, -1) {
		anchors[strings.ReplaceAll(strings.ToLower(heading[1]), " ", "-")] = true
	}
	for _, link := range regexp.MustCompile(`\]\(#([^)]*)\)`).FindAllStringSubmatch(page, -1) {
		if !anchors[link[1]] {
			t.Errorf("%s: no heading for #%s", apiPage, link[1])
		}
	}
}

func readPage(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile(apiPage)
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
}

// callsIn returns every call of the functions or methods in a file: the name, then the literal
// arguments. Calls without any are left out.
func callsIn(t *testing.T, file string, names ...string) [][]string {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var calls [][]string
	ast.Inspect(parsed, func(node ast.Node) bool {
		call, ok := node.(*ast.CallExpr)
		if !ok {
			return true
		}
		name := ""
		switch function := call.Fun.(type) {
		case *ast.Ident:
			name = function.Name
		case *ast.SelectorExpr:
			name = function.Sel.Name
		}
		if literals := literalsOf(call.Args); slices.Contains(names, name) && len(literals) > 0 {
			calls = append(calls, append([]string{name}, literals...))
		}
		return true
	})
	if len(calls) == 0 {
		t.Fatalf("%s holds no call of %v: this test reads it wrongly", file, names)
	}
	return calls
}

func literalsOf(args []ast.Expr) []string {
	var texts []string
	for _, arg := range args {
		if literal, ok := arg.(*ast.BasicLit); ok {
			text, err := strconv.Unquote(literal.Value)
			if err != nil {
				text = literal.Value // a number
			}
			texts = append(texts, text)
		}
	}
	return texts
}

func compare(t *testing.T, what string, known, told map[string]bool) {
	t.Helper()
	for name := range known {
		if !told[name] {
			t.Errorf("%s leaves out the %s %s", apiPage, what, name)
		}
	}
	for name := range told {
		if !known[name] {
			t.Errorf("%s has the %s %s, which the server does not know", apiPage, what, name)
		}
	}
	if len(known) < 10 {
		t.Errorf("only %d %ss found: this test reads the server wrongly", len(known), what)
	}
}
