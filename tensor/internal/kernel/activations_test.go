package kernel

import (
	"fmt"
	"math"
	"slices"
	"testing"
)

// eachRounding runs a test with each implementation that rounds activations so, beside weights of that type.
func eachRounding(t *testing.T, a Activations, d DType, test func(t *testing.T, im *impl)) {
	eachImpl(t, func(t *testing.T, im *impl) {
		if im.roundings[a].products[d] == nil {
			t.Logf("NOT HERE: products of %v with activations in %v", d, a)
			return
		}
		test(t, im)
	})
}

// roundedProduct is a product of im through Rounded.
func roundedProduct(im *impl, a Activations, d DType, dst []float32, ldd int, x []float32, ldx int, w []byte, ldw, m, n, k int, acc bool) {
	before := active
	active = im
	defer func() { active = before }()
	r := NewRounded(a, m, k)
	defer r.Free()
	for g := range r.Groups(m) {
		r.Round(g, x, ldx, m)
	}
	r.Product(d, dst, ldd, 0, w, ldw, m, n, acc)
}

// storedWeights returns rows of w as type d, which has no blocks, with gaps of pad numbers, and changes w to what
// is stored.
func storedWeights(d DType, w *matrix32, pad int) (data []byte, ld int) {
	_, size := d.Block()
	ld = (w.cols + pad) * size
	data = make([]byte, (w.rows-1)*ld+w.cols*size)
	for i := range w.rows {
		to := data[i*ld:][:w.cols*size]
		for j, v := range w.row(i) {
			switch d {
			case F32:
				View[float32](to)[j] = v
			case BF16:
				View[uint16](to)[j] = RoundBF16(v)
			case F16:
				View[uint16](to)[j] = RoundF16(v)
			}
		}
		Widen(d, w.row(i), to)
	}
	return data, ld
}

func bf16(v float32) float32 { return math.Float32frombits(uint32(RoundBF16(v)) << 16) }

// TestBF16Products compares products of bfloat16 with sums in float64 of the rounded operands.
func TestBF16Products(t *testing.T) {
	for _, d := range []DType{F32, BF16, F16} {
		t.Run(d.String(), func(t *testing.T) {
			eachRounding(t, BF16Activations, d, func(t *testing.T, im *impl) {
				r := newRand()
				for _, m := range []int{1, 2, 5, 6, 7, 15, 16, 17, 31, 32, 33, 50} {
					for _, n := range []int{1, 3, 4, 15, 16, 17, 31, 32, 33, 49, 70} {
						for _, k := range []int{1, 2, 3, 16, 31, 32, 33, 64, 95, 96, 97, 160, 1301} {
							acc, pad := (m+n+k)%3 == 0, (m+k)%4
							x, w, dst := newMatrix(r, m, k, pad, 1), newMatrix(r, n, k, 0, 0), newMatrix(r, m, n, pad, 3)
							data, ldw := storedWeights(d, &w, pad)
							before := dst.clone()
							x.poison()
							roundedProduct(im, BF16Activations, d, dst.slice(), dst.ld, x.slice(), x.ld, data, ldw, m, n, k, acc)
							dst.checkGuards(t)
							checkProduct(t, &dst, &before, k, acc, func(i, j, p int) (float32, float32) { return bf16(x.row(i)[p]), bf16(w.row(j)[p]) })
						}
					}
				}
			})
		})
	}
}

// TestRoundedRowsAlone checks that a row has the same bits alone, and in whatever place among others.
func TestRoundedRowsAlone(t *testing.T) {
	for _, d := range []DType{F32, BF16, F16} {
		t.Run(d.String(), func(t *testing.T) {
			eachRounding(t, BF16Activations, d, func(t *testing.T, im *impl) {
				r := newRand()
				for _, k := range []int{48, 64, 1201, 3000} {
					const m, n = 70, 45
					x, w := newMatrix(r, m, k, 0, 0), newMatrix(r, n, k, 0, 0)
					data, ldw := storedWeights(d, &w, 0)
					all := make([]float32, m*n)
					roundedProduct(im, BF16Activations, d, all, n, x.slice(), k, data, ldw, m, n, k, false)
					for i := range m {
						got := make([]float32, n)
						roundedProduct(im, BF16Activations, d, got, n, x.row(i), k, data, ldw, 1, n, k, false)
						if !slices.Equal(got, all[i*n:][:n]) {
							t.Fatalf("k=%d: row %d alone differs", k, i)
						}
						column := i % n
						roundedProduct(im, BF16Activations, d, got, 1, x.row(i), k, data[column*ldw:], ldw, 1, 1, k, false)
						if got[0] != all[i*n+column] {
							t.Fatalf("k=%d: element %d of row %d alone differs", k, column, i)
						}
					}
				}
			})
		})
	}
}

// TestRoundedNaN checks that NaN and Inf reach the elements that they belong to, and no others.
func TestRoundedNaN(t *testing.T) {
	eachRounding(t, BF16Activations, BF16, func(t *testing.T, im *impl) {
		const m, n, k = 33, 50, 80
		r := newRand()
		x, w := newMatrix(r, m, k, 0, 0), newMatrix(r, n, k, 0, 0)
		x.row(20)[79] = float32(math.NaN())
		x.row(21)[3] = float32(math.Inf(1))
		w.row(49)[0] = float32(math.Inf(-1))
		data, ldw := storedWeights(BF16, &w, 0)
		got := make([]float32, m*n)
		roundedProduct(im, BF16Activations, BF16, got, n, x.slice(), k, data, ldw, m, n, k, false)
		for i := range m {
			for j := range n {
				v := float64(got[i*n+j])
				if finite := !math.IsNaN(v) && !math.IsInf(v, 0); finite == (i == 20 || i == 21 || j == 49) || i == 20 && !math.IsNaN(v) {
					t.Fatalf("dst[%d,%d] = %g", i, j, v)
				}
			}
		}
	})
}

// BenchmarkRounded runs on one core.
func BenchmarkRounded(b *testing.B) {
	eachImplBench(b, func(b *testing.B, im *impl) {
		for _, d := range []DType{BF16, F32} {
			if im.roundings[BF16Activations].products[d] == nil {
				continue
			}
			for _, s := range []struct{ in, out int }{{768, 768}, {768, 2304}, {2304, 768}} {
				for _, m := range []int{1, 8, 16, 50, 256} {
					b.Run(fmt.Sprintf("activations=bf16/weights=%v/rows=%d/shape=%dx%d", d, m, s.in, s.out), func(b *testing.B) {
						r := newRand()
						x, dst := randoms(r, m*s.in), make([]float32, m*s.out)
						w := newMatrix(r, s.out, s.in, 0, 0)
						data, ldw := storedWeights(d, &w, 0)
						for b.Loop() {
							roundedProduct(im, BF16Activations, d, dst, s.out, x, s.in, data, ldw, m, s.out, s.in, false)
						}
						b.ReportMetric(2*float64(b.N)*float64(m*s.in*s.out)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
						b.ReportMetric(float64(b.N)*float64(len(data))/b.Elapsed().Seconds()/1e9, "GB/s")
					})
				}
			}
		}
	})
}
