package main

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"microrwkv/examples/internal/clitest"
)

// TestPage builds the folder and uses the page in a browser.
func TestPage(t *testing.T) {
	if testing.Short() {
		t.Skip("builds another program")
	}
	clitest.Program(t, "go")
	folder := t.TempDir()
	if err := build(folder, ""); err != nil {
		t.Fatal(err)
	}
	size := int64(0)
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil {
			t.Fatal(err)
		} else if e.Name() != "demo.pt" {
			size += info.Size()
		}
	}
	if _, err := os.Stat(filepath.Join(folder, "page.css")); err != nil {
		t.Error(err) // of the chat page
	}
	if size > 3_500_000 {
		t.Errorf("code and vocabularies have %d bytes, want at most 3.5 MB", size)
	}
	f, err := os.Open(filepath.Join(folder, "app.wasm.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if z, err := gzip.NewReader(f); err != nil {
		t.Error(err)
	} else if _, err := io.Copy(io.Discard, z); err != nil {
		t.Error(err)
	}

	node, chromium := clitest.Program(t, "node"), clitest.Program(t, "chromium")
	clitest.Clients(t, "chromium", "node_modules/playwright-core")
	var fetched atomic.Int32
	files := http.FileServer(http.Dir(folder))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/demo.pt" {
			fetched.Add(1)
		}
		files.ServeHTTP(w, r)
	}))
	defer s.Close()
	shots := os.Getenv("MICRORWKV_SCREENSHOTS")
	if shots == "" {
		shots = t.TempDir()
	}
	out, err := exec.CommandContext(t.Context(), node, "testdata/web.mjs", s.URL, chromium, shots, filepath.Join(folder, "demo.pt")).CombinedOutput()
	if err != nil || !strings.HasSuffix(string(out), "ok\n") {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
	if n := fetched.Load(); n != 1 {
		t.Errorf("the model was fetched %d times, want once: it is kept", n)
	}
}
