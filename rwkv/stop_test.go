package rwkv

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// before returns text up to the first place where one of stops begins, and whether there is one.
func before(text string, stops []string) (string, bool) {
	cut := -1
	for _, s := range stops {
		if i := strings.Index(text, s); i >= 0 && (cut < 0 || i < cut) {
			cut = i
		}
	}
	if cut < 0 {
		return text, false
	}
	return text[:cut], true
}

// pending returns where in text, which has no complete stop string, the first one may have begun.
func pending(text string, stops []string) int {
	for i := range len(text) {
		for _, s := range stops {
			if len(text)-i < len(s) && strings.HasPrefix(s, text[i:]) {
				return i
			}
		}
	}
	return len(text)
}

// checkStopper pushes the text of pieces and compares each result with a search of the text so far.
func checkStopper(t *testing.T, stops, pieces []string) {
	t.Helper()
	want, wantDone := before(strings.Join(pieces, ""), stops)
	s := newStopper(stops)
	var got, seen string
	done := false
	for i, piece := range pieces {
		text, d := s.push(piece)
		if done && (text != "" || !d) {
			t.Fatalf("stops %q, pieces %q: piece %d after the end gave %q, %v", stops, pieces, i, text, d)
		}
		done = d
		got += text
		seen += piece
		if !strings.HasPrefix(want, got) {
			t.Fatalf("stops %q, pieces %q: got %q with piece %d, want a prefix of %q", stops, pieces, got, i, want)
		}
		_, complete := before(seen, stops)
		if done && !complete {
			t.Fatalf("stops %q, pieces %q: ended with piece %d", stops, pieces, i)
		}
		if n := pending(seen, stops); !complete && len(got) != n {
			t.Fatalf("stops %q, pieces %q: %d bytes came up to piece %d, want %d", stops, pieces, len(got), i, n)
		}
		// With one string there is nothing to wait for.
		if complete && len(stops) == 1 && !done {
			t.Fatalf("stops %q, pieces %q: no end with piece %d", stops, pieces, i)
		}
	}
	got += s.flush()
	if got != want || done && !wantDone {
		t.Fatalf("stops %q, pieces %q: got %q, want %q", stops, pieces, got, want)
	}
	if text, done := s.push("more"); text != "" || !done || s.flush() != "" {
		t.Fatalf("stops %q, pieces %q: text after flush", stops, pieces)
	}
}

func TestStopper(t *testing.T) {
	for _, c := range []struct {
		name   string
		stops  []string
		pieces []string
		want   []string // of each push, then of flush
		end    int      // the push that ends it, len(pieces) for none
	}{
		{"no strings", nil, []string{"a", "", "b"}, []string{"a", "", "b", ""}, 3},
		{"no match", []string{"xyz"}, []string{"ab", "c"}, []string{"ab", "c", ""}, 2},
		{"in a piece", []string{"xyz"}, []string{"abxyzc", "d"}, []string{"ab", "", ""}, 0},
		{"over pieces", []string{"xyz"}, []string{"abx", "y", "zc"}, []string{"ab", "", "", ""}, 2},
		{"a false start", []string{"xyz"}, []string{"abx", "y", "c"}, []string{"ab", "", "xyc", ""}, 3},
		{"only the possible rest is held", []string{"aab"}, []string{"aaaa", "a"}, []string{"aa", "a", "aa"}, 2},
		{"held at the end", []string{"xyz"}, []string{"abxy"}, []string{"ab", "xy"}, 1},
		{"the first byte", []string{"a"}, []string{"a"}, []string{"", ""}, 0},
		{"the place counts, not the list", []string{"c", "b"}, []string{"abc"}, []string{"a", ""}, 0},
		{"the shorter of two at one place ends it", []string{"bcd", "b"}, []string{"ab", "c"}, []string{"a", "", ""}, 0},
		{"an earlier one is waited for", []string{"bc", "abcd"}, []string{"xabc", "d"}, []string{"x", "", ""}, 1},
		{"and fails", []string{"bc", "abcd"}, []string{"xabc", "e"}, []string{"x", "a", ""}, 1},
		{"and is cut short", []string{"bc", "abcd"}, []string{"xabc"}, []string{"x", "a"}, 1},
		{"and leaves a later one", []string{"cc", "bccd", "abccde"}, []string{"xabcc", "d", "f"}, []string{"x", "", "a", ""}, 2},
		{"UTF-8", []string{"é"}, []string{"caf", "è", "né"}, []string{"caf", "è", "n", ""}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStopper(c.stops)
			var got []string
			end := len(c.pieces)
			for i, piece := range c.pieces {
				text, done := s.push(piece)
				got = append(got, text)
				if done {
					end = min(end, i)
				}
			}
			got = append(got, s.flush())
			if !slices.Equal(got, c.want) || end != c.end {
				t.Errorf("got %q, ended at %d, want %q, %d", got, end, c.want, c.end)
			}
			checkStopper(t, c.stops, c.pieces)
		})
	}
}

// TestStopperRandom compares with a search of the whole text, for texts and strings of few letters
// so that they overlap in every way.
func TestStopperRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	word := func(letters, length int) string {
		b := make([]byte, length)
		for i := range b {
			b[i] = 'a' + byte(r.IntN(letters))
		}
		return string(b)
	}
	for range 100_000 {
		letters := 1 + r.IntN(3)
		stops := make([]string, r.IntN(5))
		for i := range stops {
			stops[i] = word(letters, 1+r.IntN(8))
		}
		checkStopper(t, stops, split(r, word(letters, r.IntN(40)), 6))
	}
}

// split cuts text into pieces of up to longest bytes, some of them empty.
func split(r *rand.Rand, text string, longest int) (pieces []string) {
	for text != "" {
		n := min(r.IntN(longest+1), len(text))
		pieces = append(pieces, text[:n])
		text = text[n:]
	}
	return pieces
}

func FuzzStopper(f *testing.F) {
	f.Add("xabce", "abcd", "bc", uint64(1))
	f.Add("User: hello\n\nUser: again", "\n\nUser:", "\n", uint64(2))
	f.Add("aaaaaaab", "aab", "aaab", uint64(3))
	f.Add("grüße", "ß", "üß", uint64(4))
	f.Fuzz(func(t *testing.T, text, stop1, stop2 string, seed uint64) {
		stops := []string{stop1, stop2}
		if checkStops(stops) != nil {
			stops = []string{"x"}
		}
		checkStopper(t, stops, split(rand.New(rand.NewPCG(seed, 0)), text, 8))
	})
}

// TestStopperUTF8 pushes whole characters: what comes is whole characters too.
func TestStopperUTF8(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	runes := []rune("é©aè\u20ac")
	word := func(n int) string {
		b := make([]rune, n)
		for i := range b {
			b[i] = runes[r.IntN(len(runes))]
		}
		return string(b)
	}
	for range 10_000 {
		s := newStopper([]string{word(1 + r.IntN(4)), word(1 + r.IntN(4))})
		for range 20 {
			if text, _ := s.push(word(r.IntN(3))); !utf8.ValidString(text) {
				t.Fatalf("got %q", text)
			}
		}
	}
}

func TestCheckStops(t *testing.T) {
	for _, c := range []struct {
		stops []string
		want  string
	}{
		{nil, ""},
		{[]string{"a", "é"}, ""},
		{[]string{"a", ""}, "an empty stop string"},
		{[]string{"\xa9"}, `stop string "\xa9" isn't UTF-8`},
	} {
		got := ""
		if err := checkStops(c.stops); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("checkStops(%q) = %q, want %q", c.stops, got, c.want)
		}
	}
}

// TestStopperLong has a string that a quadratic search would need much time for.
func TestStopperLong(t *testing.T) {
	const n = 1 << 18
	s := newStopper([]string{strings.Repeat("a", n) + "b"})
	for i := range n {
		if text, _ := s.push("a"); text != "" {
			t.Fatalf("got %q after %d", text, i)
		}
	}
	if text, done := s.push("ab!"); text != "a" || !done {
		t.Fatalf("got %d bytes, done %v, want 1, true", len(text), done)
	}
}

func TestStopperAllocations(t *testing.T) {
	s := newStopper([]string{"\n\nUser:", "<|end|>"})
	if n := testing.AllocsPerRun(100, func() {
		s.push("some text")
		s.push(" and ")
		s.push("more\n") // held
		s.push("\n")
	}); n > 1 { // for "\n\nsome text", which is in two pieces
		t.Errorf("%g allocations, want 1", n)
	}
}

func BenchmarkStopper(b *testing.B) {
	s := newStopper([]string{"\n\nUser:", "\n\nAssistant:", "<|endoftext|>"})
	pieces := []string{"Once", " upon", " a", " time", ",\n", " there", " was", " a", " <", "small", ">", ".\n", "\nThe", " end"}
	b.ReportAllocs()
	for b.Loop() {
		for _, p := range pieces {
			s.push(p)
		}
	}
	b.ReportMetric(float64(b.N*len(pieces))/b.Elapsed().Seconds(), "tok/s")
}
