package rwkv

import (
	"cmp"
	"math"
	"math/rand/v2"
	"microrwkv/tensor"
	"slices"
	"testing"
)

// officialProbs is PIPELINE.sample_logits of the official package, in float64: the probabilities that
// it draws from.
func officialProbs(logits []float32, temperature, topP float64, topK int) []float64 {
	probs := make([]float64, len(logits))
	top := slices.Max(logits)
	var total float64
	for i, l := range logits {
		probs[i] = math.Exp(float64(l) - float64(top))
		total += probs[i]
	}
	order := make([]int, len(logits)) // likeliest first, of equal ones the lower id
	for i := range probs {
		probs[i] /= total
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(probs[b], probs[a]) })
	var sum float64
	for _, id := range order {
		if sum += probs[id]; sum >= topP {
			cutoff := probs[id]
			for i, p := range probs {
				if p < cutoff {
					probs[i] = 0
				}
			}
			break
		}
	}
	if topK > 0 && topK < len(order) {
		for _, id := range order[topK:] {
			probs[id] = 0
		}
	}
	total = 0
	for i, p := range probs {
		probs[i] = math.Pow(p, 1/temperature)
		total += probs[i]
	}
	for i := range probs {
		probs[i] /= total
	}
	return probs
}

func TestOfficialSamplerDistribution(t *testing.T) {
	logits := []float32{1, -3, 2, 0.5, 2, 1, -3, 2.5, 0.25, 1}
	for _, c := range []struct {
		temperature, topP float64
		topK              int
	}{
		{1, 0.85, 0}, {0.5, 0.8, 0}, {2, 0.7, 0}, {3, 1, 3}, {1.5, 0.9, 4}, {2, 0.97, 6}, {0.3, 1, 0}, {2, 0.85, 3},
	} {
		p := with(func(p *sampling) {
			p.Sampler, p.Temperature, p.TopP, p.TopK, p.Seed = Official, c.temperature, c.topP, c.topK, 11
		})
		s := testSampler(p, len(logits))
		counts := make([]int, len(logits))
		for range 20_000 {
			id, _, err := s.next(logits)
			if err != nil {
				t.Fatal(err)
			}
			counts[id]++
		}
		chiSquared(t, counts, officialProbs(logits, c.temperature, c.topP, c.topK))
	}
}

// TestOfficialPenalty compares with the loop of PIPELINE.generate.
func TestOfficialPenalty(t *testing.T) {
	const vocab = 12
	rng := rand.New(rand.NewPCG(3, 4))
	for range 50 {
		p := with(func(p *sampling) {
			p.Sampler, p.Presence, p.Frequency, p.PenaltyDecay = Official, rng.Float64(), rng.Float64(), []float64{1, 0.996, 0.5}[rng.IntN(3)]
		})
		h := new(history)
		pen := newPenalty(&p, vocab, h, []int{1, 2}, func(id int32) bool { return id < 4 })
		for range 20 {
			h.add(rng.IntN(vocab), rng.IntN(2) == 0)
		}
		h.add(5, false) // the prompt ends
		occurrence := map[int]float64{}
		for range 100 {
			logits, want := make([]float32, vocab), make([]float64, vocab)
			for n, o := range occurrence {
				want[n] -= p.Presence + o*p.Frequency
			}
			pen.apply(logits)
			for i := range logits {
				// One rounding to float32, and sums of 100 terms in another order.
				if !(math.Abs(float64(logits[i])-want[i]) <= 0x1p-24*math.Abs(want[i])+1e-12) {
					t.Fatalf("decay %g: token %d: %g, want %g", p.PenaltyDecay, i, logits[i], want[i])
				}
			}
			id := rng.IntN(vocab)
			for n := range occurrence {
				occurrence[n] *= p.PenaltyDecay
			}
			if id >= 4 {
				occurrence[id]++
			} else {
				occurrence[id] += 0
			}
			h.add(id, true)
		}
	}
}

// TestGreedy takes the lowest of the likeliest ids, by every way to ask for it.
func TestGreedy(t *testing.T) {
	inf := float32(math.Inf(1))
	for _, sampler := range []string{Standard, Official} {
		for name, change := range map[string]func(p *sampling){
			"temperature 0": func(p *sampling) { p.Temperature = 0 },
			"top_p 0":       func(p *sampling) { p.TopP = 0 },
			"top_k 1":       func(p *sampling) { p.TopK, p.Temperature = 1, 3 },
		} {
			for seed := range uint64(20) {
				p := with(change)
				p.Sampler, p.Seed = sampler, seed
				for want, logits := range map[int][]float32{1: {0, 2, 2, 1, 2}, 2: {0, 1, inf, inf}, 0: {-inf + 1, -inf}} {
					if want == 0 {
						logits = []float32{-1, -inf}
					}
					if id, _, err := testSampler(p, len(logits)).next(logits); err != nil || id != want {
						t.Errorf("%s, %s: token %d of %v (%v), want %d", sampler, name, id, logits, err, want)
					}
				}
			}
		}
	}
}

func TestBanAndLogitBias(t *testing.T) {
	p := with(func(p *sampling) { p.TopK, p.Ban, p.LogitBias = 1, []int{2}, map[int]float64{0: 1.5} })
	if id, _, err := testSampler(p, 4).next([]float32{0, 1, 5, 0}); err != nil || id != 0 {
		t.Errorf("token %d (%v), want 0", id, err)
	}
	m, err := Random(smallConfig(RWKV7), tensor.F32, 1)
	if err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]Option{
		"ban": Ban(m.config.VocabSize), "negative ban": Ban(-1), "bias": LogitBias(map[int]float64{m.config.VocabSize: 1}),
	} {
		for _, err := range m.GenerateTokens(t.Context(), []int{1}, o) {
			if err == nil {
				t.Errorf("%s outside the vocabulary is taken", name)
			}
			break
		}
	}
}
