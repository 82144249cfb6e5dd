package main

import (
	"bufio"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// lines reads what the user types.
type lines interface {
	// read returns the next line, io.EOF at the end.
	read(prompt string) (string, error)
}

// newLines returns an editor with a history if stdin is a terminal, else its plain lines.
func newLines() (in lines, editing bool) {
	fd := int(os.Stdin.Fd())
	if !term.IsTerminal(fd) {
		return plain{bufio.NewReader(os.Stdin)}, false
	}
	t := term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{clearOnInterrupt{os.Stdin}, terminal()}, "")
	return &editor{fd, t}, true
}

// terminal returns where prompts and what is typed are shown: not in a file that stdout is.
func terminal() io.Writer {
	if term.IsTerminal(int(os.Stdout.Fd())) {
		return os.Stdout
	}
	return os.Stderr
}

// clearOnInterrupt turns Ctrl-C into Ctrl-U: at the prompt it clears the line, where the editor
// would end the program.
type clearOnInterrupt struct{ io.Reader }

// Read implements io.Reader.
func (c clearOnInterrupt) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	for i, k := range b[:n] {
		if k == 3 {
			b[i] = 21
		}
	}
	return n, err
}

// editor edits lines on a terminal: arrows, history, Ctrl-A and so on. The terminal is raw only
// while a line is read, so that Ctrl-C is a signal while the model answers.
type editor struct {
	fd   int
	term *term.Terminal
}

func (e *editor) read(prompt string) (string, error) {
	old, err := term.MakeRaw(e.fd)
	if err != nil {
		return "", err
	}
	defer term.Restore(e.fd, old)
	if w, h, err := term.GetSize(e.fd); err == nil && w > 0 {
		e.term.SetSize(w, h)
	}
	e.term.SetBracketedPasteMode(true)
	defer e.term.SetBracketedPasteMode(false)
	e.term.SetPrompt(prompt)
	var message strings.Builder
	for {
		line, err := e.term.ReadLine()
		message.WriteString(line)
		if err != term.ErrPasteIndicator {
			return message.String(), err
		}
		message.WriteByte('\n') // a line of pasted text: the message ends with a key
		e.term.SetPrompt("  ")
	}
}

type plain struct{ *bufio.Reader }

func (p plain) read(string) (string, error) {
	line, err := p.ReadString('\n')
	if line != "" { // the last one may have no end
		err = nil
	}
	return strings.TrimRight(line, "\r\n"), err
}
