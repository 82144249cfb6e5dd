package rwkv

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"math"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"microrwkv/tokenizer"
)

func demoModel(t testing.TB) (*Model, tokenizer.Tokenizer) {
	t.Helper()
	m, err := Open("demo/tinystories-reference.pt", SkipChecks())
	if err != nil {
		t.Fatal(err)
	}
	tok, err := m.Tokenizer()
	if err != nil {
		t.Fatal(err)
	}
	return m, tok
}

// text joins what Generate yields.
func text(t *testing.T, m *Model, tok tokenizer.Tokenizer, prompt string, opts ...Option) string {
	t.Helper()
	var b strings.Builder
	for piece, err := range m.Generate(t.Context(), tok, prompt, opts...) {
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString(piece)
	}
	return b.String()
}

// The embedded model continues "One day" as the published implementation does in float64.
func TestDemoGreedy(t *testing.T) {
	b, err := os.ReadFile("testdata/greedy.json")
	if err != nil {
		t.Fatal(err)
	}
	var want map[string]struct {
		Prompt, Text string
		Tokens       []int `json:"greedy_tokens"`
	}
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	m, tok := demoModel(t)
	w := want["reference"]
	var tokens []int
	got := w.Prompt + text(t, m, tok, w.Prompt, TopK(1), MaxTokens(40), OnToken(func(t Token) { tokens = append(tokens, t.ID) }))
	if got != w.Text {
		t.Errorf("%q, want %q", got, w.Text)
	}
	if !slices.Equal(tokens, w.Tokens[len(w.Tokens)-40:]) {
		t.Errorf("tokens %v, want %v", tokens, w.Tokens)
	}
}

// The same seed gives the same text, in one piece or over a State that is saved in between.
func TestGenerateIsRepeatable(t *testing.T) {
	eachRandom(t, allKinds, func(t *testing.T, m *Model, rng *rand.Rand) {
		run := func(seed uint64) (ids []int) {
			for tok, err := range m.GenerateTokens(t.Context(), []int{1, 2, 3}, MaxTokens(12), Seed(seed), TopP(0.95)) {
				if err != nil {
					t.Fatal(err)
				}
				ids = append(ids, tok.ID)
			}
			return ids
		}
		if a, b := run(5), run(5); !slices.Equal(a, b) {
			t.Errorf("seed 5 gives %v, then %v", a, b)
		}
		if a, b := run(5), run(6); slices.Equal(a, b) {
			t.Errorf("seeds 5 and 6 both give %v", a)
		}
		// over a State, stopped, saved and continued
		for _, opts := range [][]Option{
			{TopK(1)},
			{Seed(7), TopP(0.95)},
			{Seed(8), Temperature(1.5), RepetitionPenalty(1.3), FrequencyPenalty(0.2), PenaltyDecay(0.98)},
			{Seed(9), PresencePenalty(0.5), FrequencyPenalty(0.5)},
			{Seed(10), OfficialSampler(), PresencePenalty(2), FrequencyPenalty(2), PenaltyDecay(0.9), TopP(0.8)},
		} {
			with := func(more ...Option) []Option { return append(slices.Clip(opts), more...) }
			var whole, parts []int
			for tok := range m.GenerateTokens(t.Context(), []int{1, 2, 3}, with(MaxTokens(14))...) {
				whole = append(whole, tok.ID)
			}
			s := m.NewState()
			must(t, s, 1, 2, 3)
			for _, n := range []int{5, 0, 9} {
				for tok, err := range s.GenerateTokens(t.Context(), with(MaxTokens(n))...) {
					if err != nil {
						t.Fatal(err)
					}
					parts = append(parts, tok.ID)
				}
				saved, err := s.MarshalBinary()
				if err != nil {
					t.Fatal(err)
				}
				s = m.NewState()
				if err := s.UnmarshalBinary(saved); err != nil {
					t.Fatal(err)
				}
			}
			if !slices.Equal(whole, parts) {
				t.Errorf("in two parts %v, in one %v", parts, whole)
			}
		}
	})
}

// Sequences that join and leave a batch get what they get alone.
func TestBatchGeneratesTheSame(t *testing.T) {
	eachRandom(t, allKinds, func(t *testing.T, m *Model, rng *rand.Rand) {
		b := m.NewBatch()
		var seqs []*Sequence
		var alone [][]Token
		for i := range 6 {
			prompt := randomIDs(1+rng.IntN(12), m, rng)
			opts := []Option{MaxTokens(1 + rng.IntN(40)), Seed(uint64(i)), TopK(5), RepetitionPenalty(1.1), StopTokens(3)}
			var want []Token
			for tok, err := range m.GenerateTokens(t.Context(), prompt, opts...) {
				if err != nil {
					t.Fatal(err)
				}
				want = append(want, tok)
			}
			alone = append(alone, want)
			q, err := b.Add(prompt, nil, opts...)
			if err != nil {
				t.Fatal(err)
			}
			seqs = append(seqs, q)
			for range rng.IntN(4) {
				if err := b.Step(); err != nil {
					t.Fatal(err)
				}
			}
		}
		for b.Len() > 0 {
			if err := b.Step(); err != nil {
				t.Fatal(err)
			}
		}
		for i, q := range seqs {
			if !q.Done() || q.Err() != nil || !reflect.DeepEqual(q.Tokens(), alone[i]) {
				t.Errorf("sequence %d: %v (%v), alone %v", i, q.Tokens(), q.Err(), alone[i])
			}
		}
	})
}

func TestGenerateRefuses(t *testing.T) {
	m, tok := demoModel(t)
	for name, c := range map[string]struct {
		prompt string
		opts   []Option
		want   string
	}{
		"empty prompt":     {"", nil, "prompt is empty"},
		"temperature -1":   {"a", []Option{Temperature(-1)}, "temperature"},
		"temperature NaN":  {"a", []Option{Temperature(math.NaN())}, "temperature"},
		"top_k":            {"a", []Option{TopK(-1)}, "top_k"},
		"top_p":            {"a", []Option{TopP(-1)}, "top_p"},
		"min_p":            {"a", []Option{MinP(1)}, "min_p"},
		"max tokens":       {"a", []Option{MaxTokens(-1)}, "max tokens"},
		"stop string":      {"a", []Option{StopStrings("x", "")}, "stop string"},
		"half of no state": {"a", []Option{WhenFull(KeepHalf)}, "reference"},
	} {
		n := 0
		for piece, err := range m.Generate(t.Context(), tok, c.prompt, c.opts...) {
			if n++; n > 1 || piece != "" || err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %q, error %v, want one that names %q", name, piece, err, c.want)
				break
			}
		}
		if n == 0 {
			t.Errorf("%s: no error", name)
		}
	}
	for what, tokens := range map[string]iter.Seq2[Token, error]{
		"stop strings": m.GenerateTokens(t.Context(), []int{1}, StopStrings("x")),
		"seen":         m.GenerateTokens(t.Context(), []int{1}, Seen(1, -1)),
		"empty state":  m.NewState().GenerateTokens(t.Context()),
	} {
		n := 0
		for tok, err := range tokens {
			if n++; err == nil || n > 1 {
				t.Fatalf("%s: token %v, error %v", what, tok, err)
			}
		}
		if n == 0 {
			t.Errorf("%s: no error", what)
		}
	}
	for _, ids := range [][]int{nil, {-1}, {m.Config().VocabSize}} {
		for _, err := range m.GenerateTokens(t.Context(), ids) {
			if err == nil {
				t.Errorf("prompt %v: no error", ids)
			}
			break
		}
	}
}

func TestGenerateStops(t *testing.T) {
	m, tok := demoModel(t)
	whole := text(t, m, tok, "One day", TopK(1), MaxTokens(40))
	at := strings.Index(whole, "mom. They")
	if got := text(t, m, tok, "One day", TopK(1), MaxTokens(40), StopStrings("nowhere", "mom. They")); at < 0 || got != whole[:at] {
		t.Errorf("stopped by a string: %q, want %q", got, whole[:max(at, 0)])
	}
	end, err := tok.Encode(" Lily")
	if err != nil || len(end) != 1 {
		t.Fatal(end, err)
	}
	if got, want := text(t, m, tok, "One day", TopK(1), StopTokens(end...)), whole[:strings.Index(whole, " Lily")]; got != want {
		t.Errorf("stopped by a token: %q, want %q", got, want)
	}
	// what may begin a stop string is held back, and comes when the text ends before it is one
	if got := text(t, m, tok, "One day", TopK(1), MaxTokens(40), StopStrings(whole[len(whole)-7:]+"never")); got != whole {
		t.Errorf("held back: %q, want %q", got, whole)
	}
	const happy = "They were happy." // the model ends the text in its seventh token
	on, off := text(t, m, tok, happy, TopK(1), MaxTokens(9)), text(t, m, tok, happy, TopK(1), MaxTokens(9), StopAtEnd(false))
	if before, _, ended := strings.Cut(off, tokenizer.EndOfTextName); !ended || on != before {
		t.Errorf("stopped at the end: %q, without: %q", on, off)
	}
	if got := text(t, m, tok, "One day", MaxTokens(0)); got != "" {
		t.Errorf("no tokens: %q", got)
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	for piece, err := range m.Generate(ctx, tok, "One day", TopK(1), MaxTokens(1000)) {
		if n++; n == 3 {
			cancel()
		}
		if err != nil {
			if !errors.Is(err, context.Canceled) || n != 4 || piece != "" {
				t.Errorf("piece %d: %q, error %v", n, piece, err)
			}
		}
	}
	if n != 4 {
		t.Errorf("%d pieces after cancelling at the third", n)
	}
	for range m.Generate(t.Context(), tok, "One day") {
		break // leaving the loop is all it takes
	}
}

// A forbidden token doesn't come, and log-probabilities are the model's own.
func TestBiasAndLogProb(t *testing.T) {
	m, _ := demoModel(t)
	prompt := []int{3198, 1110}
	logits, err := m.LastLogits(prompt)
	if err != nil {
		t.Fatal(err)
	}
	raw := logits[0].Data()
	best := 0
	for i := range raw {
		if raw[i] > raw[best] {
			best = i
		}
	}
	for tok, err := range m.GenerateTokens(t.Context(), prompt, MaxTokens(1), TopK(1), Bias(func(l []float32) { l[best] = float32(math.Inf(-1)) })) {
		if err != nil {
			t.Fatal(err)
		}
		if tok.ID == best {
			t.Error("a forbidden token came")
		}
		if want := -crossEntropy(raw, tok.ID); math.Abs(float64(tok.LogProb)-want) > 1e-5 {
			t.Errorf("log-probability %g, want %g", tok.LogProb, want)
		}
	}
}

// OnToken sees in a text what GenerateTokens returns, log-probabilities included.
func TestOnToken(t *testing.T) {
	m, tok := demoModel(t)
	prompt, err := tok.Encode("One day")
	if err != nil {
		t.Fatal(err)
	}
	var want, got []Token
	for tok, err := range m.GenerateTokens(t.Context(), prompt, MaxTokens(10), Seed(3)) {
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, tok)
	}
	plain := text(t, m, tok, "One day", MaxTokens(10), Seed(3))
	seen := text(t, m, tok, "One day", MaxTokens(10), Seed(3), OnToken(func(t Token) { got = append(got, t) }))
	if len(want) == 0 || !reflect.DeepEqual(got, want) || plain != seen {
		t.Errorf("%v with %q, want %v with %q", got, seen, want, plain)
	}
}
