package clitest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// need skips a test without one of its programs or packages, with words that .ci/run looks for, so that it
// doesn't pass over what it has got.
func need(t *testing.T, name string, err error) {
	t.Helper()
	if err != nil {
		t.Skipf("NOT TESTED: %s: %v", name, err)
	}
}

// Program returns the path of a program that a test needs.
func Program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	need(t, name, err)
	return path
}

// Clients returns a path in the folder that the variable MICRORWKV_CLIENTS names, which a test needs under
// a name. The packages of examples/serve/testdata/requirements.txt are there in the virtual environment
// py, and those of package.json in node_modules.
func Clients(t *testing.T, name, path string) string {
	t.Helper()
	path = filepath.Join(os.Getenv("MICRORWKV_CLIENTS"), path)
	_, err := os.Stat(path)
	need(t, name, err)
	return path
}
