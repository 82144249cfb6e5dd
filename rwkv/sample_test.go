package rwkv

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
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
