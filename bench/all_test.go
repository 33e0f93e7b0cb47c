package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"flashsale/bench/report"
)

// The whole measurement must run on this machine, find its counts true and leave a report behind,
// so that nobody learns on the day of a comparison that it does not. Each part has a test of its
// own beside it; this one plays the part that all promises rest on, from the flags to the files.
func TestAll_Quick(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var out, progress bytes.Buffer
	if code := run(t.Context(), []string{"all", "--quick", "--only", "ratios", "--out", dir}, &out, &progress); code != exitOK {
		t.Fatalf("exit code %d\n%s\n%s", code, out.String(), progress.String())
	}
	file, page := filepath.Join(dir, "report.json"), filepath.Join(dir, "report.html")
	for _, want := range []string{"RATIO", "not judged", "HTTP accepted / bare handler", "no item is oversold", "evalsha", file, page} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report does not say %q:\n%s", want, out.String())
		}
	}
	if text, err := os.ReadFile(page); err != nil || !bytes.Contains(text, []byte("no item is oversold")) || bytes.Contains(text, []byte("NaN")) {
		t.Errorf("the page: %v\n%s", err, text)
	}
	r, err := report.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Parts) != 2 || r.Parts[0].Name != "ratios" || r.Parts[1].Name != "appendix" || len(r.Parts[1].Tables) != 6 {
		t.Errorf("the parts: %+v", r.Parts)
	}
	for _, figure := range r.Parts[0].Figures {
		if len(figure.Sample) == 0 {
			t.Errorf("%s was not measured", figure.Name)
		}
	}
	out.Reset()
	if code := run(t.Context(), []string{"history", "--strict", file, file}, &out, &progress); code != exitOK || !strings.Contains(out.String(), " 0 worse") {
		t.Errorf("a report beside itself: exit code %d\n%s", code, out.String())
	}
}

// A suite that passes an engine without its limit check would prove nothing. What it found must
// be in the report, loudly, and the report must be there although the run has failed.
func TestAll_FindsThePlantedBug(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var out, progress bytes.Buffer
	args := []string{"all", "--quick", "--plant", "limit", "--only", "scenarios", "--out", dir}
	if code := run(t.Context(), args, &out, &progress); code != exitFailed {
		t.Fatalf("exit code %d\n%s\n%s", code, out.String(), progress.String())
	}
	if !strings.Contains(out.String(), "FAILED  duplicate: ") || !strings.Contains(progress.String(), "not true") {
		t.Errorf("got\n%s\n%s", out.String(), progress.String())
	}
	r, err := report.Read(filepath.Join(dir, "report.json"))
	if err != nil || r.OK() {
		t.Errorf("the report: %+v, %v", r, err)
	}
	if page, err := os.ReadFile(filepath.Join(dir, "report.html")); err != nil || !bytes.Contains(page, []byte("✗ Failed")) {
		t.Errorf("the page: %v\n%s", err, page)
	}
}
