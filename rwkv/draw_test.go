package rwkv

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"gonum.org/v1/gonum/stat/distuv"
)

// chiSquared fails if counts differ from what probabilities p predict more than happens once in a
// million times. Outcomes expected fewer than 5 times count together, as usual.
func chiSquared(t *testing.T, counts []int, p []float64) {
	t.Helper()
	total := 0
	for _, n := range counts {
		total += n
	}
	var x, restWant float64
	restGot, cells := 0, 0
	cell := func(got int, want float64) {
		x += (float64(got) - want) * (float64(got) - want) / want
		cells++
	}
	for i, n := range counts {
		switch want := p[i] * float64(total); {
		case p[i] == 0 && n > 0:
			t.Fatalf("%d was picked %d times, want 0", i, n)
		case want < 5:
			restGot += n
			restWant += want
		default:
			cell(n, want)
		}
	}
	if restWant >= 5 {
		cell(restGot, restWant)
	}
	if cells < 2 {
		return // nothing is left to chance
	}
	limit := distuv.ChiSquared{K: float64(cells - 1)}.Quantile(1 - 1e-6)
	if !(x <= limit) {
		t.Errorf("χ² = %.1f of %d cells, want at most %.1f; counts %v", x, cells, limit, counts)
	}
}

func TestSamplerDistribution(t *testing.T) {
	slow(t)
	inf := float32(math.Inf(1))
	r := rand.New(rand.NewPCG(7, 8))
	wide := make([]float32, 1000)
	for i := range wide {
		wide[i] = float32(r.NormFloat64() * 3)
	}
	few := []float32{1, -inf, 2, 0.5, 2, 1, -3, 2.5}
	swap := func(x []float32) { x[0], x[6], x[7] = x[6], x[7]+1, x[0] }
	for _, c := range []struct {
		name   string
		logits []float32
		change func(p *sampling)
	}{
		{"plain", few, func(p *sampling) {}},
		{"plain wide", wide, func(p *sampling) {}},
		{"one token", []float32{3}, func(p *sampling) {}},
		{"temperature", few, func(p *sampling) { p.Temperature = 0.7 }},
		{"hot", wide, func(p *sampling) { p.Temperature = 5 }},
		{"as hot as can be", few, func(p *sampling) { p.Temperature = math.MaxFloat64 }},
		{"as cold as can be", few, func(p *sampling) { p.Temperature = 5e-324 }},
		{"greedy", few, func(p *sampling) { p.TopK = 1 }},
		{"greedy with ties", few[:7], func(p *sampling) { p.TopK = 1 }},
		{"top-k with ties", few, func(p *sampling) { p.TopK = 2; p.Temperature = 2 }},
		{"top-k wide", wide, func(p *sampling) { p.TopK = 200; p.Temperature = 0.8 }},
		{"top-p with ties", few, func(p *sampling) { p.TopP = 0.5 }},
		{"top-p wide", wide, func(p *sampling) { p.TopP = 0.9; p.Temperature = 1.5 }},
		{"min-p", wide, func(p *sampling) { p.MinP = 0.05 }},
		{"all", wide, func(p *sampling) { p.Temperature, p.TopK, p.TopP, p.MinP = 3, 300, 0.9, 0.2 }},
		{"certain ones", []float32{1, inf, 2, inf, -inf}, func(p *sampling) { p.Temperature = 0.5 }},
		{"certain ones cut", []float32{1, inf, 2, inf, -inf, inf, inf}, func(p *sampling) { p.TopP, p.TopK, p.MinP = 0.5, 3, 0.5 }},
		{"bias", few, func(p *sampling) { p.Bias = swap }},
		{"bias and cuts", wide, func(p *sampling) { p.Bias, p.TopK, p.TopP = swap, 50, 0.9 }},
		{"extremes", []float32{math.MaxFloat32, -math.MaxFloat32, math.MaxFloat32}, func(p *sampling) { p.TopP, p.MinP = 0.9, 0.1 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := with(c.change)
			p.Seed = 42
			probs := make([]float64, len(c.logits))
			biased := slices.Clone(c.logits)
			if p.Bias != nil {
				p.Bias(biased)
			}
			all, _ := distribution(p, biased)
			for _, o := range all {
				probs[o.id] = o.p
			}
			before := slices.Clone(c.logits)
			s := testSampler(p, len(c.logits))
			counts := make([]int, len(c.logits))
			for range 20_000 {
				id, _, err := s.next(c.logits)
				if err != nil {
					t.Fatal(err)
				}
				counts[id]++
			}
			chiSquared(t, counts, probs)
			if !slices.Equal(before, c.logits) {
				t.Error("next changed the logits")
			}
		})
	}
}

// TestSamplerSeed pins what seeds give: the same on every machine, kernel and version.
func TestSamplerSeed(t *testing.T) {
	logits := make([]float32, 1000)
	x := uint32(1)
	for i := range logits { // the numerators are exact
		x = x*1664525 + 1013904223
		logits[i] = float32(int32(x)>>16) / 8192
	}
	for _, c := range []struct {
		change func(p *sampling)
		want   []int
	}{
		{func(p *sampling) {}, []int{205, 708, 311, 441, 376, 75, 735, 494}},
		{func(p *sampling) { p.Seed = 1 }, []int{629, 87, 728, 31, 720, 595, 802, 625}},
		{func(p *sampling) { p.Seed = 1; p.Temperature = 0.8; p.TopK = 200 }, []int{629, 84, 720, 34, 718, 597, 799, 625}},
		{func(p *sampling) { p.Seed = 1; p.TopP = 0.5; p.Repetition = 1.1; p.PenaltyDecay = 0.9 }, []int{651, 93, 752, 46, 732, 623, 802, 638}},
	} {
		p := with(c.change)
		s := testSampler(p, len(logits))
		var got []int
		for range 8 {
			id, _, err := s.next(logits)
			if err != nil {
				t.Fatal(err)
			}
			s.observe(id)
			got = append(got, id)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%+v: %v, want %v", p, got, c.want)
		}
	}
}

// TestSamplerUniform checks that the first and second numbers of neighbouring seeds, and many of
// one seed, are spread evenly.
func TestSamplerUniform(t *testing.T) {
	const cells = 64
	even := make([]float64, cells)
	for i := range even {
		even[i] = 1.0 / cells
	}
	first, second, pairs, one := make([]int, cells), make([]int, cells), make([]int, cells), make([]int, cells)
	s1 := testSampler(neutral, 1)
	for seed := range uint64(20_000) {
		s := testSampler(with(func(p *sampling) { p.Seed = seed }), 1)
		u, v := s.uniform(), s.uniform()
		for _, x := range []float64{u, v} {
			if !(x >= 0 && x < 1) {
				t.Fatalf("seed %d: %g, want a number in [0, 1)", seed, x)
			}
		}
		first[int(u*cells)]++
		second[int(v*cells)]++
		pairs[int(u*8)*8+int(v*8)]++
		one[int(s1.uniform()*cells)]++
	}
	for _, counts := range [][]int{first, second, pairs, one} {
		chiSquared(t, counts, even)
	}
}

// TestSamplerSkipTo finds each of a seed's numbers at its place, whatever was drawn before.
func TestSamplerSkipTo(t *testing.T) {
	p := with(func(p *sampling) { p.Seed = 3 })
	s := testSampler(p, 10)
	var all []float64
	for range 100 {
		all = append(all, s.uniform())
	}
	for _, places := range [][]int{{0, 1, 2}, {7}, {3, 3, 50, 99}, {99}} {
		s, next := testSampler(p, 10), 0
		for _, n := range places {
			s.skipTo(n)
			n = max(n, next) // what is drawn stays drawn
			if got := s.uniform(); got != all[n] {
				t.Errorf("%v: number %d = %g, want %g", places, n, got, all[n])
			}
			next = n + 1
		}
	}
}

func TestSamplerAllocatesNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 14))
	const n = 5000
	for i := range 50 {
		p := randomSampling(r, n)
		if i%2 == 0 {
			p.Repetition, p.Frequency, p.PenaltyDecay = 1.1, 0.5, 0.99
			p.Bias = func(x []float32) { x[0] = 1 }
		}
		s := testSampler(p, n)
		logits := randomLogits(r, n)
		next := 0
		if allocs := testing.AllocsPerRun(20, func() { // many: the runtime allocates now and then
			id, _, err := s.next(logits)
			if err != nil {
				t.Fatal(err)
			}
			s.observe(id)
			s.observe(next)
			next++
		}); allocs > 0 {
			t.Errorf("%+v: %g allocations per token", p, allocs)
		}
	}
}

func BenchmarkSample(b *testing.B) {
	r := rand.New(rand.NewPCG(15, 16))
	for _, vocab := range []int{50304, 65536} {
		logits := make([]float32, vocab) // a language model's: most tokens unlikely, a few likely
		for i := range logits {
			logits[i] = float32(r.NormFloat64()*2 - 3 + 8*math.Pow(r.Float64(), 200))
		}
		for _, c := range []struct {
			name   string
			change func(p *sampling)
		}{
			{"none", func(p *sampling) {}},
			{"none,logprob=off", func(p *sampling) { p.SkipLogProb = true }},
			{"temperature", func(p *sampling) { p.Temperature = 0.8 }},
			{"greedy", func(p *sampling) { p.TopK = 1 }},
			{"greedy,logprob=off", func(p *sampling) { p.TopK = 1; p.SkipLogProb = true }},
			{"top-k200", func(p *sampling) { p.Temperature, p.TopK = 0.8, 200 }},
			{"top-k200+top-p", func(p *sampling) { p.Temperature, p.TopK, p.TopP = 0.8, 200, 0.9 }},
			{"top-k200+top-p,logprob=off", func(p *sampling) { p.Temperature, p.TopK, p.TopP, p.SkipLogProb = 0.8, 200, 0.9, true }},
			{"top-k20000", func(p *sampling) { p.TopK = 20000 }},
			{"top-p", func(p *sampling) { p.TopP = 0.9 }},
			{"top-p,hot", func(p *sampling) { p.Temperature, p.TopP = 100, 0.9 }},
			{"min-p", func(p *sampling) { p.MinP = 0.05 }},
			{"penalties", func(p *sampling) { p.Repetition, p.PenaltyDecay, p.Presence = 1.1, 0.996, 0.5 }},
		} {
			b.Run(fmt.Sprintf("cut=%s/vocab=%d", c.name, vocab), func(b *testing.B) {
				s := testSampler(with(c.change), vocab)
				for range 1000 {
					s.observe(r.IntN(vocab))
				}
				b.ReportAllocs()
				for b.Loop() {
					id, _, err := s.next(logits)
					if err != nil {
						b.Fatal(err)
					}
					s.observe(id)
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tok/s")
			})
		}
	}
}
