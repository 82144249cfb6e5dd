package main

import (
	"bytes"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"microrwkv/examples/internal/clitest"
)

// terminal is the program on a terminal of its own.
type terminal struct {
	t     *testing.T
	user  *os.File // where the user's end is
	mutex sync.Mutex
	shown []byte
	ended chan error
}

func newTerminal(t *testing.T, args ...string) *terminal {
	user, tty := clitest.PTY(t)
	defer tty.Close()
	c := clitest.Command(t, args...)
	c.Stdin, c.Stdout, c.Stderr = tty, tty, tty
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	term := &terminal{t: t, user: user, ended: make(chan error, 1)}
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := user.Read(b)
			term.mutex.Lock()
			term.shown = append(term.shown, b[:n]...)
			term.mutex.Unlock()
			if err != nil { // the program has closed its end
				break
			}
		}
		term.ended <- c.Wait()
	}()
	return term
}

// expect waits until text is shown, forgets what was shown up to there and returns it.
func (x *terminal) expect(text string) string {
	x.t.Helper()
	for range 12000 { // two minutes: the machine may be busy
		x.mutex.Lock()
		i := bytes.Index(x.shown, []byte(text))
		if i >= 0 {
			before := string(x.shown[:i])
			x.shown = x.shown[i+len(text):]
			x.mutex.Unlock()
			return before
		}
		x.mutex.Unlock()
		time.Sleep(10 * time.Millisecond)
	}
	x.t.Fatalf("%q isn't shown, but %q", text, x.shown)
	return ""
}

func (x *terminal) write(keys string) {
	if _, err := x.user.WriteString(keys); err != nil {
		x.t.Fatal(err)
	}
}

// TestTerminal edits a line, takes one from the history, and presses Ctrl-C in an answer and at
// the prompt.
func TestTerminal(t *testing.T) {
	const (
		backspace, up, ctrlC, ctrlD = "\x7f", "\x1b[A", "\x03", "\x04"
	)
	x := newTerminal(t, "--max_num_tokens=100000", "--seed", "2")
	if hello := x.expect("> "); !strings.Contains(hello, "/help") {
		t.Errorf("the program begins with %q", hello)
	}
	x.write("/sinx" + backspace + "g\r")
	x.expect("error: no command /sing;")
	x.expect("> ")
	x.write("garbage" + ctrlC + "One day\r")
	x.expect(", ") // the answer
	x.expect(" ")
	x.write(ctrlC)
	if answer := x.expect("> "); strings.Contains(answer, "error") {
		t.Errorf("Ctrl-C ends an answer with %q", answer)
	}
	x.write(up + up + "\r")
	x.expect("error: no command /sing;")
	x.expect("> ")
	x.write(ctrlD)
	select {
	case err := <-x.ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(2 * time.Minute):
		t.Error("Ctrl-D doesn't end the program")
	}
}
