package rwkv

import (
	"bytes"
	"math"
	"slices"
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
