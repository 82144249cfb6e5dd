package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/rivo/uniseg"
)

// wrapper shows text on a terminal as it comes, and moves a word to the next line that turns out not to
// fit.
type wrapper struct {
	w      io.Writer
	width  func() int // columns, 0 if unknown
	column int
	word   string // the newest, without a blank after it
}

// Write implements io.Writer for whole characters.
func (w *wrapper) Write(b []byte) (int, error) {
	var out strings.Builder
	width := w.width()
	for text := string(b); text != ""; {
		if strings.HasPrefix(text, "\x1b") { // a style, up to its m
			n := strings.IndexByte(text, 'm') + 1
			out.WriteString(text[:max(n, 1)])
			text = text[max(n, 1):]
			continue
		}
		cluster, rest, columns, _ := uniseg.FirstGraphemeClusterInString(text, -1)
		text = rest
		switch {
		case cluster == "\n" || cluster == "\r\n":
			out.WriteString("\n")
			w.column, w.word = 0, ""
			continue
		case cluster == " ":
			w.word = ""
		default:
			wide := uniseg.StringWidth(w.word)
			if width > 0 && w.column+columns > width && wide > 0 && wide < w.column {
				fmt.Fprintf(&out, "\x1b[%dD\x1b[K\n%s", wide, w.word)
				w.column = wide
			}
			w.word += cluster
		}
		if width > 0 && w.column+columns > width {
			w.column = 0 // the terminal goes on in the next line by itself
			if cluster == " " {
				out.WriteString("\n")
				continue
			}
			w.word = cluster
		}
		out.WriteString(cluster)
		w.column += columns
	}
	_, err := io.WriteString(w.w, out.String())
	return len(b), err
}
