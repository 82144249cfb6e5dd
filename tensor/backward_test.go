package tensor

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestLinearBackward compares with sums in float64, for sizes that nothing divides and views with gaps.
func TestLinearBackward(t *testing.T) {
	defer SetThreads(0)
	rng := rand.New(rand.NewPCG(1, 5))
	random := func(rows, cols, gap int) *Tensor {
		x := New(rows, cols+gap)
		for i := range x.data {
			x.data[i] = float32(rng.NormFloat64())
		}
		return x.Cols(0, cols)
	}
	for _, c := range []struct{ rows, out, in int }{{1, 1, 1}, {3, 17, 5}, {200, 7, 33}, {0, 4, 4}, {1030, 40, 19}, {65, 300, 50}} {
		dy, x, w := random(c.rows, c.out, 3), random(c.rows, c.in, 1), random(c.out, c.in, 0)
		dx, dw, db := random(c.rows, c.in, 2), random(c.out, c.in, 0), New(c.out)
		w2, dy2 := random(5, c.in, 0), random(c.rows, 5, 2)
		var results [][]float32
		for _, threads := range []int{1, 3} {
			SetThreads(threads)
			gx, gw, gb, gx2, gb2 := New(c.rows, c.in), New(c.out, c.in), New(c.out), New(c.rows, c.in), New(c.out)
			gx.CopyFrom(dx)
			gw.CopyFrom(dw)
			gb.CopyFrom(db)
			LinearBackward(Gradient{DX: gx, DY: dy, X: x, W: w.Weight(), DW: gw.Weight(), Add: true}, Gradient{DW: gw.Weight(), DY: dy.Rows(0, 0), X: x.Rows(0, 0)})
			GradBias(gb, dy)
			gx2.CopyFrom(dx)
			gb2.CopyFrom(db)
			second := Gradient{DX: gx2, DY: dy2, W: w2.Weight(), Add: true}
			LinearBackward(Gradient{DX: gx2, DY: dy, X: x, W: w.Weight(), DW: New(c.out, c.in).Weight(), DB: gb2, Add: true}, second, Gradient{DX: New(c.rows, c.in), DY: dy, W: w.Weight()})
			if !slices.Equal(gb2.data, gb.data) {
				t.Errorf("%v: a bias's gradient beside the weight's has other bits", c)
			}
			alone := New(c.rows, c.in)
			alone.CopyFrom(gx)
			second.DX = alone
			LinearBackward(second)
			if !slices.Equal(gx2.data, alone.data) {
				t.Errorf("%v: two gradients added to one in one call have other bits than in two", c)
			}
			results = append(results, gx.data, gw.data, gb.data)
		}
		for i := range 3 {
			if !slices.Equal(results[i], results[3+i]) {
				t.Errorf("%v: other bits on three threads", c)
			}
		}
		near := func(what string, got float32, want, size float64) {
			t.Helper()
			if math.Abs(float64(got)-want) > 1e-5*(1+size) {
				t.Fatalf("%v: %s is %v, want %v", c, what, got, want)
			}
		}
		for r := range c.rows {
			for i := range c.in {
				want, size := float64(dx.Row(r)[i]), 0.0
				for o := range c.out {
					p := float64(dy.Row(r)[o]) * float64(w.Row(o)[i])
					want, size = want+p, size+math.Abs(p)
				}
				near("dx", results[0][r*c.in+i], want, size)
			}
		}
		for o := range c.out {
			sum := 0.0
			for r := range c.rows {
				sum += float64(dy.Row(r)[o])
			}
			near("db", results[2][o], sum, float64(c.rows))
			for i := range c.in {
				want, size := float64(dw.Row(o)[i]), 0.0
				for r := range c.rows {
					p := float64(dy.Row(r)[o]) * float64(x.Row(r)[i])
					want, size = want+p, size+math.Abs(p)
				}
				near("dw", results[1][o*c.in+i], want, size)
			}
		}
	}
}

// TestTape keeps its memory, grows it, and hands out whole tensors.
func TestTape(t *testing.T) {
	var tape Tape
	a, b := tape.New(3, 4), tape.New(5)
	a.Data()[11], b.Data()[4] = 1, 2
	size := tape.Size()
	tape.Reset()
	if c := tape.New(2, 2); &c.Data()[0] != &a.Data()[0] || tape.Size() != size || c.Len() != 4 {
		t.Error("other memory for a smaller tensor")
	}
	if c := tape.New(500); c.Len() != 500 || tape.Size() <= size {
		t.Error("no room for a larger tensor")
	}
	if n := testing.AllocsPerRun(10, func() { tape.Reset(); tape.New(2, 2); tape.New(10, 50) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestEntropy compares losses and gradients with their formulas, in more than one block.
func TestEntropy(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 5))
	const rows, c, vocab, scale, l2 = 1100, 3, 9, 0.5, 0.1
	x, w, dx, dw := New(rows, c), New(vocab, c), New(rows, c), New(vocab, c)
	for _, d := range [][]float32{x.data, w.data} {
		for i := range d {
			d[i] = float32(rng.NormFloat64())
		}
	}
	targets := make([]int, rows)
	for i := range targets {
		targets[i] = rng.IntN(vocab)
	}
	e := Entropy{X: x, W: w.Weight(), Targets: targets, Scale: scale, L2: l2, DX: dx, DW: dw.Weight()}
	var s Scratch
	e.Run(&s)
	var loss, square float64
	want := make([]float64, vocab*c)
	for r, target := range targets {
		var logits, p [vocab]float64
		top, sum := math.Inf(-1), 0.0
		for v := range logits {
			for i, xi := range x.Row(r) {
				logits[v] += float64(xi) * float64(w.Row(v)[i])
			}
			top = max(top, logits[v])
		}
		for v := range p {
			p[v] = math.Exp(logits[v] - top)
			sum += p[v]
		}
		loss += math.Log(sum) + top - logits[target]
		square += top * top / 2
		for i := range c {
			var d float64
			for v := range p {
				g := p[v] / sum
				if v == target {
					g--
				}
				if logits[v] == top {
					g += l2 * top
				}
				d += scale * g * float64(w.Row(v)[i])
				want[v*c+i] += scale * g * float64(x.Row(r)[i])
			}
			if got := float64(dx.Row(r)[i]); math.Abs(got-d) > 1e-5 {
				t.Fatalf("dx[%d][%d] = %v, want %v", r, i, got, d)
			}
		}
	}
	for i, v := range want {
		if math.Abs(float64(dw.data[i])-v) > 1e-3 {
			t.Errorf("dw[%d] = %v, want %v", i, dw.data[i], v)
		}
	}
	if math.Abs(e.Loss-loss) > 1e-5*loss || math.Abs(e.Square-square) > 1e-5*square {
		t.Errorf("losses %v and %v, want %v and %v", e.Loss, e.Square, loss, square)
	}
}
