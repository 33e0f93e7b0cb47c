package lua_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"flashsale/lua"
)

// scripts are the embedded texts by file name, and where each runs on a real Redis.
var scripts = map[string]struct{ embedded, goName, test string }{
	"ack.lua":            {lua.Ack, "Ack", "../worker/script_test.go"},
	"aside.lua":          {lua.Aside, "Aside", "../engine/script_test.go"},
	"dead_letter.lua":    {lua.DeadLetter, "DeadLetter", "../worker/script_test.go"},
	"dead_retry.lua":     {lua.DeadRetry, "DeadRetry", "../worker/script_test.go"},
	"fence.lua":          {lua.Fence, "Fence", "../engine/script_test.go"},
	"fence_lift.lua":     {lua.FenceLift, "FenceLift", "../engine/script_test.go"},
	"rebuild_buyers.lua": {lua.RebuildBuyers, "RebuildBuyers", "../engine/script_test.go"},
	"rebuild_open.lua":   {lua.RebuildOpen, "RebuildOpen", "../engine/script_test.go"},
	"preheat.lua":        {lua.Preheat, "Preheat", "../engine/script_test.go"},
	"release.lua":        {lua.Release, "Release", "../engine/script_test.go"},
	"run.lua":            {lua.Run, "Run", "../engine/script_test.go"},
	"remove.lua":         {lua.Remove, "Remove", "../engine/script_test.go"},
	"reserve.lua":        {lua.Reserve, "Reserve", "../engine/script_test.go"},
	"restock.lua":        {lua.Restock, "Restock", "../engine/script_test.go"},
	"set_state.lua":      {lua.SetState, "SetState", "../engine/script_test.go"},
}

// TestScripts_AllListed protects against a script that nobody embeds or runs: a syntax error
// in it would show only in production. (Museum bug 2.)
func TestScripts_AllListed(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.lua")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if _, ok := scripts[file]; !ok {
			t.Errorf("%s is not in the list of this test", file)
		}
	}
	for file, script := range scripts {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if string(text) != script.embedded {
			t.Errorf("lua.%s does not embed %s", script.goName, file)
		}
		test, err := os.ReadFile(script.test)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(test), "func Test"+script.goName+"_Table(") {
			t.Errorf("%s has no table test of lua.%s", script.test, script.goName)
		}
	}
}

// TestScripts_Contract keeps each script's header true: operators and the callers in Go read
// it instead of the code.
func TestScripts_Contract(t *testing.T) {
	t.Parallel()
	for file, script := range scripts {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			header, body := split(t, script.embedded)
			name := strings.TrimSuffix(file, ".lua")
			if first, _, _ := strings.Cut(header, "\n"); first != "#!lua" && first != "#!lua flags=allow-oom" {
				t.Errorf("first line is %q, not a shebang of ours", first)
			}
			if !strings.Contains(header, "\n-- "+name+": ") {
				t.Errorf("the header does not start with %q", name+": ")
			}
			for _, section := range []string{"Returns {status", "Side effects", "Cost:"} {
				if !strings.Contains(header, section) {
					t.Errorf("the header has no %q", section)
				}
			}
			checkBindings(t, header, body)
			for _, banned := range []string{"'KEYS'", "nil,", "return nil", "error_reply", "math.random", "cjson"} {
				if strings.Contains(body, banned) {
					t.Errorf("the body contains %s", banned)
				}
			}
			if n := strings.Count(body, "'TIME'"); n > 1 {
				t.Errorf("TIME is called in %d places", n)
			}
			if hasTime := strings.Contains(body, "'TIME'"); hasTime != strings.Contains(header, "reads TIME once") {
				t.Error("the header does not tell whether TIME is read")
			}
		})
	}
}

// TestScripts_Statuses keeps the numbers of the replies the same in Lua and Go: a shape or a
// number taken for another turned sold out into a fault elsewhere. (Museum bug 13.)
func TestScripts_Statuses(t *testing.T) {
	t.Parallel()
	constants := goConstants(t)
	inLua := 0
	for file, script := range scripts {
		header, body := split(t, script.embedded)
		match := regexp.MustCompile(`(?m)^local ([A-Z_, ]+) = ([0-9, ]+)$`).FindStringSubmatch(body)
		if match == nil {
			t.Errorf("%s: no line that names the statuses", file)
			continue
		}
		names, numbers := strings.Split(match[1], ", "), strings.Split(match[2], ", ")
		if len(names) != len(numbers) {
			t.Fatalf("%s: %d names for %d statuses", file, len(names), len(numbers))
		}
		for n, name := range names {
			inLua++
			constant := script.goName + camel(name)
			if got, ok := constants[constant]; !ok || got != numbers[n] {
				t.Errorf("%s: %s is %s, but lua.%s is %q", file, name, numbers[n], constant, got)
			}
			if !strings.Contains(header, name) {
				t.Errorf("%s: the header does not explain %s", file, name)
			}
		}
	}
	inGo := 0
	for name := range constants {
		if !strings.HasPrefix(name, "Letter") {
			inGo++
		}
	}
	if inGo != inLua {
		t.Errorf("%d statuses in status.go, %d in the scripts", inGo, inLua)
	}
}

// TestReserve_Letters keeps the outcome letters the same in Lua and Go.
func TestReserve_Letters(t *testing.T) {
	t.Parallel()
	header, body := split(t, lua.Reserve)
	letters := 0
	for name, value := range goConstants(t) {
		outcome, ok := strings.CutPrefix(name, "Letter")
		if !ok {
			continue
		}
		letters++
		letter := strings.Trim(value, "'")
		if want := letter + " " + snake(outcome); !strings.Contains(header, want) {
			t.Errorf("the header does not say %q", want)
		}
		if !strings.Contains(body, "= '"+letter+"'") {
			t.Errorf("no branch answers %s (%s)", letter, outcome)
		}
	}
	inLua := regexp.MustCompile(`= '[A-Z]'`).FindAllString(body, -1)
	slices.Sort(inLua)
	if inLua := len(slices.Compact(inLua)); inLua != letters {
		t.Errorf("%d letters in status.go, %d in reserve.lua", letters, inLua)
	}
}

// split cuts a script into its header comment and its body.
func split(t *testing.T, text string) (header, body string) {
	t.Helper()
	header, body, ok := strings.Cut(text, "\n\n")
	if !ok {
		t.Fatal("no empty line after the header")
	}
	return header, body
}

var indexed = regexp.MustCompile(`\b(KEYS|ARGV)\[([^\]]+)\]`)

// checkBindings wants every fixed index bound by name at the top and explained in the header;
// further down only loops may use it, over ARGV, and over KEYS where the header lists items.
func checkBindings(t *testing.T, header, body string) {
	t.Helper()
	bound := map[string]int{}
	top := true
	for _, line := range strings.Split(body, "\n") {
		if line == "" || strings.HasPrefix(line, "--") {
			continue
		}
		top = top && strings.HasPrefix(line, "local ") && !strings.HasPrefix(line, "local function") &&
			!strings.Contains(line, "redis.call")
		for _, use := range indexed.FindAllStringSubmatch(line, -1) {
			n, err := strconv.Atoi(use[2])
			switch {
			case err == nil && top:
				bound[use[1]] = max(bound[use[1]], n)
			case err == nil || use[1] == "KEYS" && !strings.Contains(header, "+]  items"):
				t.Errorf("%s is used below the bindings: %s", use[0], strings.TrimSpace(line))
			}
		}
	}
	for _, kind := range []string{"KEYS", "ARGV"} {
		for n := 1; n <= bound[kind]; n++ {
			if !regexp.MustCompile(fmt.Sprintf(`(?m)^-- %s\[%d\+?\]  +\S`, kind, n)).MatchString(header) {
				t.Errorf("the header does not name %s[%d]", kind, n)
			}
		}
		if strings.Contains(header, fmt.Sprintf("-- %s[%d]", kind, bound[kind]+1)) {
			t.Errorf("the header names %s[%d], which nothing binds", kind, bound[kind]+1)
		}
	}
	if bound["KEYS"] == 0 {
		t.Error("no key is bound")
	}
}

// goConstants reads status.go.
func goConstants(t *testing.T) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "status.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	constants := map[string]string{}
	for _, decl := range file.Decls {
		for _, spec := range decl.(*ast.GenDecl).Specs {
			value := spec.(*ast.ValueSpec)
			constants[value.Names[0].Name] = value.Values[0].(*ast.BasicLit).Value
		}
	}
	return constants
}

// camel turns NOT_READY into NotReady.
func camel(name string) string {
	words := strings.Split(name, "_")
	for n, word := range words {
		words[n] = word[:1] + strings.ToLower(word[1:])
	}
	return strings.Join(words, "")
}

// snake turns SoldOut into sold_out.
func snake(name string) string {
	words := regexp.MustCompile(`[A-Z][a-z]*`).FindAllString(name, -1)
	for n := range words {
		words[n] = strings.ToLower(words[n])
	}
	return strings.Join(words, "_")
}
