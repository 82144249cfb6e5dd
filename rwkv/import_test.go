package rwkv

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// run runs a command in a folder, for this machine or as env says, and returns what it prints.
func run(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("NOT TESTED: there is no go tool here: ", err)
	}
	c := exec.Command(name, args...)
	c.Dir = dir
	c.Env = append(append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off"), env...)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, stderr.String())
	}
	return string(out)
}

// A program that opens a model carries neither the demo, nor a vocabulary, nor net/http.
func TestImportIsCheap(t *testing.T) {
	env := []string{"GOOS=linux", "GOARCH=amd64"}
	deps := strings.Fields(run(t, ".", env, "go", "list", "-deps", "microrwkv/rwkv"))
	for _, heavy := range []string{"net", "net/http", "crypto/tls", "github.com/pkoukk/tiktoken-go", "microrwkv/rwkv/demo", "microrwkv/tokenizer/gpt2", "microrwkv/tokenizer/world"} {
		if slices.Contains(deps, heavy) {
			t.Errorf("the package imports %s", heavy)
		}
	}
	out := filepath.Join(t.TempDir(), "open")
	run(t, ".", env, "go", "build", "-o", out, "./testdata/open")
	info, err := os.Stat(out)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%.2f MB", float64(info.Size())/1e6)
	if info.Size() > 7e6 {
		t.Errorf("a program that opens a model has %d bytes, want at most 7,000,000", info.Size())
	}
}

// The README's way to import the module from a program outside of it, which opens a model then.
func TestImportFromOutside(t *testing.T) {
	if testing.Short() {
		t.Skip("resolves modules")
	}
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	const edit = "go mod edit -require microrwkv@v0.0.0 -replace microrwkv=../microrwkv"
	if !strings.Contains(string(readme), edit+"\n") {
		t.Fatalf("the README doesn't have %q", edit)
	}
	dir := t.TempDir()
	program, err := os.ReadFile("testdata/open/main.go")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "main.go"), program, 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, dir, nil, "go", "mod", "init", "example.com/program")
	args := strings.Fields(strings.ReplaceAll(edit, "../microrwkv", root))
	run(t, dir, nil, args[0], args[1:]...)
	run(t, dir, nil, "go", "mod", "tidy")
	const file = "demo/tinystories-reference.pt"
	m, err := Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if got, want := run(t, dir, nil, "go", "run", ".", filepath.Join(root, "rwkv", file)), fmt.Sprintln(m.Config()); got != want {
		t.Errorf("the program prints %q, want %q", got, want)
	}
}
