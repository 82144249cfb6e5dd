package main

import (
	"os"
	"path/filepath"
	"testing"

	"microrwkv/examples/internal/clitest"
)

// TestForce replaces a file only if it is asked to.
func TestForce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.pt")
	if err := os.WriteFile(path, []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	args := []string{path, "--kind", "x051a", "--n_layer", "1", "--n_embd", "4", "--n_head", "1", "--vocab_size", "5", "--block_size", "4"}
	clitest.Refuse(t, 1, []string{path, "--force"}, args...)
	if b, err := os.ReadFile(path); err != nil || string(b) != "precious" {
		t.Errorf("%q, %v", b, err)
	}
	clitest.Succeed(t, append(args, "--force")...)
	if b, err := os.ReadFile(path); err != nil || len(b) < 100 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}
