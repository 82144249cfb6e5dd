package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"microrwkv/examples/internal/clitest"
	"microrwkv/examples/internal/server"
)

// ok runs a program that must print ok.
func ok(t *testing.T, name string, args ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil || !strings.HasSuffix(string(out), "ok\n") {
		t.Errorf("%s: %v\n%s", filepath.Base(args[0]), err, out)
	}
}

func TestPython(t *testing.T) {
	python := clitest.Clients(t, "python", "py/bin/python")
	_, url := start(t, []string{"MICRORWKV_API_KEY=key-of-test"}, "--per_key", "16")
	ok(t, python, "testdata/clients.py", url, "key-of-test", "demo")
}

func TestNode(t *testing.T) {
	node := clitest.Program(t, "node")
	clitest.Clients(t, "node", "node_modules/openai")
	_, url := start(t, []string{"MICRORWKV_API_KEY=key-of-test"})
	ok(t, node, "testdata/clients.mjs", url, "key-of-test", "demo")
}

// The page, in a browser. Screenshots go to the folder that the variable MICRORWKV_SCREENSHOTS names.
func TestBrowser(t *testing.T) {
	node, chromium := clitest.Program(t, "node"), clitest.Program(t, "chromium")
	clitest.Clients(t, "chromium", "node_modules/playwright-core")
	_, url := start(t, nil)
	folder := os.Getenv("MICRORWKV_SCREENSHOTS")
	if folder == "" {
		folder = t.TempDir()
	}
	ok(t, node, "testdata/page.mjs", url, chromium, folder)
}

func TestCurl(t *testing.T) {
	curl := clitest.Program(t, "curl")
	_, url := start(t, nil)
	out, err := exec.Command(curl, "-sS", "-N", url+"/v1/chat/completions", "-H", "Content-Type: application/json",
		"-d", `{"messages":[{"role":"user","content":"One day"}],"max_tokens":5,"stream":true}`).CombinedOutput()
	if err != nil || !strings.Contains(string(out), `"content":`) || !strings.HasSuffix(string(out), "data: [DONE]\n\n") {
		t.Errorf("%v\n%s", err, out)
	}
}

// The manifests are what Kubernetes takes, and their flags are the programs'.
func TestManifests(t *testing.T) {
	python := clitest.Clients(t, "kubernetes-validate", "py/bin/python")
	for _, file := range []string{"kubernetes.yaml", "../batch/kubernetes.yaml"} {
		out, err := exec.Command(python, "testdata/manifests.py", file).CombinedOutput()
		if err != nil || !strings.HasSuffix(string(out), "ok\n") {
			t.Errorf("%s: %v\n%s", file, err, out)
		}
	}
	b, err := os.ReadFile("kubernetes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	fs := server.Flags()
	for line := range strings.Lines(string(b)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "- --"); ok {
			if name, _, _ = strings.Cut(name, "="); fs.Lookup(name) == nil {
				t.Errorf("no flag --%s", name)
			}
		}
	}
}
