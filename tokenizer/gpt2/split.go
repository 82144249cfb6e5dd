package gpt2

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// pattern is what tiktoken calls r50k_base; pieceLen is the same in Go.
const pattern = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`

// class is what pattern tells characters apart by.
type class byte

const (
	other class = iota
	letter
	number
	space
)

func classOf(r rune) class {
	switch {
	case unicode.IsLetter(r):
		return letter
	case unicode.IsNumber(r):
		return number
	case unicode.IsSpace(r):
		return space
	}
	return other
}

// ascii is classOf for the first 128 characters.
var ascii = func() (t [utf8.RuneSelf]class) {
	for r := range t {
		t[r] = classOf(rune(r))
	}
	return t
}()

// next returns the class and length in bytes of text's first character.
func next(text string) (class, int) {
	if c := text[0]; c < utf8.RuneSelf {
		return ascii[c], 1
	}
	r, n := utf8.DecodeRuneInString(text)
	return classOf(r), n
}

// pieceLen returns the length in bytes of pattern's first match in text, which must not be empty
// and is never skipped by the pattern.
func pieceLen(text string) int {
	if text[0] == '\'' {
		for _, suffix := range [...]string{"s", "t", "re", "ve", "m", "ll", "d"} {
			if strings.HasPrefix(text[1:], suffix) {
				return 1 + len(suffix)
			}
		}
	}
	c, n := next(text)
	if text[0] == ' ' && len(text) > 1 { // one blank goes with the word after it
		if after, m := next(text[1:]); after != space {
			c, n = after, 1+m
		}
	}
	last := n // length of the run's last character
	for n < len(text) {
		d, m := next(text[n:])
		if d != c {
			// Not the end of the text: of several spaces the last goes with what follows.
			if c == space && n > last {
				n -= last
			}
			break
		}
		n, last = n+m, m
	}
	return n
}
