package scenario

import (
	"cmp"
	"embed"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

//go:embed scripts/*.js
var scripts embed.FS

// Scene is one of the scripts with what suits it.
type Scene struct {
	Name  string
	About string

	stock   int64 // of the item
	rate    int   // iterations begun each second; 0: one shopper after the other
	users   int   // beside those who arrive at the rate
	crowded bool  // buys through k6/x/flash: k6's own client would be the limit
	presold bool  // by users of its own, before the crowd comes
	pays    bool  // needs a second item, with little time to pay, and users who have points
}

// plenty is a stock that no crowd of k6's can sell.
const plenty = 10_000_000

// Scenes are all there are, in the order in which they are played.
func Scenes() []Scene {
	return []Scene{
		{Name: "smoke", About: "one shopper after the other: look, buy, wait, try again", stock: plenty, users: 100},
		{Name: "steady", About: "distinct shoppers at a constant rate, enough for all", stock: plenty, rate: 500, crowded: true},
		{Name: "spike", About: "the crowd of the opening second; few win", stock: 200, rate: 1000, crowded: true},
		{Name: "soldout", About: "everything is sold; everybody learns it at once", stock: 50, rate: 1000, crowded: true, presold: true},
		{Name: "duplicate", About: "every shopper presses three times at once", stock: plenty, rate: 200},
		{Name: "retry", About: "every attempt is sent three times with one Idempotency-Key", stock: plenty, rate: 200},
		{
			Name: "lifecycle", About: "buy, watch by websocket, then pay and be refunded, cancel, or let the time run out",
			stock: plenty, users: 100, pays: true,
		},
		{Name: "mixed", About: "most look, some buy, a few press twice", stock: plenty, rate: 500},
	}
}

func find(name string) (Scene, bool) {
	scenes := Scenes()
	at := slices.IndexFunc(scenes, func(s Scene) bool { return s.Name == name })
	if at < 0 {
		return Scene{}, false
	}
	return scenes[at], true
}

// staged is the scene as a run plays it, with the users that it needs at most: the ramps of a
// spike, and what k6 begins at the last moment, make a few more than the rate says.
func (s Scene) staged(c Config) Scene {
	s.stock = cmp.Or(c.Stock, s.stock)
	if s.rate > 0 {
		s.rate = cmp.Or(c.Rate, s.rate)
		s.users += s.rate * (c.Seconds + 3)
	}
	if s.presold {
		s.users += int(s.stock)
	}
	return s
}

// client is what the scene buys through.
func (s Scene) client(c Config) string {
	if c.Client == "" && s.crowded {
		return ClientFlash
	}
	return cmp.Or(c.Client, ClientHTTP)
}

// Eject writes the scripts into a folder, for whoever wants to change them.
func Eject(dir string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	files, err := fs.Glob(scripts, "scripts/*.js")
	if err != nil {
		return err
	}
	for _, name := range files {
		text, err := scripts.ReadFile(name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(name)), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}
