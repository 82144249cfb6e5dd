package main

import (
	"io"
	"strings"
	"testing"

	"microrwkv/examples/internal/clitest"
)

// TestBar runs the program with stderr on a terminal: with --json there is a progress bar, which is
// gone at the end; a text that streams has none.
func TestBar(t *testing.T) {
	for _, args := range [][]string{{"--json"}, {}} {
		user, tty := clitest.PTY(t)
		shown := make(chan string)
		go func() {
			b, _ := io.ReadAll(user) // an error, once the program's end is closed
			shown <- string(b)
		}()
		c := clitest.Command(t, append(args, "--prompt", "One day", "--max_num_tokens", "40", "--seed", "1")...)
		var out strings.Builder
		c.Stdout, c.Stderr = &out, tty
		if err := c.Run(); err != nil {
			t.Fatal(err)
		}
		tty.Close()
		bar := <-shown
		if len(args) == 0 {
			if bar != "" {
				t.Errorf("beside a text: %q", bar)
			}
			continue
		}
		if !strings.Contains(bar, "generating") || !strings.Contains(bar, "/40") || strings.TrimSpace(bar[strings.LastIndex(bar, "\r"):]) != "" {
			t.Errorf("%q", bar)
		}
		if s := out.String(); !strings.HasPrefix(s, "{") || !strings.HasSuffix(s, "}\n") || strings.Count(s, "\n") != 1 {
			t.Errorf("stdout %q", s)
		}
	}
}
