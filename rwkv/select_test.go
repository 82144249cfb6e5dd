package rwkv

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestNthLargest(t *testing.T) {
	r := rand.New(rand.NewPCG(19, 20))
	for range 3000 {
		n := 1 + r.IntN(300)
		v := randomLogits(r, n)
		want := slices.Clone(v)
		slices.Sort(want)
		slices.Reverse(want)
		k := 1 + r.IntN(n)
		if got := nthLargest(v, k); got != want[k-1] {
			t.Fatalf("n=%d: the %d-th largest is %g, want %g", n, k, got, want[k-1])
		}
		slices.Sort(v[:k])
		slices.Reverse(v[:k])
		if !slices.Equal(v[:k], want[:k]) {
			t.Fatalf("n=%d: the %d largest are %v, want %v", n, k, v[:k], want[:k])
		}
	}
}

func TestPartition(t *testing.T) {
	r := rand.New(rand.NewPCG(21, 22))
	for range 3000 {
		v := randomLogits(r, 1+r.IntN(100))
		sorted := slices.Clone(v)
		slices.Sort(sorted)
		pivot := v[r.IntN(len(v))]
		gt, eq := partition(v, pivot)
		for i, x := range v {
			if i < gt != (x > pivot) || (i >= gt && i < gt+eq) != (x == pivot) {
				t.Fatalf("%v is %d above and %d equal to %g", v, gt, eq, pivot)
			}
		}
		slices.Sort(v)
		if !slices.Equal(v, sorted) {
			t.Fatal("values were lost")
		}
	}
}

// TestNthLargestLong has orders that are bad for a careless choice of pivots: a quadratic search
// would take minutes.
func TestNthLargestLong(t *testing.T) {
	const n = 1 << 18
	for name, value := range map[string]func(i int) float32{
		"ascending":  func(i int) float32 { return float32(i) },
		"descending": func(i int) float32 { return float32(-i) },
		"equal":      func(i int) float32 { return 1 },
		"saw":        func(i int) float32 { return float32(i % 10) },
		"organ pipe": func(i int) float32 { return float32(min(i, n-i)) },
	} {
		sorted := make([]float32, n)
		for i := range sorted {
			sorted[i] = value(i)
		}
		v := slices.Clone(sorted)
		slices.Sort(sorted)
		for _, k := range []int{1, 200, n / 2, n} {
			for i := range v {
				v[i] = value(i)
			}
			if got := nthLargest(v, k); got != sorted[n-k] {
				t.Errorf("%s: the %d-th largest is %g, want %g", name, k, got, sorted[n-k])
			}
		}
	}
}

// TestMinP checks that the threshold is the smallest float32 of at least its definition in float64.
func TestMinP(t *testing.T) {
	r := rand.New(rand.NewPCG(25, 26))
	for range 1000 {
		p := neutral
		p.Temperature, p.MinP = math.Exp(r.NormFloat64()), 1-r.Float64()
		top := float64(float32(r.NormFloat64() * 10))
		want := top + float64(p.Temperature*math.Log(p.MinP))
		got := testSampler(p, 1).minP(top)
		if below := math.Nextafter32(got, float32(math.Inf(-1))); !(float64(got) >= want && float64(below) < want) {
			t.Fatalf("%+v: threshold %v, want the next float32 from %v up", p, got, want)
		}
	}
}

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
