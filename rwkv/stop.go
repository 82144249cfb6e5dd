package rwkv

import (
	"fmt"
	"unicode/utf8"
)

// checkStops returns an error if one of the stop strings is empty or isn't UTF-8: it would match
// everywhere, or inside of a character.
func checkStops(stops []string) error {
	for _, s := range stops {
		if s == "" {
			return fmt.Errorf("an empty stop string")
		}
		if !utf8.ValidString(s) {
			return fmt.Errorf("stop string %q isn't UTF-8", s)
		}
	}
	return nil
}

// stopper ends a text, which comes in pieces, before the first place where one of some strings
// begins that occur in it. Wherever the pieces' borders are, the result is the same: what comes
// before that place in the whole text.
//
// It holds back only the text from where one of the strings may have begun, and it ends the text
// as soon as that place is certain: at once, unless a string that began earlier may still be
// completed. Of several strings that begin at one place the shortest ends it.
//
// Each string is matched as by Knuth, Morris and Pratt (1977), so time is linear in the text.
type stopper struct {
	stops []stopMatch
	held  []byte // text not yet returned
	cut   int    // in held, where the first complete string begins; -1 if there is none
	done  bool
}

// stopMatch is the search for one string.
type stopMatch struct {
	stop string
	fail []int32 // of i+1 bytes matched: the longest proper prefix that is a suffix of them
	n    int     // how many of its bytes the text ends with
}

// newStopper returns a stopper for strings that checkStops finds right. It may have none.
func newStopper(stops []string) *stopper {
	s := &stopper{cut: -1, stops: make([]stopMatch, len(stops))}
	for i, stop := range stops {
		m := stopMatch{stop: stop, fail: make([]int32, len(stop))}
		for j := 1; j < len(stop); j++ {
			m.step(stop[j])
			m.fail[j] = int32(m.n)
		}
		m.n = 0
		s.stops[i] = m
	}
	return s
}

// step goes on by a byte of the text.
func (m *stopMatch) step(c byte) {
	if m.n == len(m.stop) {
		m.n = int(m.fail[m.n-1])
	}
	for m.n > 0 && m.stop[m.n] != c {
		m.n = int(m.fail[m.n-1])
	}
	if m.stop[m.n] == c {
		m.n++
	}
}

// push takes the next piece of the text and returns what text is certain now, and whether the text
// has ended. After its end nothing comes.
func (s *stopper) push(piece string) (text string, done bool) {
	if s.done {
		return "", true
	}
	old := len(s.held)
	for i := range len(piece) {
		end := old + i + 1 // of the text so far, counted from the beginning of held
		open := end        // where the first string begins that may still be completed
		for j := range s.stops {
			m := &s.stops[j]
			m.step(piece[i])
			begin := end - m.n
			if m.n < len(m.stop) {
				open = min(open, begin)
			} else if s.cut < 0 || begin < s.cut {
				s.cut = begin
			}
		}
		if s.cut >= 0 && s.cut <= open {
			s.done = true
			return s.upTo(s.cut, piece[:i]), true
		}
	}
	end := old + len(piece)
	for j := range s.stops {
		end = min(end, old+len(piece)-s.stops[j].n)
	}
	// A complete string that doesn't end the text yet begins after an open one, so end is before it.
	return s.upTo(end, piece), false
}

// upTo returns the first n bytes of held and piece, and holds the others.
func (s *stopper) upTo(n int, piece string) (text string) {
	if len(s.held) == 0 {
		text, piece = piece[:n], piece[n:]
		s.held = append(s.held, piece...)
	} else {
		s.held = append(s.held, piece...)
		if n > 0 {
			text = string(s.held[:n])
			s.held = append(s.held[:0], s.held[n:]...)
		}
	}
	if s.cut >= 0 {
		s.cut -= n
	}
	return text
}

// flush returns what is left at the end of the text, which a string that is complete still ends.
func (s *stopper) flush() string {
	if s.done {
		return ""
	}
	s.done = true
	if s.cut >= 0 {
		return string(s.held[:s.cut])
	}
	return string(s.held)
}
