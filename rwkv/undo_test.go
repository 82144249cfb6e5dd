package rwkv

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"microrwkv/tensor"
	"microrwkv/tokenizer"
)

// pieceTokenizer has these strings as tokens, by id. It encodes character by character.
type pieceTokenizer []string

func (p pieceTokenizer) Encode(text string) (ids []int, err error) {
	for _, r := range text {
		id := slices.Index(p, string(r))
		if id < 0 {
			return nil, &tokenizer.UnknownRuneError{Rune: r}
		}
		ids = append(ids, id)
	}
	return ids, nil
}

func (p pieceTokenizer) Decode(ids []int) string {
	var b []byte
	for _, id := range ids {
		b = p.AppendToken(b, id)
	}
	return string(b)
}

func (p pieceTokenizer) AppendToken(dst []byte, id int) []byte { return append(dst, p[id]...) }
func (p pieceTokenizer) VocabSize() int                        { return len(p) }
func (p pieceTokenizer) EndOfText() int                        { return -1 }

// follow makes a model write these ids.
func follow(ids []int) Option {
	i := 0
	return Bias(func(logits []float32) {
		for id := range logits {
			if id != ids[i%len(ids)] {
				logits[id] = float32(math.Inf(-1))
			}
		}
		i++
	})
}

// TestStopStringsLeaveNothing has models write tokens that contain stop strings, wherever the tokens'
// borders are: text, tokens and state must end where the stop string begins, to the last bit, and the
// penalties must know as much.
func TestStopStringsLeaveNothing(t *testing.T) {
	tok := pieceTokenizer{"a", "b", "c", "é", "\n", "ab", "ba", "aab", "\xc3", "\xa9", "\xa9b", "\n\n", "c\n", "bc", "éa", "\n\nab"}
	rng := rand.New(rand.NewPCG(5, 6))
	for _, kind := range []Kind{RWKV7, Causal, Reference} {
		c := smallConfig(kind)
		c.VocabSize = len(tok)
		if c.BlockSize > 0 {
			c.BlockSize = 64
		}
		m, err := Random(c, tensor.F32, 1)
		if err != nil {
			t.Fatal(err)
		}
		stopped, tails := 0, 0
		for range 150 {
			script := make([]int, 1+rng.IntN(12))
			for i := range script {
				script[i] = rng.IntN(len(tok))
			}
			stops := [][]string{{"\n\nab"}, {"ab", "bc"}, {"é"}, {"aabaab"}, {"\n\n"}, {"ca", "aaab"}, {"\nb", "c"}}[rng.IntN(7)]
			whole := decoded(tok, script)
			at := -1
			for _, s := range stops {
				if i := strings.Index(whole, s); i >= 0 && (at < 0 || i < at) {
					at = i
				}
			}
			// What is right: the tokens whose text comes before the stop string, and the rest of the
			// text before it as the tokenizer encodes it.
			want, text := script, whole
			if at >= 0 {
				stopped++
				text = whole[:at]
				n := len(script)
				for n > 0 {
					if d := tok.Decode(script[:n]); strings.HasPrefix(text, decoded(tok, script[:n])) && (n == len(script) || complete(d)) {
						break
					}
					n--
				}
				tail, err := tok.Encode(strings.TrimPrefix(text, decoded(tok, script[:n])))
				if err != nil {
					tail = nil // U+FFFD, which the vocabulary doesn't have
				}
				if len(tail) > 0 {
					tails++
				}
				want = append(slices.Clone(script[:n]), tail...)
			}
			name := fmt.Sprintf("%s: %v, stops %q", kind, script, stops)

			alone := m.NewState()
			must(t, alone, 1, 2)
			for _, id := range want {
				alone.sampled = true
				must(t, alone, id)
			}
			var reason Reason
			var got []int
			opts := func() []Option {
				return []Option{MaxTokens(len(script)), StopStrings(stops...), follow(script),
					OnToken(func(x Token) { got = append(got, x.ID) }), OnEnd(func(r Reason) { reason = r })}
			}
			check := func(how, made string, s *State) {
				t.Helper()
				if made != text || !slices.Equal(got, want) || (reason == Stop) != (at >= 0) {
					t.Fatalf("%s, %s: text %q, tokens %v, %s; want %q, %v", name, how, made, got, reason, text, want)
				}
				if s != nil {
					sameBits(t, name+", "+how, s, alone)
					if !slices.Equal(s.seen.ids, alone.seen.ids) || s.seen.made != alone.seen.made {
						t.Fatalf("%s, %s: history %v, want %v", name, how, s.seen, alone.seen)
					}
				}
				got = nil
			}
			s := m.NewState()
			must(t, s, 1, 2)
			var made string
			for piece, err := range s.Generate(t.Context(), tok, opts()...) {
				if err != nil {
					t.Fatal(name, err)
				}
				made += piece
			}
			check("a State", made, s)

			b := m.NewBatch()
			q, err := b.Add([]int{1, 2}, tok, opts()...)
			if err != nil {
				t.Fatal(err)
			}
			for b.Len() > 0 {
				if err := b.Step(); err != nil {
					t.Fatal(err)
				}
			}
			if s, err = q.State(); err != nil || q.Reason() != reason || len(q.Tokens()) != len(want) {
				t.Fatalf("%s: in a batch %d tokens, %s (%v), want %d", name, len(q.Tokens()), q.Reason(), err, len(want))
			}
			check("a Batch", q.Text(), s)

			made = ""
			for piece, err := range m.Generate(t.Context(), tok, "bc", opts()...) {
				if err != nil {
					t.Fatal(name, err)
				}
				made += piece
			}
			check("a Model", made, nil)
		}
		if stopped < 50 || tails < 10 {
			t.Errorf("%s: only %d texts had a stop string, %d within a token", kind, stopped, tails)
		}
	}
}

// decoded returns the text of ids as a Decoder gives it.
func decoded(tok tokenizer.Tokenizer, ids []int) string {
	d := tokenizer.NewDecoder(tok)
	var s string
	for _, id := range ids {
		s += d.Push(id)
	}
	return s + d.Flush()
}

// complete reports whether bytes don't end within a character.
func complete(s string) bool { return !strings.HasSuffix(s, "\xc3") }
