package kernel

import (
	"math/rand/v2"
	"testing"
)

// eachImpl runs a subtest for every entry of impls.
func eachImpl(t *testing.T, f func(t *testing.T, im *impl)) {
	for i := range impls {
		t.Run("impl="+impls[i].name, func(t *testing.T) { f(t, &impls[i]) })
	}
}

// randoms returns n standard normal numbers, the same for the same r.
func randoms(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

func newRand() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }

func TestImpls(t *testing.T) {
	eachImpl(t, func(t *testing.T, im *impl) {
		before := Active()
		defer func() {
			if err := Use(before); err != nil {
				t.Fatal(err)
			}
		}()
		if err := Use(im.name); err != nil {
			t.Fatal(err)
		}
		if Active() != im.name {
			t.Fatalf("Active = %q after Use(%q)", Active(), im.name)
		}
	})
	if err := Use("no such kernel"); err == nil {
		t.Fatal("Use accepted an unknown name")
	}
}
