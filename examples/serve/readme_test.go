package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"microrwkv/examples/internal/clitest"
	"microrwkv/examples/internal/server"
)

// What the README's section says to run runs, and prints what it says.
func TestReadme(t *testing.T) {
	b, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(b), "\n## Serve\n")
	section, _, _ = strings.Cut(section, "\n## ")
	_, url := start(t, nil)
	run := func(name string, args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		return string(out)
	}
	here := func(code string) string { return strings.ReplaceAll(code, "http://127.0.0.1:8080", url) }
	blocks := func(kind string) [][]string {
		return regexp.MustCompile("(?s)```"+kind+"\n(.*?)```").FindAllStringSubmatch(section, -1)
	}
	t.Run("curl", func(t *testing.T) {
		clitest.Program(t, "curl")
		shell := clitest.Program(t, "sh")
		var out []string
		for _, m := range blocks("sh") {
			out = append(out, run(shell, "-c", here(m[1])))
		}
		if len(out) != 2 || !strings.Contains(out[1], "data: [DONE]") {
			t.Fatalf("%q", out)
		}
		_, want, _ := strings.Cut(section, `"text":"`)
		if want, _, _ = strings.Cut(want, `"`); !strings.Contains(out[0], want) || want == "" {
			t.Errorf("%s, want %q", out[0], want)
		}
	})
	t.Run("python", func(t *testing.T) {
		python := clitest.Clients(t, "python", "py/bin/python")
		code := blocks("python")[0][1]
		file := filepath.Join(t.TempDir(), "readme.py")
		if err := os.WriteFile(file, []byte(here(code)), 0o600); err != nil {
			t.Fatal(err)
		}
		out := run(python, file)
		for line := range strings.Lines(out) {
			if !strings.Contains(section, "\n    "+line) {
				t.Errorf("the README doesn't have %q", line)
			}
		}
		if strings.Count(out, "\n") != 3 {
			t.Errorf("%q", out)
		}
	})
	// every endpoint and flag that it names is there
	fs := server.Flags()
	for _, m := range regexp.MustCompile("`--([a-z_]+)").FindAllStringSubmatch(section, -1) {
		switch m[1] {
		case "input", "shard", "out": // of other programs
		default:
			if fs.Lookup(m[1]) == nil {
				t.Errorf("no flag --%s", m[1])
			}
		}
	}
}
