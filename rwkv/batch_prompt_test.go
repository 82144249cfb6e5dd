package rwkv

import (
	"bytes"
	"math"
	"slices"
	"strings"
	"testing"

	"microrwkv/tensor"
)

// small returns a model of kind RWKV7 to test what doesn't depend on the weights.
func small(t *testing.T) *Model {
	t.Helper()
	m, err := Random(Config{Kind: RWKV7, VocabSize: 100, NumLayers: 2, NumHeads: 2, EmbedDim: 128}, tensor.F32, 1)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func saved(t *testing.T, s *State) []byte {
	t.Helper()
	b, err := s.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A prompt is read in the pieces asked for, beside others, and gives the bits of Append of those pieces.
func TestPromptChunks(t *testing.T) {
	m := small(t)
	ids := make([]int, 420)
	for i := range ids {
		ids[i] = i * 7 % 100
	}
	chunks := []int{3, 64, 300}
	want := m.NewState()
	for at, ends := 0, []int{3, 67, 323, 367, 420}; len(ends) > 0; at, ends = ends[0], ends[1:] {
		if _, err := want.Append(ids[at:ends[0]]); err != nil {
			t.Fatal(err)
		}
	}
	for _, budget := range []int{0, 1} {
		b := m.NewBatch()
		b.SetPromptBudget(budget)
		if _, err := b.Add([]int{1}, nil, MaxTokens(1000)); err != nil {
			t.Fatal(err)
		}
		q, err := b.AddState(m.NewState(), ids, nil, MaxTokens(0), PromptChunks(chunks...))
		if err != nil {
			t.Fatal(err)
		}
		var left []int
		for !q.Done() {
			if err := b.Step(); err != nil {
				t.Fatal(err)
			}
			if n := q.PromptLeft(); len(left) == 0 || left[len(left)-1] != n {
				left = append(left, n)
			}
			if q.PromptLeft() == 97 {
				part := m.NewState()
				for _, p := range [][]int{ids[:3], ids[3:67], ids[67:323]} {
					if _, err := part.Append(p); err != nil {
						t.Fatal(err)
					}
				}
				if !bytes.Equal(saved(t, q.Fork()), saved(t, part)) {
					t.Error("Fork in the prompt isn't the state there")
				}
			}
		}
		if budget > 0 { // the other's prompt was read first
			left = left[1:]
		}
		if !slices.Equal(left, []int{417, 353, 97, 53, 0}) {
			t.Errorf("budget %d: prompt left after the steps: %v", budget, left)
		}
		s, err := q.State()
		if err != nil || !bytes.Equal(saved(t, s), saved(t, want)) {
			t.Errorf("budget %d: another state, %v", budget, err)
		}
	}
	if _, err := m.NewBatch().Add(ids, nil, PromptChunks(0)); err == nil {
		t.Error("a chunk of no tokens is taken")
	}
}

// Prompts take turns within the budget: one that is long keeps no other waiting, and the bits are those of
// each alone.
func TestPromptsTakeTurns(t *testing.T) {
	m := small(t)
	ids := func(n, from int) []int {
		list := make([]int, n)
		for i := range list {
			list[i] = (from + i*7) % 100
		}
		return list
	}
	prompts := [][]int{ids(1000, 0), ids(64, 1), ids(130, 2), ids(1, 3)}
	b := m.NewBatch()
	b.SetPromptBudget(150)
	writer, err := b.Add([]int{1}, nil, MaxTokens(1000))
	if err != nil {
		t.Fatal(err)
	}
	var qs []*Sequence
	var forks [][]byte
	for i, p := range prompts {
		var q *Sequence
		chunks := slices.Repeat([]int{64}, len(p)/64)
		q, err = b.AddState(m.NewState(), p, nil, MaxTokens(0), PromptChunks(chunks...), PromptProgress(func(done, total int) {
			if i == 0 && done == 128 {
				forks = append(forks, saved(t, q.Fork()))
			}
			if total != len(p) || done != total-q.PromptLeft() {
				t.Errorf("prompt %d: %d of %d", i, done, total)
			}
		}))
		if err != nil {
			t.Fatal(err)
		}
		qs = append(qs, q)
	}
	var left [][]int
	for b.Len() > 1 {
		if err := b.Step(); err != nil {
			t.Fatal(err)
		}
		var now []int
		for _, q := range qs {
			now = append(now, q.PromptLeft())
		}
		left = append(left, now)
	}
	// the writer's prompt of 1, then chunks of 64 until less than half of one fits
	want := [][]int{{936, 0, 130, 1}, {872, 0, 66, 0}, {808, 0, 0, 0}, {680, 0, 0, 0}, {552, 0, 0, 0}}
	if len(left) < len(want) || !slices.EqualFunc(left[:len(want)], want, slices.Equal) {
		t.Errorf("left after the steps: %v, want %v", left, want)
	}
	if n := len(writer.Tokens()); n != len(left) {
		t.Errorf("%d tokens in %d steps", n, len(left))
	}
	for i, q := range qs {
		want, n := m.NewState(), 0
		for p := prompts[i]; len(p) > 0; p = p[n:] {
			n = min(64, len(p))
			if _, err := want.Append(p[:n]); err != nil {
				t.Fatal(err)
			}
			if i == 0 && want.Len() == 128 && (len(forks) != 1 || !bytes.Equal(forks[0], saved(t, want))) {
				t.Errorf("%d forks, or another state", len(forks))
			}
		}
		if s, err := q.State(); err != nil || !bytes.Equal(saved(t, s), saved(t, want)) {
			t.Errorf("prompt %d: another state, %v", i, err)
		}
	}
}

// The log-probabilities of a prompt's tokens are those of the logits after the tokens before them, whatever
// the pieces, the company and the rule for full contexts.
func TestPromptLogProbs(t *testing.T) {
	limited, err := Random(Config{Kind: X051a, VocabSize: 100, BlockSize: 150, NumLayers: 1, NumHeads: 2, EmbedDim: 32}, tensor.F32, 1)
	if err != nil {
		t.Fatal(err)
	}
	for name, m := range map[string]*Model{"rwkv7": small(t), "x051a": limited} {
		ids := make([]int, 400)
		for i := range ids {
			ids[i] = i * 13 % 100
		}
		for _, c := range []struct{ before, prompt int }{{0, 1}, {0, 100}, {0, 140}, {7, 130}, {40, 101}, {120, 149}, {0, 400}} {
			chunks := []int{3, 64, 1}
			alone, start := m.NewState(), m.NewState()
			for _, s := range []*State{alone, start} {
				if _, err := s.Append(ids[:c.before]); err != nil {
					t.Fatal(err)
				}
			}
			prompt := ids[:c.prompt]
			b := m.NewBatch()
			if _, err := b.Add([]int{1, 2, 3}, nil, MaxTokens(1000)); err != nil {
				t.Fatal(err)
			}
			q, err := b.AddState(start, prompt, nil, MaxTokens(2), PromptChunks(chunks...), PromptLogProbs(3))
			if err != nil {
				t.Fatal(err)
			}
			for !q.Done() {
				if err := b.Step(); err != nil {
					t.Fatal(err)
				}
			}
			got := q.PromptTokens()
			if len(got) != len(prompt) || len(q.Tokens()) != 2 {
				t.Fatalf("%s, %v: %d tokens of the prompt and %d after it", name, c, len(got), len(q.Tokens()))
			}
			lost, size := 0, m.Config().BlockSize
			if size > 0 && len(prompt) > size {
				lost = len(prompt) - size
			}
			full := size > 0 && c.before+len(prompt)-lost > size // the context is halved at another place
			for i, id := range prompt {
				if i >= lost && alone.Len() > 0 {
					want, top := logProbOf(alone.Logits(), id), topLogProbs(alone.Logits(), 3)
					d := math.Abs(float64(got[i].LogProb - want))
					if full && i > 0 && d < 5 { // a NaN isn't
						continue
					}
					if !(d < 1e-5) || len(got[i].Top) != 3 || !(math.Abs(float64(got[i].Top[0].LogProb-top[0].LogProb)) < 1e-5) {
						t.Fatalf("%s, %v: token %d: %v, want %v of %v", name, c, i, got[i], want, top)
					}
				} else if !math.IsNaN(float64(got[i].LogProb)) || got[i].Top != nil {
					t.Fatalf("%s, %v: token %d: %v, though nothing is known", name, c, i, got[i])
				}
				if i >= lost && !full {
					if _, err := alone.Append(prompt[i : i+1]); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
	c := DefaultConfig()
	c.VocabSize, c.NumLayers, c.NumHeads, c.EmbedDim = 100, 1, 2, 32
	whole, err := Random(c, tensor.F32, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := whole.NewBatch().Add([]int{1}, nil, PromptLogProbs(0)); err == nil || !strings.Contains(err.Error(), "reference") {
		t.Errorf("kind reference: %v", err)
	}
	if CheckOptions(PromptLogProbs(-1)) == nil {
		t.Error("-1 others are taken")
	}
}

func TestNoLogProbs(t *testing.T) {
	m := small(t)
	b := m.NewBatch()
	var qs [2]*Sequence
	for i, o := range []Option{TopLogProbs(0), NoLogProbs()} {
		var err error
		if qs[i], err = b.Add([]int{1, 2}, nil, MaxTokens(20), Seed(3), TopK(40), o); err != nil {
			t.Fatal(err)
		}
	}
	for b.Len() > 0 {
		if err := b.Step(); err != nil {
			t.Fatal(err)
		}
	}
	for i, token := range qs[0].Tokens() {
		if p := qs[1].Tokens()[i]; token.ID != p.ID || !math.IsNaN(float64(p.LogProb)) || math.IsNaN(float64(token.LogProb)) {
			t.Fatalf("token %d: %v, without log-probabilities %v", i, token, p)
		}
	}
}

func TestPause(t *testing.T) {
	m := small(t)
	b := m.NewBatch()
	var qs [2]*Sequence
	for i := range qs {
		var err error
		if qs[i], err = b.Add([]int{1, 2}, nil, MaxTokens(20), Seed(3)); err != nil {
			t.Fatal(err)
		}
	}
	qs[0].Pause(true)
	for range 7 {
		if err := b.Step(); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(qs[0].Tokens()); n != 0 {
		t.Errorf("a paused sequence has %d tokens", n)
	}
	qs[0].Pause(false)
	for b.Len() > 0 {
		if err := b.Step(); err != nil {
			t.Fatal(err)
		}
	}
	for i, token := range qs[0].Tokens() {
		if token.ID != qs[1].Tokens()[i].ID {
			t.Fatal("pausing changed the tokens")
		}
	}
}

func TestFinite(t *testing.T) {
	m := small(t)
	s := m.NewState()
	if _, err := s.Append([]int{1, 2, 3}); err != nil {
		t.Fatal(err)
	}
	if !s.Finite() {
		t.Error("a state of the model isn't finite")
	}
	for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(-1))} {
		c := s.Clone()
		c.logits[99] = bad
		if c.Finite() {
			t.Errorf("logit %v is taken for finite", bad)
		}
		c = s.Clone()
		for p := range c.layers.states()[1].Parts {
			p[len(p)-1] = bad
		}
		if c.Finite() {
			t.Errorf("%v in a layer is taken for finite", bad)
		}
	}
}
