package rwkv

import (
	"math"
	"math/rand/v2"
	"testing"
)

// observedPenalty is a penalty with a history of its own.
type observedPenalty struct {
	*penalty
	h *history
}

func testPenalty(p *sampling, vocab int) observedPenalty {
	h := new(history)
	return observedPenalty{newPenalty(p, vocab, h, nil, nil), h}
}

// observe adds a generated token to the history.
func (p observedPenalty) observe(id int) { p.h.add(id, true) }

// TestPenalty compares with the definition, computed from the whole sequence.
func TestPenalty(t *testing.T) {
	r := rand.New(rand.NewPCG(17, 18))
	for range 300 {
		const vocab = 20
		p := neutral
		p.Repetition = math.Exp(r.NormFloat64() / 2)
		p.Presence = r.NormFloat64()
		p.Frequency = r.NormFloat64()
		if r.IntN(2) == 0 {
			p.PenaltyDecay = []float64{0.999, 0.9, 0.5, 1e-5, 5e-324, r.Float64() + 1e-9}[r.IntN(6)]
		}
		pen := testPenalty(&p, vocab)
		var seq []int
		for range r.IntN(400) {
			id := r.IntN(1 + r.IntN(vocab))
			seq = append(seq, id)
			pen.observe(id)
		}
		got := make([]float32, vocab)
		for i := range got {
			got[i] = float32(r.NormFloat64() * 3)
		}
		want := make([]float64, vocab)
		for id := range want {
			n, found := 0.0, false
			for i, x := range seq {
				if x == id {
					n += math.Pow(p.PenaltyDecay, float64(len(seq)-1-i))
					found = true
				}
			}
			l := float64(got[id])
			if found {
				if f := math.Pow(p.Repetition, min(n, 1)); l > 0 {
					l /= f
				} else {
					l *= f
				}
				l -= p.Frequency*n + p.Presence*min(n, 1)
			}
			want[id] = l
		}
		pen.apply(got)
		for id := range want {
			// One rounding to float32; in float64 sums of up to 400 terms, each of a few roundings.
			bound := 0x1p-24*math.Abs(want[id]) + 1e-11
			if !(math.Abs(float64(got[id])-want[id]) <= bound) {
				t.Fatalf("%+v after %v: logit %d = %g, want %g", p, seq, id, got[id], want[id])
			}
		}
	}
}

// TestPenaltyLong counts a sequence long enough for counts that decay to be rescaled many times,
// and those that don't to be exact.
func TestPenaltyLong(t *testing.T) {
	const n = 200_000
	for _, decay := range []float64{1, 0.999, 0.9} {
		p := with(func(p *sampling) { p.Frequency, p.PenaltyDecay = 1, decay })
		pen := testPenalty(&p, 1000)
		for i := range n {
			pen.observe(i % 2)
			if i < 900 {
				pen.observe(100 + i)
			}
		}
		got := make([]float32, 1000)
		pen.apply(got)
		odd, even := -n/2.0, -n/2.0 // token 1 is the newest
		once := -1.0
		if decay < 1 {
			odd = -1 / (1 - decay*decay)
			even = odd * decay
			once = 0
		}
		for id, want := range map[int]float64{0: even, 1: odd, 2: 0, 100: once, 999: once} {
			if !(math.Abs(float64(got[id])-want) <= 1e-6*math.Abs(want)) {
				t.Errorf("decay %g: logit %d = %g, want %g", decay, id, got[id], want)
			}
		}
		if decay < 1 && len(pen.seen) != 2 {
			t.Errorf("decay %g: %d tokens are remembered, want 2", decay, len(pen.seen))
		}
	}
}

func TestPenaltyOff(t *testing.T) {
	p := neutral
	if testPenalty(&p, 10).penalty != nil {
		t.Error("a penalty without an effect")
	}
	testSampler(p, 10).observe(3)
}

// TestPenaltyMasks leaves masked and certain tokens as they are.
func TestPenaltyMasks(t *testing.T) {
	inf := float32(math.Inf(1))
	p := with(func(p *sampling) { p.Repetition, p.Presence, p.Frequency = 1.5, 1, 1 })
	pen := testPenalty(&p, 3)
	for id := range 3 {
		pen.observe(id)
	}
	x := []float32{inf, -inf, 0}
	pen.apply(x)
	if x[0] != inf || x[1] != -inf || x[2] != -2 {
		t.Errorf("logits %v, want [+Inf -Inf -2]", x)
	}
}
