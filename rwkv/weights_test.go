package rwkv

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestWeights compares with math.Exp at the bound that weights documents.
func TestWeights(t *testing.T) {
	r := rand.New(rand.NewPCG(23, 24))
	logits := make([]float32, 1000)
	w := make([]float64, len(logits))
	worst := 0.0
	for range 500 {
		top := float32(r.NormFloat64() * 10)
		scale := math.Exp(r.Float64()*12 - 6)
		for i := range logits {
			logits[i] = top - float32(r.ExpFloat64()*scale)
		}
		logits[0], logits[1] = top, float32(math.Inf(-1))
		logits[2] = math.Nextafter32(top, -math.MaxFloat32)
		invT := math.Exp(r.NormFloat64())
		if r.IntN(2) == 0 {
			invT = 1
		}
		weights(w, logits, float64(top), invT)
		for i, l := range logits {
			x := (float64(l) - float64(top)) * invT
			want := math.Exp(x)
			if x < -708 {
				want = 0
			}
			if x > -708.001 && x < -707.999 {
				continue // on either side
			}
			err := math.Abs(w[i] - want)
			if bound := want * (4e-15 + 4e-16*min(-x, 708)); !(err <= bound) {
				t.Fatalf("exp(%g) = %g, want %g ± %g", x, w[i], want, bound)
			}
			if want > 0 {
				worst = max(worst, err/(want*(4e-15+4e-16*math.Abs(x))))
			}
		}
		if w[0] != 1 || w[1] != 0 {
			t.Fatalf("weights of the top and of a masked token are %g, %g, want 1, 0", w[0], w[1])
		}
	}
	t.Logf("the largest error is %.2f of its bound", worst)

	// Every table entry, against math.Exp2.
	for i, bits := range exp2Table {
		got, want := math.Float64frombits(bits), math.Exp2(float64(i)/256)
		if !(math.Abs(got-want) <= 2e-15*want) {
			t.Errorf("2^(%d/256) = %v, want %v", i, got, want)
		}
	}
}

// TestWeightsBits pins the bits of many weights: the same on every machine.
func TestWeightsBits(t *testing.T) {
	logits := make([]float32, 1<<16)
	for i := range logits {
		logits[i] = -float32(i) / 128
	}
	w := make([]float64, len(logits))
	weights(w, logits, 0, 1/0.8)
	h := uint64(14695981039346656037) // FNV-1a, of 64 bits at a time
	for _, x := range w {
		h = (h ^ math.Float64bits(x)) * 1099511628211
	}
	if want := uint64(0x16ca09d066d67437); h != want {
		t.Errorf("the weights' hash is %#x, want %#x", h, want)
	}
}

// TestWeightsOrder: a larger logit never has the smaller weight beyond rounding, across all borders
// between table entries.
func TestWeightsOrder(t *testing.T) {
	logits := make([]float32, 100_000)
	for i := range logits {
		logits[i] = -float32(i) / 2048
	}
	w := make([]float64, len(logits))
	weights(w, logits, 0, 1)
	for i := 1; i < len(w); i++ {
		if !(w[i] < w[i-1]) {
			t.Fatalf("weight of %g = %g, of %g = %g", logits[i-1], w[i-1], logits[i], w[i])
		}
	}
}

// TestSamplerPick compares pick with the sums of the weights for numbers near the borders.
func TestSamplerPick(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	for range 300 {
		n := 1 + r.IntN(300)
		logits := randomLogits(r, n)
		if r.IntN(2) == 0 {
			for i := range n * 3 / 4 { // blocks without weight
				logits[i] = float32(math.Inf(-1))
			}
		}
		top, err := highest(logits)
		if err != nil {
			continue // all are masked now
		}
		s := testSampler(neutral, n)
		total := s.weigh(logits, top, 1)
		w := make([]float64, n)
		weights(w, logits, top, 1)
		var sum float64
		for i, x := range w {
			if x > 1e-6*total { // so that roundings are far below 1e-4 of it
				for _, f := range []float64{1e-4, 0.5, 1 - 1e-4} {
					if got := s.pick(logits, top, sum+f*x); got != i {
						t.Fatalf("n=%d: pick(%g of %g) = %d, want %d", n, sum+f*x, total, got, i)
					}
				}
			}
			sum += x
		}
		first := slices.IndexFunc(w, func(x float64) bool { return x > 0 })
		if got := s.pick(logits, top, 0); got != first {
			t.Fatalf("n=%d: pick(0) = %d, want %d", n, got, first)
		}
		// The largest number there is, and one that only roundings could make.
		for _, rest := range []float64{total * (1 - 0x1p-53), total, total * (1 + 1e-12)} {
			if got := s.pick(logits, top, rest); w[got] == 0 {
				t.Fatalf("n=%d: pick(%g of %g) = %d, which has no weight", n, rest, total, got)
			}
		}
	}
}

// TestSamplerPickTies: where the weights add up to just r, the next token is taken, also at a block's end.
func TestSamplerPickTies(t *testing.T) {
	logits := make([]float32, 3*weightBlock) // of weight 1 each
	s := testSampler(neutral, len(logits))
	if total := s.weigh(logits, 0, 1); total != float64(len(logits)) {
		t.Fatalf("the weights' sum is %v", total)
	}
	for r := range logits {
		if got := s.pick(logits, 0, float64(r)); got != r {
			t.Errorf("pick(%d) = %d", r, got)
		}
	}
}
