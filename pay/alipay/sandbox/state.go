package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// state is what a state file holds.
type state struct {
	Keys       storedKeys        `json:"keys"`
	Trades     map[string]*Trade `json:"trades"`
	Deliveries []*delivery       `json:"deliveries"`
}

func loadState(path string) (state, error) {
	stored := state{Trades: make(map[string]*Trade)}
	if path == "" {
		return stored, nil
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return stored, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &stored)
	}
	if err != nil {
		return state{}, fmt.Errorf("sandbox: read state file: %w", err)
	}
	if stored.Trades == nil {
		stored.Trades = make(map[string]*Trade)
	}
	return stored, nil
}

// save replaces the file in one step, so that a crash leaves the old one or the new one. It
// expects s.mu to be held.
func (s *Sandbox) save() error {
	if s.config.StateFile == "" {
		return nil
	}
	text, err := json.Marshal(state{Keys: s.keys.stored(), Trades: s.trades, Deliveries: s.deliveries})
	if err != nil {
		return fmt.Errorf("sandbox: encode state: %w", err)
	}
	file, err := os.CreateTemp(filepath.Dir(s.config.StateFile), ".alipay-*") // readable by us alone
	if err != nil {
		return fmt.Errorf("sandbox: write state file: %w", err)
	}
	_, err = file.Write(text)
	err = errors.Join(err, file.Close())
	if err == nil {
		err = os.Rename(file.Name(), s.config.StateFile)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("sandbox: write state file: %w", err), os.Remove(file.Name()))
	}
	return nil
}
