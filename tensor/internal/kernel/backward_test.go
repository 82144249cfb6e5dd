package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// TestTranspose moves matrices of all tails, with gaps between the rows, beside guard values.
func TestTranspose(t *testing.T) {
	eachImpl(t, func(t *testing.T, im *impl) {
		rng := rand.New(rand.NewPCG(31, 1))
		for rows := 1; rows <= 19; rows++ {
			for cols := 1; cols <= 19; cols++ {
				lds, ldd := cols+rng.IntN(5), rows+rng.IntN(5)
				src := uniform(rng, (rows-1)*lds+cols, 1)
				n := (cols-1)*ldd + rows
				all, dst := guarded(n, 3)
				im.transpose(dst, ldd, src, lds, rows, cols)
				checkGuards(t, "transpose", all, n, 3)
				for at, got := range dst {
					i, j := at%ldd, at/ldd
					want := float32(12345)
					if i < rows {
						want = src[i*lds+j]
					}
					if got != want {
						t.Fatalf("%dx%d: dst[%d,%d] = %v, want %v", rows, cols, j, i, got, want)
					}
				}
			}
		}
	})
}

// TestTranspose16 is TestTranspose of numbers of 16 bits, for matrices of more tiles than one.
func TestTranspose16(t *testing.T) {
	rng := rand.New(rand.NewPCG(31, 3))
	for range 300 {
		rows, cols := 1+rng.IntN(80), 1+rng.IntN(80)
		lds, ldd := cols+rng.IntN(5), rows+rng.IntN(5)
		src, dst := make([]uint16, (rows-1)*lds+cols), make([]uint16, cols*ldd+7)
		for i := range src {
			src[i] = uint16(1 + rng.IntN(1<<16-1))
		}
		Transpose16(dst[:(cols-1)*ldd+rows], ldd, src, lds, rows, cols)
		for at, got := range dst {
			i, j := at%ldd, at/ldd
			want := uint16(0)
			if i < rows && j < cols {
				want = src[i*lds+j]
			}
			if got != want {
				t.Fatalf("%dx%d: dst[%d,%d] = %v, want %v", rows, cols, j, i, got, want)
			}
		}
	}
}

// TestGradients compares the gradients' elementwise operations with float64, beside guard values.
func TestGradients(t *testing.T) {
	eachImpl(t, func(t *testing.T, im *impl) {
		rng := rand.New(rand.NewPCG(31, 2))
		for _, n := range vecLengths() {
			a, b := uniform(rng, n, 3), uniform(rng, n, 3)
			y := make([]float32, n)
			for i, x := range b {
				y[i] = max(x, 0) * max(x, 0)
			}
			all, dst := guarded(n, n%4)
			im.squareReLUGrad(dst, a, y)
			checkGuards(t, "squareReLUGrad", all, n, n%4)
			for i, got := range dst {
				near32(t, fmt.Sprintf("squareReLUGrad n=%d", n), got, 2*float64(a[i])*math.Sqrt(float64(y[i])), 0)
			}

			next, mix, diff, dx, s := uniform(rng, n, 3), uniform(rng, n, 1), uniform(rng, n, 3), uniform(rng, n, 3), uniform(rng, n, 3)
			allX, gotX := guarded(n, n%4)
			allS, gotS := guarded(n, n%3)
			copy(gotX, dx)
			copy(gotS, s)
			im.mixGrad(gotX, gotS, a, next, mix, diff)
			checkGuards(t, "mixGrad dx", allX, n, n%4)
			checkGuards(t, "mixGrad s", allS, n, n%3)
			for i := range dx {
				d := float64(a[i])
				near32(t, "mixGrad dx", gotX[i], float64(dx[i])+d+(float64(next[i])-d)*float64(mix[i]), 12)
				near32(t, "mixGrad s", gotS[i], float64(s[i])+d*float64(diff[i]), 12)
			}
		}
	})
}

// near32 wants got within a few roundings of want and of numbers as large as scale.
func near32(t *testing.T, what string, got float32, want, scale float64) {
	t.Helper()
	if !(math.Abs(float64(got)-want) <= 4*eps32*(math.Abs(want)+scale)) {
		t.Fatalf("%s: %v, want %v", what, got, want)
	}
}

// TestAdam wants what the reference computes, but for roundings: some compilers fuse its multiplications and
// additions.
func TestAdam(t *testing.T) {
	f := AdamFactors{Clip: 0.7, Rest1: 0.1, Beta2: 0.99, Rest2: 0.01, Correct: 3, Eps: 1e-8, Keep: 0.999, Rate: 1e-2}
	eachImpl(t, func(t *testing.T, im *impl) {
		rng := rand.New(rand.NewPCG(31, 3))
		for _, n := range vecLengths() {
			var want, got, all [3][]float32
			for i := range want {
				want[i] = uniform(rng, n, 2)
				all[i], got[i] = guarded(n, (n+i)%4)
				for j := range want[i] {
					want[i][j] = float32(math.Abs(float64(want[i][j])))
				}
				copy(got[i], want[i])
			}
			g := uniform(rng, n, 2)
			adamGeneric(want[0], want[1], want[2], g, &f)
			im.adam(got[0], got[1], got[2], g, &f)
			for i := range want {
				checkGuards(t, "adam", all[i], n, (n+i)%4)
				for j, x := range want[i] {
					near32(t, fmt.Sprintf("adam n=%d, operand %d", n, i), got[i][j], float64(x), 0)
				}
			}
		}
	})
}
