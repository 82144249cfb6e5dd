package nn

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"microrwkv/tensor"
)

// table is a matrix in float64, for the formulas that layers are compared with.
type table [][]float64

// random returns a tensor of numbers in ±1.
func random(rng *rand.Rand, shape ...int) *tensor.Tensor {
	t := tensor.New(shape...)
	for i := range t.Data() {
		t.Data()[i] = 2*rng.Float32() - 1
	}
	return t
}

func weight(rng *rand.Rand, out, in int) *tensor.Weight { return random(rng, out, in).Weight() }

func linear(rng *rand.Rand, out, in int, bias bool) Linear {
	l := Linear{Weight: weight(rng, out, in)}
	if bias {
		l.Bias = random(rng, out)
	}
	return l
}

// of returns a tensor's numbers by its last dimension.
func of(t *tensor.Tensor) table {
	var m table
	for i := range t.Len() / t.Dim(-1) {
		row := t.Row(i)
		m = append(m, make([]float64, len(row)))
		for j, v := range row {
			m[i][j] = float64(v)
		}
	}
	return m
}

func vector(t *tensor.Tensor) []float64 { return of(t.Reshape(1, t.Len()))[0] }

func zeros(rows, cols int) table {
	m := make(table, rows)
	for i := range m {
		m[i] = make([]float64, cols)
	}
	return m
}

func dot(x, y []float64) (sum float64) {
	for i := range x {
		sum += x[i] * y[i]
	}
	return sum
}

func sigmoid(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

// times returns x·weightᵀ + bias.
func times(x table, l Linear) table {
	w := of(l.Weight.Float32())
	y := zeros(len(x), len(w))
	for t := range x {
		for o := range w {
			y[t][o] = dot(x[t], w[o])
			if l.Bias != nil {
				y[t][o] += vector(l.Bias)[o]
			}
		}
	}
	return y
}

// each returns f of two tables' elements.
func each(x, y table, f func(a, b float64) float64) table {
	z := zeros(len(x), len(x[0]))
	for t := range x {
		for i := range x[t] {
			z[t][i] = f(x[t][i], y[t][i])
		}
	}
	return z
}

func product(a, b float64) float64 { return a * b }

func squareReLU(a, _ float64) float64 { return max(a, 0) * max(a, 0) }

// mixed returns x + (x' − x) ⊙ maa, with zeros before the first row.
func mixed(x table, maa *tensor.Tensor) table {
	before := append(zeros(1, len(x[0])), x...)[:len(x)]
	y := zeros(len(x), len(x[0]))
	for t := range x {
		for i, m := range vector(maa) {
			y[t][i] = x[t][i] + (before[t][i]-x[t][i])*m
		}
	}
	return y
}

// attend returns softmax(scale·q·kᵀ)·v for one query.
func attend(q []float64, k, v table, scale float64) []float64 {
	y := make([]float64, len(v[0]))
	var sum float64
	for s := range k {
		p := math.Exp(scale * dot(q, k[s]))
		sum += p
		for i := range y {
			y[i] += p * v[s][i]
		}
	}
	for i := range y {
		y[i] /= sum
	}
	return y
}

// part returns columns from to from+n.
func part(x table, from, n int) (y table) {
	for _, r := range x {
		y = append(y, r[from:from+n])
	}
	return y
}

// groupNorm normalizes groups of a row's numbers.
func groupNorm(x table, groups int, gain, bias *tensor.Tensor, eps float64) table {
	y := zeros(len(x), len(x[0]))
	n := len(x[0]) / groups
	for t := range x {
		for g := 0; g < len(x[t]); g += n {
			var mean, variance float64
			for _, v := range x[t][g : g+n] {
				mean += v / float64(n)
			}
			for _, v := range x[t][g : g+n] {
				variance += (v - mean) * (v - mean) / float64(n)
			}
			for i := g; i < g+n; i++ {
				y[t][i] = (x[t][i] - mean) / math.Sqrt(variance+eps) * vector(gain)[i]
				if bias != nil {
					y[t][i] += vector(bias)[i]
				}
			}
		}
	}
	return y
}

// agree fails unless got is want to 1e-5 of the largest number: a few layers' worth of sums of some
// dozens of products near 1.
func agree(t *testing.T, what string, got *tensor.Tensor, want table) {
	t.Helper()
	var worst, largest float64
	for r, row := range of(got) {
		for i := range row {
			worst = max(worst, math.Abs(row[i]-want[r][i]))
			largest = max(largest, math.Abs(want[r][i]))
			if math.IsNaN(row[i]) {
				worst = math.NaN()
			}
		}
	}
	if !(worst <= 1e-5*max(largest, 1)) {
		t.Errorf("%s: error %g with numbers up to %g", what, worst, largest)
	}
}

// lengths are those of the sequences that layers are tested on together.
var lengths = []int{1, 7, 0, 2, 13}

// sequences returns rows of sequences and where they begin.
func sequences(rng *rand.Rand, c int) (x *tensor.Tensor, spans Spans) {
	spans = Spans{0}
	for _, n := range lengths {
		spans = append(spans, spans[len(spans)-1]+n)
	}
	return random(rng, spans[len(spans)-1], c), spans
}

// eachSequence returns what formula says of every sequence alone.
func eachSequence(x *tensor.Tensor, spans Spans, formula func(x table) table) (want table) {
	for i := range spans.Len() {
		if rows := of(x)[spans[i]:spans[i+1]]; len(rows) > 0 {
			want = append(want, formula(rows)...)
		}
	}
	return want
}

// checkLayer compares forward with want as the package's comment says that it can be used: writing
// or adding, in place or not, and without allocating.
func checkLayer(t *testing.T, x *tensor.Tensor, want table, forward func(dst, x *tensor.Tensor, add bool, s *tensor.Scratch)) {
	t.Helper()
	var s tensor.Scratch
	for _, add := range []bool{false, true} {
		for _, inPlace := range []bool{false, true} {
			in, dst := tensor.New(x.Shape()...), random(rand.New(rand.NewPCG(9, 9)), len(want), len(want[0]))
			in.CopyFrom(x)
			if inPlace {
				if !slices.Equal(dst.Shape(), in.Shape()) {
					continue
				}
				dst = in
			}
			expected := want
			if add {
				expected = each(of(dst), want, func(a, b float64) float64 { return a + b })
			}
			forward(dst, in, add, &s)
			agree(t, fmt.Sprintf("add=%v in place=%v", add, inPlace), dst, expected)
			if !inPlace && !slices.Equal(in.Data(), x.Data()) {
				t.Error("x has changed")
			}
		}
	}
	dst := tensor.New(len(want), len(want[0]))
	if n := testing.AllocsPerRun(20, func() { forward(dst, x, false, &s) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// panics fails unless f panics with a message that names all of want.
func panics(t *testing.T, what string, f func(), want ...string) {
	t.Helper()
	defer func() {
		t.Helper()
		message := fmt.Sprint(recover())
		for _, w := range want {
			if !strings.Contains(message, w) {
				t.Errorf("%s: panic %q doesn't name %q", what, message, w)
			}
		}
	}()
	f()
}

func TestLinear(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for _, c := range []struct {
		rows, out, in int
		bias          bool
		dtype         tensor.DType
	}{{1, 1, 1, false, tensor.F32}, {1, 5, 7, true, tensor.F32}, {3, 17, 9, false, tensor.BF16}, {9, 4, 33, true, tensor.F16}} {
		l := linear(rng, c.out, c.in, c.bias)
		l.Weight = l.Weight.Convert(c.dtype)
		x, y := random(rng, c.rows, c.in), tensor.New(c.rows, c.out)
		l.Forward(y, x)
		agree(t, fmt.Sprint(c), y, times(of(x), l))
		if n := testing.AllocsPerRun(20, func() { l.Forward(y, x) }); n != 0 {
			t.Errorf("%v: %v allocations", c, n)
		}
	}
	l := linear(rng, 3, 4, true)
	panics(t, "x too narrow", func() { l.Forward(tensor.New(2, 3), tensor.New(2, 5)) }, "Linear", "[2 5]", "[3 4]")
	panics(t, "dst too narrow", func() { l.Forward(tensor.New(2, 2), tensor.New(2, 4)) }, "Linear", "[2 2]", "[3 4]")
}

func TestEmbedding(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	for _, dtype := range []tensor.DType{tensor.F32, tensor.BF16, tensor.F16} {
		e := Embedding{Weight: weight(rng, 5, 3).Convert(dtype)}
		y := tensor.New(4, 3)
		e.Forward(y, []int{4, 0, 0, 3})
		w := of(e.Weight.Float32())
		agree(t, dtype.String(), y, table{w[4], w[0], w[0], w[3]})
	}
}

func TestNorms(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	for _, c := range []struct{ rows, c, groups int }{{1, 1, 1}, {1, 6, 3}, {5, 21, 7}, {3, 70, 2}} {
		x, gain, bias := random(rng, c.rows, c.c), random(rng, c.c), random(rng, c.c)
		rms := zeros(c.rows, c.c)
		for r, row := range of(x) {
			for i := range row {
				rms[r][i] = row[i] / (math.Sqrt(dot(row, row))/math.Sqrt(float64(c.c)) + 0.5)
			}
		}
		for _, n := range []struct {
			name string
			norm interface{ Forward(dst, x *tensor.Tensor) }
			want table
		}{
			{"LayerNorm", LayerNorm{Gain: gain, Bias: bias, Eps: 1e-5}, groupNorm(of(x), 1, gain, bias, 1e-5)},
			{"LayerNorm without bias", LayerNorm{Gain: gain, Eps: 0.1}, groupNorm(of(x), 1, gain, nil, 0.1)},
			{"GroupNorm", GroupNorm{Groups: c.groups, Gain: gain, Bias: bias, Eps: 64e-5}, groupNorm(of(x), c.groups, gain, bias, 64e-5)},
			{"RMSNorm", RMSNorm{Eps: 0.5}, rms},
		} {
			y := tensor.New(c.rows, c.c)
			n.norm.Forward(y, x)
			agree(t, fmt.Sprint(n.name, c), y, n.want)
			if a := testing.AllocsPerRun(20, func() { n.norm.Forward(y, x) }); a != 0 {
				t.Errorf("%s: %v allocations", n.name, a)
			}
			y.CopyFrom(x)
			n.norm.Forward(y, y)
			agree(t, fmt.Sprint(n.name, c, " in place"), y, n.want)
			panics(t, n.name, func() { n.norm.Forward(tensor.New(c.rows, c.c+1), x) }, "Norm", fmt.Sprint([]int{c.rows, c.c + 1}), fmt.Sprint(x.Shape()))
		}
	}
	y := tensor.New(2, 4)
	RMSNorm{Eps: 1e-8}.Forward(y, tensor.New(2, 4))
	agree(t, "RMSNorm of zeros", y, zeros(2, 4))
	panics(t, "groups", func() { GroupNorm{Groups: 3}.Forward(y, y) }, "GroupNorm", "[4]", "[3]")
}
