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
