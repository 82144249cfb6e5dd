package cli

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Quote returns a text from a file in a form that is safe on a terminal: as it is, or, if it has control
// characters, characters that can't be seen or bytes that aren't UTF-8, as Go would quote it. Long
// ones are cut.
func Quote(s string) string {
	const most = 120
	cut := s
	if utf8.RuneCountInString(cut) > most {
		r := []rune(cut[:min(len(cut), 4*most)])
		cut = string(r[:most-1]) + "…"
	}
	if !utf8.ValidString(cut) || strings.ContainsFunc(cut, func(r rune) bool { return r != ' ' && !unicode.IsGraphic(r) || unicode.Is(unicode.Cf, r) }) {
		return strconv.Quote(cut)
	}
	return cut
}

// QuoteLines is Quote for a text that may have several lines, an error's for one: of the control
// characters the ends of lines stay.
func QuoteLines(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r)) {
			q := strconv.QuoteRune(r)
			b.WriteString(q[1 : len(q)-1])
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}
