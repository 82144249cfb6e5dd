package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// need skips a test without one of its programs or packages, and fails it if the variable
// MICRORWKV_REQUIRE_TOOLS lists that, so that no run passes over it in silence.
func need(t *testing.T, name string, err error) {
	t.Helper()
	if err == nil {
		return
	}
	if slices.Contains(strings.Split(os.Getenv("MICRORWKV_REQUIRE_TOOLS"), ","), name) {
		t.Fatalf("MICRORWKV_REQUIRE_TOOLS: %s: %v", name, err)
	}
	t.Skipf("NOT TESTED: %s: %v", name, err)
}

// program returns the path of a program.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	need(t, name, err)
	return path
}

// clients returns a path in the folder that the variable MICRORWKV_CLIENTS names, where the packages of
// testdata/requirements.txt are in the virtual environment py, and those of testdata/package.json in
// node_modules.
func clients(t *testing.T, name, path string) string {
	t.Helper()
	path = filepath.Join(os.Getenv("MICRORWKV_CLIENTS"), path)
	_, err := os.Stat(path)
	need(t, name, err)
	return path
}

// ok runs a program that must print ok.
func ok(t *testing.T, name string, args ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil || !strings.HasSuffix(string(out), "ok\n") {
		t.Errorf("%s: %v\n%s", filepath.Base(args[0]), err, out)
	}
}

func TestPython(t *testing.T) {
	python := clients(t, "python", "py/bin/python")
	_, url := start(t, []string{"MICRORWKV_API_KEY=key-of-test"}, "--per_key", "16")
	ok(t, python, "testdata/clients.py", url, "key-of-test", "demo")
}

func TestNode(t *testing.T) {
	node := program(t, "node")
	clients(t, "node", "node_modules/openai")
	_, url := start(t, []string{"MICRORWKV_API_KEY=key-of-test"})
	ok(t, node, "testdata/clients.mjs", url, "key-of-test", "demo")
}

// The page, in a browser. Screenshots go to the folder that the variable MICRORWKV_SCREENSHOTS names.
func TestBrowser(t *testing.T) {
	node, chromium := program(t, "node"), program(t, "chromium")
	clients(t, "chromium", "node_modules/playwright-core")
	_, url := start(t, nil)
	folder := os.Getenv("MICRORWKV_SCREENSHOTS")
	if folder == "" {
		folder = t.TempDir()
	}
	ok(t, node, "testdata/page.mjs", url, chromium, folder)
}

func TestCurl(t *testing.T) {
	curl := program(t, "curl")
	_, url := start(t, nil)
	out, err := exec.Command(curl, "-sS", "-N", url+"/v1/chat/completions", "-H", "Content-Type: application/json",
		"-d", `{"messages":[{"role":"user","content":"One day"}],"max_tokens":5,"stream":true}`).CombinedOutput()
	if err != nil || !strings.Contains(string(out), `"content":`) || !strings.HasSuffix(string(out), "data: [DONE]\n\n") {
		t.Errorf("%v\n%s", err, out)
	}
}
