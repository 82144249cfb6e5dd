package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"microrwkv/examples/internal/clitest"
)

func TestMain(m *testing.M) { clitest.Main(m, main) }

// TestForce replaces a file only if it is asked to, and never its input, by whatever name.
func TestForce(t *testing.T) {
	b, err := os.ReadFile("../../checkpoint/testdata/formats/zip_f32.pt")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	in, out, link := filepath.Join(dir, "in.pt"), filepath.Join(dir, "out.pt"), filepath.Join(dir, "link.pt")
	for _, path := range []string{in, out} {
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(in, link); err != nil {
		t.Fatal(err)
	}
	clitest.Refuse(t, 1, []string{out, "--force"}, in, out)
	clitest.Refuse(t, 1, []string{in, "read"}, in, in, "--force")
	clitest.Refuse(t, 1, []string{link, "read"}, in, link, "--force")
	if now, err := os.ReadFile(in); err != nil || !bytes.Equal(now, b) {
		t.Error("the input has changed", err)
	}
	clitest.Succeed(t, in, out, "--force", "--dtype", "bf16")
	if now, err := os.ReadFile(out); err != nil || len(now) >= len(b) {
		t.Errorf("%d bytes, %v", len(now), err)
	}
}
