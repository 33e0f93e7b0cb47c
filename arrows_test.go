package flashsale_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "flashsale"

// arrow is what a room may import, and why no more.
type arrow struct {
	may []string
	why string
}

// arrows tells which of our rooms each room may import, besides the root package, which every
// room may use. Folders below a room belong to it. A room that is not listed may not exist: give
// it its arrows first.
//
// The direction is cmd → server, worker, pay, postgres → engine → lua → nothing of ours.
var arrows = map[string]arrow{
	".":                           {nil, "the domain imports nothing of ours, so that every room may use it"},
	"lua":                         {nil, "scripts know nothing of who runs them"},
	"engine":                      {[]string{"lua", "internal/redisurl"}, "engine is usable as a library by another service"},
	"docs":                        {nil, "docs holds pages"},
	"deploy":                      {nil, "deploy holds what installations start from"},
	"web":                         {nil, "pages know nothing of who serves them"},
	"server":                      {[]string{"engine", "lua", "docs", "web", "internal/redisurl"}, "server states what it needs as an interface, cmd joins"},
	"worker":                      {[]string{"engine", "lua", "internal/redisurl"}, "worker states what it needs as an interface, cmd joins"},
	"postgres":                    {[]string{"engine", "lua", "internal/pgschema"}, "the ledger knows nothing of who calls it"},
	"pay":                         {[]string{"engine", "lua", "pay/*"}, "pay knows its providers; the rest it states as an interface, cmd joins"},
	"pay/*":                       {[]string{"internal/pgschema"}, "a provider knows neither who coordinates it nor the other provider"},
	"internal/pgschema":           {nil, "pgschema creates what it is given"},
	"internal/redisurl":           {nil, "redisurl makes clients and knows nothing of what they are for"},
	"internal/devstack":           {nil, "devstack knows servers, not what runs on them"},
	"internal/devstack/stacktest": {[]string{"internal/devstack"}, "stacktest gives devstack to tests"},
	"cmd/*":                       {[]string{"*", "pay/*", "internal/devstack", "internal/redisurl"}, "cmd joins the rooms"},
	"bench":                       {nil, "bench starts the binary and talks to it as users do: its licence stays its own"},
}

// testsMay is what the tests of every room may import on top of that.
var testsMay = []string{"internal/devstack", "internal/devstack/stacktest"}

// homes tells where a library may be imported, so that its traps are known in one place.
// Tests look from outside and may use what the tests column says.
var homes = []struct {
	library string
	rooms   []string
	tests   []string
	why     string
}{
	{"github.com/redis/rueidis", []string{"engine", "internal/redisurl", "bench"}, []string{"*", "cmd/*"}, "the hot path is engine's"},
	{"github.com/redis/go-redis", []string{"worker", "server", "internal/redisurl", "cmd/*", "bench"}, []string{"*"}, "go-redis is for what blocks or subscribes"},
	{"github.com/go-redsync/redsync", []string{"worker"}, nil, "background jobs hold the locks"},
	{"github.com/jackc/pgx", []string{"postgres", "pay/points", "internal/pgschema", "bench"}, []string{"*", "cmd/*"}, "SQL lives in the ledgers"},
	{"github.com/smartwalle/alipay", []string{"pay/alipay"}, nil, "Alipay's protocol is spoken in one place"},
	{"flashsale/pay/alipay/sandbox", []string{"cmd/*"}, []string{"pay/alipay", "cmd/*"}, "a local Alipay is for the demo and for tests"},
	{"database/sql", []string{"postgres", "pay/points"}, nil, "SQL lives in the ledgers, on pgx"},
	{"github.com/valyala/fasthttp", []string{"server", "bench"}, []string{"server", "cmd/*"}, "HTTP is server's"},
	{"github.com/fasthttp", []string{"server", "bench"}, []string{"server", "cmd/*"}, "router and websocket are server's"},
	{"github.com/getkin/kin-openapi", nil, []string{"server"}, "documents are held against the server by its tests"},
	{"github.com/tdewolff/minify", []string{"web"}, nil, "pages are made smaller in one place"},
	{"github.com/alecthomas/kong", []string{"cmd/*"}, nil, "flags are read in cmd only"},
	{"testing", []string{"internal/devstack/stacktest"}, []string{".", "*", "*/*", "*/*/*"}, "no test code in the program"},
}

// It protects the architecture from an import that points the wrong way and from a library
// that moves into a second room. Files are read here and not by the go tool in another process,
// so that the test cache sees them.
func TestArrows(t *testing.T) {
	t.Parallel()
	used := map[string]bool{}
	for _, file := range goFiles(t) {
		room, allowed := roomOf(path.Dir(file))
		if room == "" {
			t.Errorf("%s: its room has no arrows: add them to the table", file)
			continue
		}
		used[room] = true
		isTest := strings.HasSuffix(file, "_test.go")
		for _, imported := range importsOf(t, file) {
			if target, ours := strings.CutPrefix(imported, module+"/"); ours {
				other, _ := roomOf(target)
				forTests := isTest && slices.Contains(testsMay, target)
				if other != room && !forTests && !matches(allowed.may, other) {
					t.Errorf("%s imports %s: %s", file, imported, allowed.why)
				}
			}
			for _, home := range homes {
				if imported != home.library && !strings.HasPrefix(imported, home.library+"/") {
					continue
				}
				rooms := home.rooms
				if isTest {
					rooms = slices.Concat(home.rooms, home.tests)
				}
				if !matches(rooms, room) {
					t.Errorf("%s imports %s: %s", file, imported, home.why)
				}
			}
		}
	}
	for _, room := range []string{".", "lua", "engine"} {
		if !used[room] {
			t.Errorf("no file of room %s was seen: the test looks in the wrong place", room)
		}
	}
}

// roomOf finds the room that a folder is or lies in, and its line of the table.
func roomOf(dir string) (string, arrow) {
	if dir == "." {
		return dir, arrows[dir]
	}
	for ; dir != "."; dir = path.Dir(dir) {
		for pattern, allowed := range arrows {
			if matches([]string{pattern}, dir) {
				return dir, allowed
			}
		}
	}
	return "", arrow{}
}

// matches reports whether a folder fits one of the patterns, in which * stands for one name.
func matches(patterns []string, dir string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		ok, err := path.Match(pattern, dir)
		return err == nil && ok
	})
}

// goFiles are the Go files of this module. A folder with a go.mod of its own is another module.
func goFiles(t *testing.T) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !entry.IsDir() {
			if path.Ext(name) == ".go" {
				files = append(files, filepath.ToSlash(name))
			}
			return nil
		}
		if name == "." {
			return nil
		}
		if strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata" {
			return fs.SkipDir
		}
		if _, err := os.Stat(filepath.Join(name, "go.mod")); err == nil {
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func importsOf(t *testing.T, file string) []string {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	var imports []string
	for _, spec := range parsed.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		imports = append(imports, imported)
	}
	return imports
}
