package rwkv

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"microrwkv/tensor"
)

// randomConfig returns a small config of a kind, with sizes that fill no vector register evenly.
func randomConfig(k Kind, rng *rand.Rand) Config {
	heads := 1 + rng.IntN(3)
	c := Config{
		Kind: k, BlockSize: 20 + rng.IntN(60), VocabSize: 11 + rng.IntN(90), NumLayers: 1 + rng.IntN(3),
		NumHeads: heads, EmbedDim: 4 * heads * (1 + rng.IntN(6)), Bias: rng.IntN(2) == 0,
	}
	switch k {
	case Reference, Causal:
		c.NumExperts = 1 + rng.IntN(5)
		c.NumActiveExperts = 1 + rng.IntN(c.NumExperts)
		c.ExpertDim = 1 + rng.IntN(30)
	case RWKV4, RWKV5, RWKV6, RWKV7:
		c = randomOfficial(c, rng)
	}
	return c
}

// randomOfficial makes c a config of an official kind: of any version, with heads of any size, and
// where there can be one with another width of the time mix.
func randomOfficial(c Config, rng *rand.Rand) Config {
	c.BlockSize, c.Bias, c.FFNDim = 0, false, 1+rng.IntN(200)
	c.InitialState = c.Kind != RWKV4 && rng.IntN(3) == 0
	if rng.IntN(2) == 0 {
		c.EmbedDim = c.NumHeads * 64
	}
	switch c.Kind {
	case RWKV4, RWKV5, RWKV6:
		if rng.IntN(3) == 0 {
			c.AttDim = c.NumHeads * (1 + rng.IntN(40))
		}
		if c.Kind == RWKV5 {
			c.Version = [...]string{"5.0", "5.1", "5.2"}[rng.IntN(3)]
		}
	case RWKV7:
		if rng.IntN(3) == 0 {
			c.DeepEmbed = 1 + rng.IntN(8)
		}
	}
	return c
}

// limited reports whether a kind has a block_size.
func limited(k Kind) bool { return slices.Contains([]Kind{Reference, Causal, X051a}, k) }

// eachRandom runs a test on random models of some kinds.
func eachRandom(t *testing.T, kinds []Kind, f func(t *testing.T, m *Model, rng *rand.Rand)) {
	for _, k := range kinds {
		for seed := range uint64(4) {
			t.Run(fmt.Sprintf("%s/%d", k, seed), func(t *testing.T) {
				rng := rand.New(rand.NewPCG(seed, 7))
				dtype := [...]tensor.DType{tensor.F32, tensor.BF16}[seed%2]
				m, err := Random(randomConfig(k, rng), dtype, seed)
				if err != nil {
					t.Fatal(err)
				}
				f(t, m, rng)
			})
		}
	}
}

var (
	allKinds       = []Kind{Reference, Causal, X051a, RWKV4, RWKV5, RWKV6, RWKV7}
	streamingKinds = allKinds[1:]
)

func randomIDs(n int, m *Model, rng *rand.Rand) []int {
	ids := make([]int, n)
	for i := range ids {
		ids[i] = rng.IntN(m.config.VocabSize)
	}
	return ids
}

// must returns the logits of an Append, copied.
func must(t *testing.T, s *State, ids ...int) []float32 {
	t.Helper()
	logits, err := s.Append(ids)
	if err != nil {
		t.Fatal(err)
	}
	return slices.Clone(logits)
}

// near fails unless two results of the same formula in other orders of summation agree. Each
// logit is a sum over C ≤ 200 products behind a few layers of such sums; 1e-4 of the largest logit
// is some hundred times the rounding that was measured, and a tenth of what one wrong row makes.
func near(t *testing.T, what string, got, want []float32) {
	t.Helper()
	var scale, worst float64
	for i := range want {
		scale = max(scale, math.Abs(float64(want[i])))
		worst = max(worst, math.Abs(float64(want[i])-float64(got[i])))
	}
	if !(worst <= 1e-4*scale) {
		t.Errorf("%s: error %g with logits up to %g", what, worst, scale)
	}
}

// However a sequence is cut into calls, the logits agree with those of the whole.
func TestAppendInPieces(t *testing.T) {
	eachRandom(t, allKinds, func(t *testing.T, m *Model, rng *rand.Rand) {
		ids := randomIDs(19, m, rng)
		whole, err := m.Forward(ids)
		if err != nil {
			t.Fatal(err)
		}
		s := m.NewState()
		for from := 0; from < len(ids); {
			n := min(1+rng.IntN(7), len(ids)-from)
			got := must(t, s, ids[from:from+n]...)
			from += n
			want := whole.Row(from - 1)
			if m.config.Kind == Reference { // not causal: the prefix alone counts
				prefix, err := m.Forward(ids[:from])
				if err != nil {
					t.Fatal(err)
				}
				want = prefix.Row(from - 1)
			}
			near(t, fmt.Sprintf("after %d of %d tokens", from, len(ids)), got, want)
		}
	})
}

// Long prompts go through the layers in several chunks.
func TestAppendLongPrompt(t *testing.T) {
	for _, k := range streamingKinds {
		rng := rand.New(rand.NewPCG(3, 3))
		c := randomConfig(k, rng)
		if limited(k) {
			c.BlockSize = 3*prefillChunk + 50
		}
		m, err := Random(c, tensor.F32, 5)
		if err != nil {
			t.Fatal(err)
		}
		ids := randomIDs(2*prefillChunk+33, m, rng)
		whole, err := m.Forward(ids)
		if err != nil {
			t.Fatal(err)
		}
		near(t, string(k), must(t, m.NewState(), ids...), whole.Row(len(ids)-1))
	}
}

// The bits of a sequence don't depend on what else is in a batch.
func TestAppendBatchGivesTheSameBits(t *testing.T) {
	eachRandom(t, allKinds, func(t *testing.T, m *Model, rng *rand.Rand) {
		const n = 9
		var alone, together [n]*State
		for i := range n {
			alone[i], together[i] = m.NewState(), m.NewState()
		}
		for range 4 {
			var ids [n][]int
			for i := range n {
				ids[i] = randomIDs(rng.IntN(9), m, rng)
				must(t, alone[i], ids[i]...)
			}
			if err := m.AppendBatch(together[:], ids[:]); err != nil {
				t.Fatal(err)
			}
			for i := range n {
				if !slices.Equal(alone[i].Logits(), together[i].Logits()) {
					t.Fatalf("sequence %d: other bits in a batch", i)
				}
			}
		}
	})
}

func TestForwardBatchGivesTheSameBits(t *testing.T) {
	eachRandom(t, allKinds, func(t *testing.T, m *Model, rng *rand.Rand) {
		var seqs [][]int
		for range 5 {
			seqs = append(seqs, randomIDs(1+rng.IntN(19), m, rng))
		}
		together, err := m.ForwardBatch(seqs)
		if err != nil {
			t.Fatal(err)
		}
		for i, ids := range seqs {
			alone, err := m.Forward(ids)
			if err != nil {
				t.Fatal(err)
			}
			for r := range ids {
				if !slices.Equal(alone.Row(r), together[i].Row(r)) {
					t.Fatalf("sequence %d of %d tokens, row %d: other bits in a batch", i, len(ids), r)
				}
			}
		}
	})
}

func TestBitsDontDependOnThreads(t *testing.T) {
	defer tensor.SetThreads(0)
	eachRandom(t, allKinds, func(t *testing.T, m *Model, rng *rand.Rand) {
		ids := randomIDs(20, m, rng)
		var first []float32
		for _, threads := range []int{1, 2, 5} {
			tensor.SetThreads(threads)
			logits, err := m.Forward(ids)
			if err != nil {
				t.Fatal(err)
			}
			if first == nil {
				first = logits.Data()
			} else if !slices.Equal(first, logits.Data()) {
				t.Fatalf("other bits with %d threads", threads)
			}
		}
	})
}

// Saved, restored, cloned and reset states go on with the same bits.
func TestStateIsAValue(t *testing.T) {
	eachRandom(t, allKinds, func(t *testing.T, m *Model, rng *rand.Rand) {
		s := m.NewState()
		must(t, s, randomIDs(1+rng.IntN(100), m, rng)...) // often beyond block_size
		clone := s.Clone()
		saved, err := s.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		if len(saved) != s.Size() {
			t.Errorf("%d bytes saved, Size says %d", len(saved), s.Size())
		}
		restored := m.NewState()
		must(t, restored, 1, 2, 3)
		if err := restored.UnmarshalBinary(saved); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(restored.Logits(), s.Logits()) || restored.Len() != s.Len() || restored.ContextLen() != s.ContextLen() {
			t.Error("a restored state differs")
		}
		for range 3 {
			ids := randomIDs(1+rng.IntN(30), m, rng)
			want := must(t, s, ids...)
			if !slices.Equal(must(t, clone, ids...), want) {
				t.Error("a clone goes on with other bits")
			}
			if !slices.Equal(must(t, restored, ids...), want) {
				t.Error("a restored state goes on with other bits")
			}
		}
		ids := randomIDs(7, m, rng)
		s.Reset()
		if !slices.Equal(must(t, s, ids...), must(t, m.NewState(), ids...)) {
			t.Error("a reset state differs from a new one")
		}
	})
}

func TestUnmarshalRefuses(t *testing.T) {
	eachRandom(t, allKinds, func(t *testing.T, m *Model, rng *rand.Rand) {
		s := m.NewState()
		must(t, s, randomIDs(12, m, rng)...)
		saved, _ := s.MarshalBinary()
		victim := m.NewState()
		before := must(t, victim, 1, 2)

		for i := range 50 {
			bad := slices.Clone(saved)
			if i%2 == 0 {
				bad = bad[:rng.IntN(len(bad))]
			} else {
				bad[rng.IntN(len(bad))] ^= 1 << rng.IntN(8)
			}
			if err := victim.UnmarshalBinary(bad); !errors.Is(err, ErrStateFormat) {
				t.Fatalf("damaged state %d: error %v", i, err)
			}
		}
		other, err := Random(m.config, tensor.F32, 999)
		if err != nil {
			t.Fatal(err)
		}
		foreign := other.NewState()
		must(t, foreign, 1)
		b, _ := foreign.MarshalBinary()
		if err := victim.UnmarshalBinary(b); !errors.Is(err, ErrStateModel) {
			t.Errorf("another model's state: error %v", err)
		}
		if !slices.Equal(victim.Logits(), before) || victim.Len() != 2 {
			t.Error("a refused state has changed the receiver")
		}
	})
}

// At block_size each rule leaves the context it promises.
func TestFullContext(t *testing.T) {
	eachRandom(t, []Kind{Reference, Causal, X051a}, func(t *testing.T, m *Model, rng *rand.Rand) {
		block := m.config.BlockSize
		for _, rule := range []FullRule{KeepHalf, Recompute} {
			s := m.NewState()
			if err := s.SetFullRule(rule); err != nil {
				if m.config.Kind == Reference && rule == KeepHalf {
					continue
				}
				t.Fatal(err)
			}
			var all, context []int
			for len(all) < 3*block {
				ids := randomIDs(1+rng.IntN(block/3), m, rng)
				all = append(all, ids...)
				for _, id := range ids { // the rule, token by token
					if len(context) == block {
						keep := block / 2
						if rule == Recompute {
							keep = block - 1
						}
						context = context[block-keep:]
					}
					context = append(context[:len(context):len(context)], id)
				}
				got := must(t, s, ids...)
				if s.ContextLen() != len(context) || s.Len() != len(all) {
					t.Fatalf("rule %d: context of %d after %d tokens, want %d after %d", rule, s.ContextLen(), s.Len(), len(context), len(all))
				}
				want, err := m.Forward(context)
				if err != nil {
					t.Fatal(err)
				}
				near(t, fmt.Sprintf("rule %d after %d tokens", rule, len(all)), got, want.Row(len(context)-1))
			}
		}
		s := m.NewState()
		if err := s.SetFullRule(Refuse); err != nil {
			t.Fatal(err)
		}
		want := must(t, s, randomIDs(block, m, rng)...)
		if _, err := s.Append([]int{0}); !errors.Is(err, ErrFull) {
			t.Errorf("appending to a full context: error %v", err)
		}
		if !slices.Equal(s.Logits(), want) || s.Len() != block {
			t.Error("a refused token has changed the state")
		}
	})
}

func TestAppendRefuses(t *testing.T) {
	eachRandom(t, allKinds, func(t *testing.T, m *Model, rng *rand.Rand) {
		s := m.NewState()
		want := must(t, s, 1, 2)
		for _, id := range []int{-1, m.config.VocabSize, math.MaxInt} {
			if _, err := s.Append([]int{3, id}); err == nil {
				t.Errorf("token %d: no error", id)
			}
		}
		if err := m.AppendBatch([]*State{s, s}, [][]int{{1}, {2}}); err == nil {
			t.Error("one state twice in a batch: no error")
		}
		if !slices.Equal(s.Logits(), want) || s.Len() != 2 {
			t.Error("a refused token has changed the state")
		}
	})
}

func TestAppendDoesNotAllocate(t *testing.T) {
	eachRandom(t, allKinds, func(t *testing.T, m *Model, rng *rand.Rand) {
		s := m.NewState()
		id := []int{1}
		for range 3 * max(m.config.BlockSize, 20) { // until all scratch has its size
			must(t, s, id...)
		}
		if n := testing.AllocsPerRun(50, func() { s.Append(id) }); n != 0 {
			t.Errorf("%v allocations a token", n)
		}
	})
}
