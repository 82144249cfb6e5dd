package bpe

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// What cuts a text into pieces that are encoded alone: the regular expressions that published
// tokenizers have, each as a function that returns the length in bytes of its first match in a text
// that isn't empty. They match every text from its start.

// The expressions, as tokenizer.json has them. ByteLevel with use_regex has the first one built in.
const (
	gpt2Pattern  = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
	llamaPattern = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	qwenPattern  = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
)

var patterns = map[string]func(text string) int{
	gpt2Pattern:  splitGPT2,
	llamaPattern: func(text string) int { return splitLlama(text, 3) },
	qwenPattern:  func(text string) int { return splitLlama(text, 1) },
}

// class is what the expressions tell characters apart by.
type class byte

const (
	other class = iota
	letter
	number
	space
)

// next returns the class and the length in bytes of text's first character, and 0 for an empty text.
func next(text string) (class, int) {
	r, n := utf8.DecodeRuneInString(text)
	switch {
	case n == 0:
		return other, 0
	case unicode.IsLetter(r):
		return letter, n
	case unicode.IsNumber(r):
		return number, n
	case unicode.IsSpace(r):
		return space, n
	}
	return other, n
}

// run returns the length in bytes of the characters of a class that text begins with, at most so many.
func run(text string, c class, most int) int {
	length := 0
	for range most {
		d, n := next(text[length:])
		if n == 0 || d != c {
			break
		}
		length += n
	}
	return length
}

// suffixes are what is cut off after an apostrophe.
var suffixes = [...]string{"s", "t", "re", "ve", "m", "ll", "d"}

func splitGPT2(text string) int {
	if text[0] == '\'' {
		for _, s := range suffixes {
			if strings.HasPrefix(text[1:], s) {
				return 1 + len(s)
			}
		}
	}
	blank := 0
	if text[0] == ' ' {
		blank = 1
	}
	if c, n := next(text[blank:]); n > 0 && c != space {
		return blank + run(text[blank:], c, len(text))
	}
	return splitSpaces(text)
}

// splitLlama is the expression of Llama 3, with at most so many digits in a piece.
func splitLlama(text string, digits int) int {
	if text[0] == '\'' {
		for _, s := range suffixes {
			if n := foldedPrefix(text[1:], s); n > 0 {
				return 1 + n
			}
		}
	}
	c, n := next(text)
	switch {
	case c == letter:
		return run(text, letter, len(text))
	case c != number && text[0] != '\r' && text[0] != '\n':
		if word := run(text[n:], letter, len(text)); word > 0 {
			return n + word
		}
	case c == number:
		return run(text, number, digits)
	}
	blank := 0
	if text[0] == ' ' {
		blank = 1
	}
	if signs := run(text[blank:], other, len(text)); signs > 0 {
		end := blank + signs
		for end < len(text) && (text[end] == '\r' || text[end] == '\n') {
			end++
		}
		return end
	}
	spaces := text[:run(text, space, len(text))]
	if last := strings.LastIndexAny(spaces, "\r\n"); last >= 0 {
		return last + 1
	}
	return splitSpaces(text)
}

// foldedPrefix returns the length of s at the beginning of text, in any case; s is lower-case ASCII.
func foldedPrefix(text, s string) int {
	length := 0
	for _, want := range s {
		r, n := utf8.DecodeRuneInString(text[length:])
		if n == 0 || unicode.ToLower(r) != want && !(r == 'ſ' && want == 's') {
			return 0
		}
		length += n
	}
	return length
}

// splitSpaces returns the length of the spaces that text begins with, without the last one of several if
// something follows: that goes with it.
func splitSpaces(text string) int {
	n := run(text, space, len(text))
	if n == len(text) {
		return n
	}
	if _, last := utf8.DecodeLastRuneInString(text[:n]); last < n {
		return n - last
	}
	return n
}
