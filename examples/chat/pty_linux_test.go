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

// session is the program on a terminal of its own.
type session struct {
	t     *testing.T
	user  *os.File // where the user's end is
	mutex sync.Mutex
	shown []byte
	ended chan error
}

func newSession(t *testing.T, args ...string) *session {
	user, tty := clitest.PTY(t)
	defer tty.Close()
	c := clitest.Command(t, args...)
	c.Stdin, c.Stdout, c.Stderr = tty, tty, tty
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	term := &session{t: t, user: user, ended: make(chan error, 1)}
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
func (x *session) expect(text string) string {
	x.t.Helper()
	for range 3000 { // half a minute: the machine may be busy
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

func (x *session) write(keys string) {
	if _, err := x.user.WriteString(keys); err != nil {
		x.t.Fatal(err)
	}
}

// TestTerminal edits a line, takes one from the history, pastes several, types while the model answers, and
// presses Ctrl-C in an answer and at the prompt.
func TestTerminal(t *testing.T) {
	const (
		backspace, up, ctrlC, ctrlD = "\x7f", "\x1b[A", "\x03", "\x04"
		paste, pasted               = "\x1b[200~", "\x1b[201~"
	)
	x := newSession(t, "--max_num_tokens=100000", "--seed", "2")
	if hello := x.expect("> "); !strings.Contains(hello, "/help") || !strings.Contains(hello, "isn't trained") {
		t.Errorf("the program begins with %q", hello)
	}
	x.write("/sinx" + backspace + "g\r")
	x.expect("error: no command /sing;")
	x.expect("> ")
	x.write("garbage" + ctrlC + "One day\r")
	x.expect(", ") // the answer
	x.expect(" ")
	x.write("typed early")
	time.Sleep(200 * time.Millisecond)
	x.write(ctrlC)
	if answer := x.expect("> "); strings.Contains(answer, "error") || strings.Contains(answer, "typed") {
		t.Errorf("Ctrl-C ends an answer with %q", answer)
	}
	x.write(ctrlC) // clears what was typed
	x.write("/undo\r")
	x.expect("Taken back: One day")
	x.expect("> ")
	x.write(paste + "one line\rand another" + pasted + "\r")
	x.expect(" ")
	time.Sleep(300 * time.Millisecond)
	x.write(ctrlC)
	x.expect("> ")
	x.write("/undo\r")
	x.expect(`Taken back: "one line\nand another"`) // one message
	x.expect("> ")
	x.write(strings.Repeat(up, 6) + "\r")
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
