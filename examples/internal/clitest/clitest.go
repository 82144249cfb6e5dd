// Package clitest runs a program's main in a process of its own, which is the test's binary again:
// nothing has to be built.
package clitest

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// variable tells a process that it is the program and not the test.
const variable = "MICRORWKV_CLITEST"

// Main is for TestMain.
func Main(m *testing.M, program func()) {
	if os.Getenv(variable) != "" {
		program()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// Command returns the program with arguments, to be started.
func Command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), exe, args...)
	c.Env = append(os.Environ(), variable+"=1")
	return c
}

// Result is what a program that has ended leaves.
type Result struct {
	Stdout, Stderr string
	Status         int
}

// Run runs the program.
func Run(t *testing.T, args ...string) Result {
	t.Helper()
	return Wait(t, Command(t, args...))
}

// Wait runs a command of Command's.
func Wait(t *testing.T, c *exec.Cmd) Result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if c.Stdout == nil {
		c.Stdout = &stdout
	}
	c.Stderr = &stderr
	err := c.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return Result{stdout.String(), stderr.String(), c.ProcessState.ExitCode()}
}

// Succeed runs the program, which must end with status 0 and print nothing on stderr, and returns
// what is on stdout.
func Succeed(t *testing.T, args ...string) string {
	t.Helper()
	r := Run(t, args...)
	if r.Status != 0 || r.Stderr != "" {
		t.Fatalf("%q: status %d, stderr %q", args, r.Status, r.Stderr)
	}
	return r.Stdout
}

// Refuse runs the program, which must end with a status, print nothing on stdout and one line on
// stderr that has all the words.
func Refuse(t *testing.T, status int, words []string, args ...string) {
	t.Helper()
	r := Run(t, args...)
	if r.Status != status || r.Stdout != "" {
		t.Errorf("%q: status %d, want %d; stdout %q", args, r.Status, status, r.Stdout)
	}
	if strings.Count(r.Stderr, "\n") != 1 || !strings.HasSuffix(r.Stderr, "\n") {
		t.Errorf("%q: %q on stderr, want one line", args, r.Stderr)
	}
	for _, w := range words {
		if !strings.Contains(r.Stderr, w) {
			t.Errorf("%q: %q on stderr doesn't name %q", args, r.Stderr, w)
		}
	}
}
