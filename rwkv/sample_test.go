package rwkv

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"gonum.org/v1/gonum/stat/distuv"
)

// neutral is sampling with everything off.
var neutral = sampling{Sampling: DefaultSampling()}

// observedSampler is a sampler with a history of its own.
type observedSampler struct {
	*sampler
	h *history
}

func testSampler(p sampling, vocab int) observedSampler {
	h := new(history)
	return observedSampler{newSampler(p, vocab, newPenalty(&p, vocab, h, nil, nil)), h}
}

// observe adds a generated token to the history.
func (s observedSampler) observe(id int) { s.h.add(id, true) }

// with returns neutral with changes.
func with(change func(p *sampling)) sampling {
	p := neutral
	change(&p)
	return p
}

func TestSamplingValidate(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	for _, c := range []struct {
		change func(p *sampling)
		want   string
	}{
		{func(p *sampling) {}, ""},
		{func(p *sampling) { p.Temperature = 1e-300 }, ""},
		{func(p *sampling) { p.Temperature = 0 }, ""},
		{func(p *sampling) { p.Temperature = -1 }, "temperature = -1, want a finite number, 0 (greedy) or more"},
		{func(p *sampling) { p.Temperature = nan }, "temperature = NaN, want a finite number, 0 (greedy) or more"},
		{func(p *sampling) { p.Temperature = inf }, "temperature = +Inf, want a finite number, 0 (greedy) or more"},
		{func(p *sampling) { p.TopK = math.MaxInt }, ""},
		{func(p *sampling) { p.TopK = -1 }, "top_k = -1, want 0 (off) or more"},
		{func(p *sampling) { p.TopP = 0 }, ""},
		{func(p *sampling) { p.TopP = -0.1 }, "top_p = -0.1, want a number from 0 (greedy) to 1 (off)"},
		{func(p *sampling) { p.TopP = 1.5 }, "top_p = 1.5, want a number from 0 (greedy) to 1 (off)"},
		{func(p *sampling) { p.TopP = nan }, "top_p = NaN, want a number from 0 (greedy) to 1 (off)"},
		{func(p *sampling) { p.MinP = 0.99 }, ""},
		{func(p *sampling) { p.MinP = 1 }, "min_p = 1, want a number from 0 (off), below 1"},
		{func(p *sampling) { p.MinP = -0.1 }, "min_p = -0.1, want a number from 0 (off), below 1"},
		{func(p *sampling) { p.MinP = nan }, "min_p = NaN, want a number from 0 (off), below 1"},
		{func(p *sampling) { p.Repetition = 0 }, "repetition penalty = 0, want a finite number above 0 (1 is off)"},
		{func(p *sampling) { p.Repetition = nan }, "repetition penalty = NaN, want a finite number above 0 (1 is off)"},
		{func(p *sampling) { p.Repetition = inf }, "repetition penalty = +Inf, want a finite number above 0 (1 is off)"},
		{func(p *sampling) { p.Presence = -2 }, ""},
		{func(p *sampling) { p.Presence = nan }, "presence penalty = NaN, want a finite number (0 is off)"},
		{func(p *sampling) { p.Frequency = -inf }, "frequency penalty = -Inf, want a finite number (0 is off)"},
		{func(p *sampling) { p.PenaltyDecay = 0 }, "penalty decay = 0, want a number above 0, at most 1 (off)"},
		{func(p *sampling) { p.PenaltyDecay = 1.01 }, "penalty decay = 1.01, want a number above 0, at most 1 (off)"},
		{func(p *sampling) { p.PenaltyDecay = nan }, "penalty decay = NaN, want a number above 0, at most 1 (off)"},
	} {
		p, got := with(c.change), ""
		if err := p.Validate(); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("validate = %q, want %q", got, c.want)
		}
	}
}

// outcome is a token and its probability.
type outcome struct {
	id int
	p  float64
}

// distribution is the definition of sampling from logits, in float64 and with a sort: what may be
// picked, likeliest first, equal ones by id. slack is how many more or fewer top-p could keep if its
// sums were rounded in another order.
func distribution(p sampling, logits []float32) (all []outcome, slack int) {
	top := slices.Max(logits)
	for id, l := range logits {
		if !math.IsInf(float64(top), 1) && !math.IsInf(float64(l), -1) {
			all = append(all, outcome{id, math.Exp((float64(l) - float64(top)) / p.Temperature)})
		}
		if math.IsInf(float64(top), 1) && l == top {
			all = append(all, outcome{id, 1})
		}
	}
	slices.SortStableFunc(all, func(a, b outcome) int { return -cmp.Compare(logits[a.id], logits[b.id]) })

	if p.greedy() {
		return []outcome{{all[0].id, 1}}, 0 // the sort is stable: the lowest id
	}
	if k := p.TopK; k > 0 && k < len(all) {
		for k < len(all) && logits[all[k].id] == logits[all[p.TopK-1].id] {
			k++
		}
		all = all[:k]
	}
	if p.TopP < 1 {
		var total, sum float64
		for _, o := range all {
			total += o.p
		}
		n := 0
		for n < len(all) && sum < p.TopP*total {
			// A sum of n terms has a relative error of at most n·2^-53 in either order.
			if math.Abs(sum-p.TopP*total) < float64(len(all))*0x1p-51*total {
				slack++
			}
			sum += all[n].p
			n++
		}
		for m := n; m < len(all) && sum-p.TopP*total < float64(len(all))*0x1p-51*total; m++ {
			sum += all[m].p
			slack++
		}
		all = all[:n]
	}
	if p.MinP > 0 {
		all = slices.DeleteFunc(all, func(o outcome) bool { return o.p < p.MinP*all[0].p })
	}
	var total float64
	for _, o := range all {
		total += o.p
	}
	for i := range all {
		all[i].p /= total
	}
	return all, slack
}

// randomLogits returns logits of various kinds: with many ties, masked ones, and outliers.
func randomLogits(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	sigma, steps := math.Exp(r.Float64()*6-3), []float64{0, 0.5, 2, 100}[r.IntN(4)]
	for i := range x {
		v := r.NormFloat64() * sigma
		if steps > 0 {
			v = math.Round(v*steps) / steps
		}
		x[i] = float32(v)
	}
	if r.IntN(3) == 0 {
		for range n / 2 {
			x[r.IntN(n)] = float32(math.Inf(-1))
		}
	}
	switch r.IntN(4) {
	case 0:
		x[r.IntN(n)] = float32(sigma * 10)
	case 1:
		slices.Sort(x)
	case 2:
		slices.SortFunc(x, func(a, b float32) int { return cmp.Compare(b, a) })
	}
	x[r.IntN(n)] = float32(r.NormFloat64()) // not all are masked
	return x
}

func randomSampling(r *rand.Rand, n int) sampling {
	p := neutral
	p.Temperature = math.Exp(r.Float64()*5 - 3)
	if r.IntN(2) == 0 {
		p.TopK = 1 + r.IntN(n+n/4)
		if r.IntN(2) == 0 {
			p.TopK = 1 + r.IntN(4)
		}
	}
	if r.IntN(2) == 0 {
		p.TopP = []float64{0.9, 0.5, 0.25, 1e-9, 1 - 0x1p-53, r.Float64() + 1e-12}[r.IntN(6)]
	}
	if r.IntN(2) == 0 {
		p.MinP = r.Float64() * r.Float64()
	}
	p.Seed = r.Uint64()
	return p
}

// TestSamplerCut compares what may be picked with the definition, exactly, over random logits with
// ties and random options.
func TestSamplerCut(t *testing.T) {
	slow(t)
	r := rand.New(rand.NewPCG(5, 6))
	exact, cases := 0, 20_000
	for range cases {
		n := 1 + r.IntN(200)
		if r.IntN(100) == 0 {
			n = 1 + r.IntN(9000) // more than topK's storage
		}
		logits, p := randomLogits(r, n), randomSampling(r, n)
		if p.greedy() {
			p.TopK = 2 // nothing would be cut
		}
		s := testSampler(p, n)
		top, err := highest(logits)
		if err != nil {
			t.Fatal(err)
		}
		c, _ := s.cut(candidates{logits: logits}, top)
		var got []int
		for i, l := range c.logits {
			id := i
			if c.ids != nil {
				id = int(c.ids[i])
			}
			if l != logits[id] {
				t.Fatalf("n=%d %+v: candidate %d has logit %g, want %g", n, p, id, l, logits[id])
			}
			if !math.IsInf(float64(l), -1) { // a masked one has no weight
				got = append(got, id)
			}
		}
		all, slack := distribution(p, logits)
		var want []int
		for _, o := range all {
			want = append(want, o.id)
		}
		if slack > 0 && len(got) != len(want) {
			// Some prefix of the order that differs by the tokens at the border of top-p.
			if d := len(got) - len(want); d > slack || -d > slack {
				t.Fatalf("n=%d %+v: %d candidates, want %d ± %d", n, p, len(got), len(want), slack)
			}
			q := p
			q.TopP, q.MinP = 1, 0
			order, _ := distribution(q, logits)
			want = want[:0]
			for _, o := range order[:len(got)] {
				want = append(want, o.id)
			}
		} else {
			exact++
		}
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("n=%d %+v logits %v:\ncandidates %v\nwant       %v", n, p, logits, got, want)
		}
	}
	if exact < cases*95/100 {
		t.Errorf("only %d of %d cases were compared exactly", exact, cases)
	}
}

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

func TestSamplerLogProb(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	for range 2000 {
		n := 1 + r.IntN(300)
		logits, p := randomLogits(r, n), randomSampling(r, n)
		if r.IntN(3) == 0 {
			p.Presence, p.Repetition = 1, 1.2
		}
		s := testSampler(p, n)
		s.observe(r.IntN(n))
		id, got, err := s.next(logits)
		if err != nil {
			t.Fatal(err)
		}
		want := float64(logits[id]) - float64(slices.Max(logits))
		var sum float64
		for _, l := range logits {
			sum += math.Exp(float64(l) - float64(slices.Max(logits)))
		}
		want -= math.Log(sum)
		// One rounding to float32, and float64's far below it.
		if !(math.Abs(float64(got)-want) <= 0x1p-24*math.Abs(want)+1e-12) {
			t.Fatalf("n=%d %+v: log-probability %g, want %g", n, p, got, want)
		}
	}
	inf := float32(math.Inf(1))
	force := func(id int) func([]float32) { return func(x []float32) { x[id] = inf } }
	for _, c := range []struct {
		logits []float32
		bias   func([]float32)
		want   float64
	}{
		{[]float32{0, 0}, force(1), -math.Ln2},
		{[]float32{0, -inf}, force(1), math.Inf(-1)},
		{[]float32{inf, 3, inf}, nil, -math.Ln2},
		{[]float32{inf, 3, 1}, force(1), math.NaN()}, // 0 or −Inf
	} {
		p := neutral
		p.Bias = c.bias
		id, got, err := testSampler(p, len(c.logits)).next(c.logits)
		want := c.want
		if math.IsNaN(want) {
			want = math.Inf(-1)
			if id == 0 {
				want = 0
			}
		}
		if err != nil || got != float32(want) {
			t.Errorf("next(%v) = %d, %g, %v, want log-probability %g", c.logits, id, got, err, want)
		}
	}
	p := with(func(p *sampling) { p.SkipLogProb = true })
	if _, got, err := testSampler(p, 2).next([]float32{1, 2}); err != nil || got == got {
		t.Errorf("log-probability %g, %v, want NaN", got, err)
	}
}

func TestSamplerErrors(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	set := func(id int, x float32) func([]float32) { return func(l []float32) { l[id] = x } }
	for _, c := range []struct {
		logits []float32
		bias   func([]float32)
		want   string
	}{
		{[]float32{1, nan, 3}, nil, "the logit of token 1 is NaN"},
		{[]float32{nan}, nil, "the logit of token 0 is NaN"},
		{[]float32{-inf, nan}, nil, "the logit of token 1 is NaN"},
		{[]float32{inf, nan}, nil, "the logit of token 1 is NaN"},
		{[]float32{-inf, -inf}, nil, "no token to sample: every logit is -Inf"},
		{[]float32{-inf, -inf}, set(0, 1), "no token to sample: every logit is -Inf"},
		{[]float32{-inf, 1}, set(1, -inf), "after bias and penalties: no token to sample: every logit is -Inf"},
		{[]float32{0, 1}, set(1, nan), "after bias and penalties: the logit of token 1 is NaN"},
	} {
		for _, k := range []int{0, 1, 2} {
			p := neutral
			p.Bias, p.TopK, p.TopP = c.bias, k, 0.5
			s := testSampler(p, len(c.logits))
			fresh := *s.rng
			if _, _, err := s.next(c.logits); err == nil || err.Error() != c.want {
				t.Errorf("next(%v) with top-k %d: error %v, want %s", c.logits, k, err, c.want)
			}
			if *s.rng != fresh {
				t.Errorf("next(%v) took a random number", c.logits)
			}
		}
	}
}

func TestSamplerBias(t *testing.T) {
	logits := []float32{5, 1, 0, 4}
	p := neutral
	p.TopK = 1
	p.Bias = func(x []float32) {
		if !slices.Equal(x, logits) {
			t.Errorf("bias of %v, want %v", x, logits)
		}
		x[0] = float32(math.Inf(-1))
		x[2] += 4.5
	}
	p.Presence = 1 // after the bias: 3.5 for token 2
	s := testSampler(p, 4)
	for i, want := range []int{2, 3} {
		id, _, err := s.next(logits)
		if err != nil || id != want {
			t.Errorf("token %d = %d, %v, want %d", i, id, err, want)
		}
		s.observe(id)
	}
	if logits[0] != 5 || logits[2] != 0 {
		t.Errorf("the caller's logits are %v now", logits)
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
		if allocs := testing.AllocsPerRun(3, func() {
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
