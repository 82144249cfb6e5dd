package rwkv

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"

	"microrwkv/tensor"
)

// longModel returns a wild model that has room for a few windows of attention.
func longModel(t testing.TB, k Kind, seed uint64) (*Model, *rand.Rand) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 5))
	c := wildConfig(k, 530+rng.IntN(100), rng)
	c.NumLayers = 1 + rng.IntN(2)
	return wildModel(t, c, rng), rng
}

// eachLong runs a test on long models.
func eachLong(t *testing.T, kinds []Kind, f func(t *testing.T, m *Model, rng *rand.Rand)) {
	for _, k := range kinds {
		for seed := range uint64(seeds(2)) {
			t.Run(fmt.Sprintf("%s/%d", k, seed), func(t *testing.T) {
				m, rng := longModel(t, k, seed)
				f(t, m, rng)
			})
		}
	}
}

// anyLength returns a length from 1 to most, short and long ones alike.
func anyLength(most int, rng *rand.Rand) int {
	return 1 + rng.IntN(min(most, [...]int{1, 5, 80, 600}[rng.IntN(4)]))
}

// sameBits fails unless two states are equal in all that can be seen of them.
func sameBits(t *testing.T, what string, got, want *State) {
	t.Helper()
	if got.Len() != want.Len() || got.ContextLen() != want.ContextLen() {
		t.Fatalf("%s: %d tokens, %d in the context, want %d and %d", what, got.Len(), got.ContextLen(), want.Len(), want.ContextLen())
	}
	if !slices.Equal(got.Logits(), want.Logits()) {
		t.Fatalf("%s: other bits after %d tokens", what, want.Len())
	}
}

// A state that is saved and restored, or cloned, anywhere in a sequence, goes on with the same
// bits, also where windows and contexts are full; and what happens to a copy doesn't reach it.
func TestCopiesGoOnWithTheSameBits(t *testing.T) {
	eachLong(t, allKinds, func(t *testing.T, m *Model, rng *rand.Rand) {
		whole, saved, cloned := m.NewState(), m.NewState(), m.NewState()
		rounds := 14
		if testing.Short() {
			rounds = 4
		}
		for range rounds {
			ids := randomIDs(anyLength(600, rng), m, rng)
			must(t, whole, ids...)

			b, err := saved.MarshalBinary()
			if err != nil {
				t.Fatal(err)
			}
			if len(b) != saved.Size() || cap(b) != len(b) {
				t.Fatalf("%d bytes in room for %d, Size says %d", len(b), cap(b), saved.Size())
			}
			must(t, saved, randomIDs(3, m, rng)...) // what comes next must go, or come from somewhere else
			if rng.IntN(2) == 0 {
				saved = m.NewState()
			}
			if err := saved.UnmarshalBinary(b); err != nil {
				t.Fatal(err)
			}
			must(t, saved, ids...)
			sameBits(t, "restored", saved, whole)

			branch := cloned.Clone()
			if rng.IntN(2) == 0 {
				branch, cloned = cloned, branch // go on with the clone, or with what it was made from
			}
			must(t, branch, randomIDs(anyLength(300, rng), m, rng)...)
			must(t, cloned, ids...)
			must(t, branch, randomIDs(1, m, rng)...)
			sameBits(t, "rolled back", cloned, whole)
		}
	})
}

// States of very different lengths that join and leave a batch end with the bits they get alone.
func TestLongBatchesGiveTheSameBits(t *testing.T) {
	eachLong(t, allKinds, func(t *testing.T, m *Model, rng *rand.Rand) {
		var alone, together [6]*State
		for i := range alone {
			alone[i], together[i] = m.NewState(), m.NewState()
		}
		for range 5 {
			var batch []*State
			var feed [][]int
			for _, i := range rng.Perm(len(alone)) {
				if rng.IntN(3) == 0 {
					continue
				}
				ids := randomIDs(rng.IntN(2)*anyLength(600, rng), m, rng)
				must(t, alone[i], ids...)
				batch, feed = append(batch, together[i]), append(feed, ids)
			}
			if err := m.AppendBatch(batch, feed); err != nil {
				t.Fatal(err)
			}
			for i := range alone {
				sameBits(t, fmt.Sprintf("sequence %d of a batch", i), together[i], alone[i])
			}
		}
	})
}

// Any number of threads, and of goroutines that share a model, gives the same bits.
func TestLongSequencesDontDependOnThreads(t *testing.T) {
	defer tensor.SetThreads(0)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	eachLong(t, allKinds, func(t *testing.T, m *Model, rng *rand.Rand) {
		ids := randomIDs(300+rng.IntN(200), m, rng)
		run := func() ([]float32, error) {
			all, err := m.Forward(ids)
			if err != nil {
				return nil, err
			}
			last, err := m.LastLogits(ids[:280], ids)
			if err != nil {
				return nil, err
			}
			s := m.NewState()
			for _, part := range [][]int{ids[:270], ids[270:271], ids[271:]} {
				if _, err := s.Append(part); err != nil {
					return nil, err
				}
			}
			return slices.Concat(all.Data(), last[0].Data(), last[1].Data(), s.Logits()), nil
		}
		want, err := run()
		if err != nil {
			t.Fatal(err)
		}
		counts := []int{1, 2, 3, 5}
		if testing.Short() {
			counts = []int{3}
		}
		for _, threads := range counts {
			tensor.SetThreads(threads)
			runtime.GOMAXPROCS(threads)
			var wg sync.WaitGroup
			for range 2 {
				wg.Go(func() {
					if got, err := run(); err != nil || !slices.Equal(got, want) {
						t.Errorf("other bits with %d threads (error %v)", threads, err)
					}
				})
			}
			wg.Wait()
		}
	})
}

// contextAfter is what FullRule says a state remembers, one token at a time.
func contextAfter(ids []int, block int, rule FullRule) []int {
	var context []int
	for _, id := range ids {
		if len(context) == block {
			keep := block / 2
			if rule == Recompute {
				keep = block - 1
			}
			context = slices.Clone(context[block-keep:])
		}
		context = append(context, id)
	}
	return context
}

// Contexts of very few and of odd numbers of tokens, and many more tokens at once than they hold.
func TestTinyContexts(t *testing.T) {
	for _, k := range []Kind{Reference, Causal, X051a} {
		for block := 1; block <= 9; block++ {
			t.Run(fmt.Sprintf("%s/%d", k, block), func(t *testing.T) {
				rng := rand.New(rand.NewPCG(uint64(block), 11))
				c := wildConfig(k, block, rng)
				c.BlockSize = block
				m := wildModel(t, c, rng)
				for rule := range Refuse {
					if k == Reference && rule == KeepHalf {
						continue
					}
					one, many := m.NewState(), m.NewState()
					for _, s := range []*State{one, many} {
						if err := s.SetFullRule(rule); err != nil {
							t.Fatal(err)
						}
					}
					var all []int
					for range 12 {
						ids := randomIDs(rng.IntN(4*block+1), m, rng)
						all = append(all, ids...)
						must(t, many, ids...)
						for _, id := range ids {
							must(t, one, id)
						}
						want := contextAfter(all, block, rule)
						for _, s := range []*State{one, many} {
							if s.Len() != len(all) || s.ContextLen() != len(want) {
								t.Fatalf("rule %d: context of %d after %d tokens, want %d after %d", rule, s.ContextLen(), s.Len(), len(want), len(all))
							}
							if len(want) == 0 {
								continue
							}
							logits, err := m.LastLogits(want)
							if err != nil {
								t.Fatal(err)
							}
							near(t, fmt.Sprintf("rule %d after %d tokens", rule, len(all)), s.Logits(), logits[0].Data())
						}
					}
				}
			})
		}
	}
}

// A prompt longer than the context is as its newest block_size tokens.
func TestLongPrompts(t *testing.T) {
	eachRandom(t, []Kind{Reference, Causal, X051a}, func(t *testing.T, m *Model, rng *rand.Rand) {
		ids := randomIDs(m.config.BlockSize+1+rng.IntN(200), m, rng)
		generate := func(prompt []int) (got []int) {
			for tok, err := range m.GenerateTokens(t.Context(), prompt, MaxTokens(5), TopK(1)) {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, tok.ID)
			}
			return got
		}
		newest := ids[len(ids)-m.config.BlockSize:]
		want := generate(newest)
		if got := generate(ids); !slices.Equal(got, want) {
			t.Errorf("%v, after its newest tokens %v", got, want)
		}
		b := m.NewBatch()
		q, err := b.Add(ids, nil, MaxTokens(5), TopK(1))
		if err != nil {
			t.Fatal(err)
		}
		for b.Len() > 0 {
			if err := b.Step(); err != nil {
				t.Fatal(err)
			}
		}
		for i, tok := range q.Tokens() {
			if tok.ID != want[i] {
				t.Errorf("in a batch token %d is %d, want %d", i, tok.ID, want[i])
			}
		}
	})
}

// A stream of 100,000 tokens takes the memory of a short one.
func TestEndlessStream(t *testing.T) {
	const warm, piece = 2_000, 50
	tokens := 100_000
	if testing.Short() {
		tokens = 20_000
	}
	tensor.SetThreads(1) // there is nothing to share in a model of this size
	defer tensor.SetThreads(0)
	for _, k := range streamingKinds {
		t.Run(string(k), func(t *testing.T) {
			c := Config{Kind: k, BlockSize: 32, VocabSize: 7, NumLayers: 1, NumHeads: 1, EmbedDim: 8, NumExperts: 1, NumActiveExperts: 1, ExpertDim: 5}
			if !limited(k) {
				c = Config{Kind: k, VocabSize: 7, NumLayers: 1, NumHeads: 1, EmbedDim: 8, FFNDim: 8}
			}
			m, err := Random(c, tensor.F32, 1)
			if err != nil {
				t.Fatal(err)
			}
			rng := rand.New(rand.NewPCG(1, 1))
			s := m.NewState()
			heap := func() uint64 {
				runtime.GC()
				var stats runtime.MemStats
				runtime.ReadMemStats(&stats)
				return stats.HeapAlloc
			}
			ids := randomIDs(piece, m, rng)
			var before uint64
			for s.Len() < tokens {
				if s.Len() == warm {
					before = heap()
				}
				must(t, s, ids[:1]...)
				if _, err := s.Append(ids[:piece-1]); err != nil {
					t.Fatal(err)
				}
			}
			if after := heap(); after > before+64<<10 {
				t.Errorf("%d bytes after %d tokens, %d after %d", after, tokens, before, warm)
			}
			if s.Len() != tokens {
				t.Errorf("%d tokens", s.Len())
			}
		})
	}
}

// The loops that generate allocate nothing for a token. As AllocsPerRun does, this measures on one
// thread: on more, a goroutine that is late with a buffer may make another take a new one.
func TestGenerationDoesNotAllocate(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	eachRandom(t, allKinds, func(t *testing.T, m *Model, rng *rand.Rand) {
		warm, measured := 2*max(m.config.BlockSize, 20), 60
		s := m.NewState()
		must(t, s, 1)
		n := 0
		var before, after runtime.MemStats
		for _, err := range s.GenerateTokens(t.Context(), MaxTokens(warm+measured), TopP(0.9), RepetitionPenalty(1.2)) {
			if err != nil {
				t.Fatal(err)
			}
			switch n++; n {
			case warm:
				runtime.ReadMemStats(&before)
			case warm + measured:
				runtime.ReadMemStats(&after)
			}
		}
		if got := after.Mallocs - before.Mallocs; n != warm+measured || got > uint64(measured)/10 { // the runtime's own now and then
			t.Errorf("%d allocations in %d tokens", got, measured)
		}

		b := m.NewBatch()
		for range 3 {
			if _, err := b.Add([]int{1, 2}, nil, MaxTokens(1000), TopK(3)); err != nil {
				t.Fatal(err)
			}
		}
		step := func() {
			if err := b.Step(); err != nil {
				t.Fatal(err)
			}
		}
		for range warm {
			step()
		}
		// A sequence keeps its tokens: their slice grows now and then.
		if got := testing.AllocsPerRun(measured, step); got != 0 {
			t.Errorf("%v allocations in a batch's step", got)
		}
	})
}
