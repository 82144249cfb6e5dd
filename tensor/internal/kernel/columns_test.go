package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// TestColumns compares softmaxes of columns and their gradients with float64, beside guard values and with numbers
// between the rows that must stay. Some scores are −Inf, as those of keys that are hidden.
func TestColumns(t *testing.T) {
	eachImpl(t, func(t *testing.T, im *impl) {
		defer func(before *impl) { active = before }(active)
		active = im
		rng := rand.New(rand.NewPCG(41, 1))
		for _, n := range []int{16, 32, 48} {
			for rows := 1; rows <= 70; rows++ {
				testColumns(t, rng, n, rows)
			}
		}
		ExpColumns(nil, 16, 0, 16, nil, nil)
	})
	defer func() {
		if recover() == nil {
			t.Error("17 columns don't panic")
		}
	}()
	ExpColumns(make([]float32, 17), 17, 1, 17, make([]float32, 17), make([]float32, 17))
}

func testColumns(t *testing.T, rng *rand.Rand, n, rows int) {
	what := fmt.Sprintf("n=%d rows=%d", n, rows)
	ld := n + rng.IntN(2)*5
	size := (rows-1)*ld + n
	var all, x [6][]float32
	for i, length := range []int{size, size, size, n, n, n} { // scores twice, gradients, largest, sums, factors
		all[i], x[i] = guarded(length, rng.IntN(4))
	}
	guards := func() {
		for i := range all {
			checkGuards(t, what, all[i], len(x[i]), len(all[i])-8-len(x[i]))
		}
	}
	for i := range rows {
		for j := range n {
			s := 8 * (rng.Float32() - 0.5)
			if rng.IntN(4) == 0 && i != j%rows {
				s = negInf
			}
			x[0][i*ld+j], x[1][i*ld+j], x[2][i*ld+j] = s, s, rng.Float32()-0.5
		}
	}
	d := append([]float32(nil), x[2]...)
	scores := append([]float32(nil), x[0]...)
	ExpColumns(x[0], ld, rows, n, x[3], x[4])
	for j := range n {
		x[5][j] = 1 / x[4][j]
	}
	GradColumns(x[1], x[2], ld, rows, n, x[3], x[5])
	guards()
	for j := range n {
		most, sum, dots, size := math.Inf(-1), 0.0, 0.0, 0.0
		for i := range rows {
			most = max(most, float64(scores[i*ld+j]))
		}
		for i := range rows {
			e := math.Exp(float64(scores[i*ld+j]) - most)
			sum += e
			dots += e * float64(d[i*ld+j])
			size += e * math.Abs(float64(d[i*ld+j]))
		}
		if x[3][j] != float32(most) {
			t.Fatalf("%s: column %d: the largest is %v, want %v", what, j, x[3][j], most)
		}
		near32(t, what+" sum", x[4][j], sum, float64(rows))
		for i := range rows {
			at := i*ld + j
			e := math.Exp(float64(scores[at]) - most)
			near32(t, what+" exp", x[0][at], e, 0)
			near32(t, what+" exp of the gradient", x[1][at], e, 0)
			near32(t, what+" gradient", x[2][at], e*(float64(d[at])-dots/sum), float64(rows)*size/sum+1)
		}
	}
	for i := range rows - 1 {
		for j := n; j < ld; j++ {
			if at := i*ld + j; x[0][at] != 12345 || x[1][at] != 12345 || x[2][at] != 12345 {
				t.Fatalf("%s: wrote between the rows", what)
			}
		}
	}
}
