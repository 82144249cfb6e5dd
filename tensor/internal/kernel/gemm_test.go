package kernel

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// guard stands around and between the rows of every dst in these tests.
const guard = 12345.5

// matrix32 is rows×cols at row distance ld, starting off numbers into data.
type matrix32 struct {
	data       []float32
	ld, off    int
	rows, cols int
}

// newMatrix returns a matrix of random numbers between guards.
func newMatrix(r *rand.Rand, rows, cols, pad, off int) matrix32 {
	m := matrix32{ld: cols + pad, off: off, rows: rows, cols: cols}
	m.data = make([]float32, off+rows*m.ld+16)
	for i := range m.data {
		m.data[i] = guard
	}
	for i := range rows {
		copy(m.row(i), randoms(r, cols))
	}
	return m
}

func (m *matrix32) row(i int) []float32 { return m.data[m.off+i*m.ld:][:m.cols] }

// slice is what a caller would pass: it ends with the last row.
func (m *matrix32) slice() []float32 {
	return m.data[m.off : m.off+(m.rows-1)*m.ld+m.cols : m.off+(m.rows-1)*m.ld+m.cols]
}

// poison puts NaN around and between the rows: an operand of which they aren't to be read.
func (m *matrix32) poison() {
	next := 0 // element behind the last row
	for i := range m.rows {
		for j := next; j < m.off+i*m.ld; j++ {
			m.data[j] = float32(math.NaN())
		}
		next = m.off + i*m.ld + m.cols
	}
	for j := next; j < len(m.data); j++ {
		m.data[j] = float32(math.NaN())
	}
}

// clone copies m.
func (m *matrix32) clone() matrix32 {
	c := *m
	c.data = append([]float32(nil), m.data...)
	return c
}

// checkGuards fails if something outside the rows was written.
func (m *matrix32) checkGuards(t *testing.T) {
	t.Helper()
	for i, v := range m.data {
		inside := i >= m.off && (i-m.off)/m.ld < m.rows && (i-m.off)%m.ld < m.cols
		if !inside && v != guard {
			t.Fatalf("element %d outside dst (start %d, [%d %d], row distance %d) was overwritten with %g", i, m.off, m.rows, m.cols, m.ld, v)
		}
	}
}

// weightKinds are the storage types of w in tests, with the rounding.
var weightKinds = []struct {
	dtype   DType
	shorten func(float32) uint16 // nil for float32
	widen   func(uint16) float32
}{
	{dtype: F32},
	{
		BF16,
		func(v float32) uint16 { return uint16(math.Float32bits(v) >> 16) },
		func(b uint16) float32 { return math.Float32frombits(uint32(b) << 16) },
	},
	{
		F16,
		func(v float32) uint16 { // any number of the same size will do: sign, exponent −3 to 0, fraction
			b := math.Float32bits(v)
			return uint16(b>>31<<15 | (12+b>>13&3)<<10 | b>>13&1023)
		},
		halfToFloat,
	},
}

// productNT calls a product of im with w stored as the kind says; it first rounds w to what can
// be stored.
func productNT(im *impl, kind int, dst, x, w *matrix32, k int, acc bool) {
	wk := &weightKinds[kind]
	if wk.shorten == nil {
		im.product(F32, dst.slice(), dst.ld, x.slice(), x.ld, BytesOf(w.slice()), 4*w.ld, dst.rows, dst.cols, k, acc)
		return
	}
	bits := make([]uint16, len(w.data))
	for i := range bits {
		bits[i] = 0xffff // NaN between the rows
	}
	for i := range w.rows {
		for j, v := range w.row(i) {
			b := wk.shorten(v)
			bits[w.off+i*w.ld+j] = b
			w.row(i)[j] = wk.widen(b)
		}
	}
	end := w.off + (w.rows-1)*w.ld + w.cols
	im.product(wk.dtype, dst.slice(), dst.ld, x.slice(), x.ld, BytesOf(bits[w.off:end:end]), 2*w.ld, dst.rows, dst.cols, k, acc)
}

// checkProduct compares dst with before + Σ x·y in float64. k+1 roundings of sums no larger than
// Σ |x·y| (and of what was there) err by at most (k+1)·2⁻²⁴ of it.
func checkProduct(t *testing.T, dst, before *matrix32, k int, acc bool, at func(i, j, p int) (x, y float32)) {
	t.Helper()
	for i := range dst.rows {
		for j := range dst.cols {
			var want, scale float64
			for p := range k {
				x, y := at(i, j, p)
				want += float64(x) * float64(y)
				scale += math.Abs(float64(x) * float64(y))
			}
			if acc {
				want += float64(before.row(i)[j])
				scale += math.Abs(float64(before.row(i)[j]))
			}
			bound := float64(k+1) * 0x1p-24 * scale
			if got := float64(dst.row(i)[j]); !(math.Abs(got-want) <= bound) {
				t.Fatalf("m=%d n=%d k=%d acc=%v: dst[%d,%d] = %g, want %g ± %g", dst.rows, dst.cols, k, acc, i, j, got, want, bound)
			}
		}
	}
}

func testNT(t *testing.T, im *impl, kind int, r *rand.Rand, m, n, k, off, pad int, acc bool) {
	t.Helper()
	x, w, dst := newMatrix(r, m, k, pad, off), newMatrix(r, n, k, pad, off), newMatrix(r, m, n, pad, off)
	x.poison()
	w.poison()
	before := dst.clone()
	productNT(im, kind, &dst, &x, &w, k, acc)
	checkProduct(t, &dst, &before, k, acc, func(i, j, p int) (float32, float32) { return x.row(i)[p], w.row(j)[p] })
	dst.checkGuards(t)
}

func eachWeight(t *testing.T, f func(t *testing.T, im *impl, kind int)) {
	eachImpl(t, func(t *testing.T, im *impl) {
		for kind := range weightKinds {
			t.Run("weights="+weightKinds[kind].dtype.String(), func(t *testing.T) { f(t, im, kind) })
		}
	})
}

func TestGemmNT(t *testing.T) {
	eachWeight(t, func(t *testing.T, im *impl, kind int) {
		r := newRand()
		for k := 1; k <= 130; k++ { // every tail of every vector width
			for _, m := range []int{1, 2, 7} {
				testNT(t, im, kind, r, m, 5, k, k%5, k%3, k%2 == 0)
			}
		}
		for m := 1; m <= 20; m++ { // every tile
			for n := 1; n <= 40; n++ {
				if testing.Short() && n > 9 && n%7 != 0 {
					continue
				}
				testNT(t, im, kind, r, m, n, 19, n%4, m%3, n%2 == 0)
			}
		}
		for m := 1; m <= 13; m++ { // every tile's main loop
			for _, n := range []int{3, 9} {
				testNT(t, im, kind, r, m, n, 64+m, 1, m%3, n == 9)
			}
		}
		for _, k := range []int{1023, 1024, 1025, 2304, 3001} { // more than a chunk of k
			for _, m := range []int{1, 3, 4, 9} {
				if testing.Short() && (k != 1025 && k != 3001 || m != 3) {
					continue
				}
				for _, acc := range []bool{false, true} {
					testNT(t, im, kind, r, m, 37, k, 1, 0, acc)
				}
			}
		}
	})
}

// TestGemmNTRowsAlone holds every element of a large product, bit for bit, against the same
// element of products of parts of its rows and columns.
func TestGemmNTRowsAlone(t *testing.T) {
	eachWeight(t, func(t *testing.T, im *impl, kind int) {
		for _, k := range []int{1, 7, 64, 129, 768, 2309} {
			r := newRand()
			const m, n = 27, 43
			x, w := newMatrix(r, m, k, 3, 1), newMatrix(r, n, k, 0, 2)
			whole := newMatrix(r, m, n, 0, 0)
			before := whole.clone()
			acc := k%2 == 0
			productNT(im, kind, &whole, &x, &w, k, acc)
			for range 60 {
				i, j := r.IntN(m), r.IntN(n)
				rows, cols := 1+r.IntN(m-i), 1+r.IntN(n-j)
				if r.IntN(3) == 0 {
					rows = 1
				}
				part := newMatrix(r, rows, cols, 1, 3)
				for p := range rows {
					copy(part.row(p), before.row(i + p)[j:])
				}
				xp, wp := x, w
				xp.off, xp.rows = x.off+i*x.ld, rows
				wp.off, wp.rows = w.off+j*w.ld, cols
				productNT(im, kind, &part, &xp, &wp, k, acc)
				for p := range rows {
					for q := range cols {
						if got, want := part.row(p)[q], whole.row(i + p)[j+q]; math.Float32bits(got) != math.Float32bits(want) {
							t.Fatalf("k=%d: element [%d,%d] is %g in a product of [%d:%d, %d:%d], %g in the whole", k, i+p, j+q, got, i, i+rows, j, j+cols, want)
						}
					}
				}
			}
		}
	})
}

func TestGemmNN(t *testing.T) {
	test := func(t *testing.T, im *impl, r *rand.Rand, m, n, k, off, pad int, acc bool) {
		t.Helper()
		a, b, dst := newMatrix(r, m, k, pad, off), newMatrix(r, k, n, pad, off), newMatrix(r, m, n, pad, off)
		a.poison()
		b.poison()
		before := dst.clone()
		im.gemmNN(dst.slice(), dst.ld, a.slice(), a.ld, b.slice(), b.ld, m, n, k, acc)
		checkProduct(t, &dst, &before, k, acc, func(i, j, p int) (float32, float32) { return a.row(i)[p], b.row(p)[j] })
		dst.checkGuards(t)
	}
	eachImpl(t, func(t *testing.T, im *impl) {
		r := newRand()
		for n := 1; n <= 130; n++ { // every tail and width of a panel
			for _, m := range []int{1, 2, 7} {
				test(t, im, r, m, n, 1+n%9, n%5, n%3, n%2 == 0)
			}
		}
		for m := 1; m <= 30; m++ { // every tile
			for _, n := range []int{1, 16, 17, 47, 48, 100} {
				test(t, im, r, m, n, 5+m%4, n%4, m%3, m%2 == 0)
			}
		}
		for _, k := range []int{255, 256, 257, 700} {
			for _, s := range [][2]int{{1, 9}, {3, 64}, {40, 50}, {65, 200}, {30, 500}} {
				if testing.Short() && s[0]*s[1] > 200 && (k != 257 || s[0] != 65) {
					continue
				}
				for _, acc := range []bool{false, true} {
					test(t, im, r, s[0], s[1], k, 1, 2, acc)
				}
			}
		}
	})
}

// TestGemmTN holds the product with a transposed a against gemmNN's of the same numbers, bit for bit.
func TestGemmTN(t *testing.T) {
	eachImpl(t, func(t *testing.T, im *impl) {
		r := newRand()
		for _, k := range []int{1, 3, 16, 37, 513, 700} {
			for m := 1; m <= 50; m += 1 + m/9 {
				for _, n := range []int{1, 16, 23, 100, 400} {
					if testing.Short() && n > 100 {
						continue
					}
					acc := (m+n)%2 == 0
					a, b, dst := newMatrix(r, k, m, n%4, m%3), newMatrix(r, k, n, m%4, n%3), newMatrix(r, m, n, k%3, k%2)
					turned, want := newMatrix(r, m, k, 0, 0), dst.clone()
					for i := range m {
						for p := range k {
							turned.row(i)[p] = a.row(p)[i]
						}
					}
					a.poison()
					b.poison()
					im.gemmNN(want.slice(), want.ld, turned.slice(), turned.ld, b.slice(), b.ld, m, n, k, acc)
					im.productTN(dst.slice(), dst.ld, a.slice(), a.ld, b.slice(), b.ld, m, n, k, acc)
					for i, got := range dst.data { // guards included
						if math.Float32bits(got) != math.Float32bits(want.data[i]) {
							t.Fatalf("m=%d n=%d k=%d acc=%v: number %d is %g, want %g", m, n, k, acc, i, got, want.data[i])
						}
					}
				}
			}
		}
	})
}

// TestGemmNNRowsAlone is TestGemmNTRowsAlone for gemmNN.
func TestGemmNNRowsAlone(t *testing.T) {
	eachImpl(t, func(t *testing.T, im *impl) {
		for _, k := range []int{1, 5, 96, 300, 601} {
			r := newRand()
			const m, n = 67, 155
			a, b := newMatrix(r, m, k, 3, 1), newMatrix(r, k, n, 0, 2)
			whole := newMatrix(r, m, n, 0, 0)
			before := whole.clone()
			acc := k%2 == 0
			im.gemmNN(whole.slice(), n, a.slice(), a.ld, b.slice(), b.ld, m, n, k, acc)
			for range 60 {
				i, j := r.IntN(m), r.IntN(n)
				rows, cols := 1+r.IntN(m-i), 1+r.IntN(n-j)
				part := newMatrix(r, rows, cols, 1, 3)
				for p := range rows {
					copy(part.row(p), before.row(i + p)[j:])
				}
				im.gemmNN(part.slice(), part.ld, a.slice()[i*a.ld:], a.ld, b.slice()[j:], b.ld, rows, cols, k, acc)
				for p := range rows {
					for q := range cols {
						if got, want := part.row(p)[q], whole.row(i + p)[j+q]; math.Float32bits(got) != math.Float32bits(want) {
							t.Fatalf("k=%d: element [%d,%d] is %g in a product of [%d:%d, %d:%d], %g in the whole", k, i+p, j+q, got, i, i+rows, j, j+cols, want)
						}
					}
				}
			}
		}
	})
}

// TestGemmSpecial puts NaN and Inf at every place of k: they reach the elements of their row and
// column and no others, wherever the tails are.
func TestGemmSpecial(t *testing.T) {
	inf := float32(math.Inf(1))
	nan := float32(math.NaN())
	const m, n = 4, 6
	check := func(t *testing.T, what string, k, p int, v float32, dst *matrix32) {
		t.Helper()
		for i := range m {
			for j := range n {
				want := "finite"
				if i == 1 {
					want = class(float64(v))
				}
				if got := class(float64(dst.row(i)[j])); got != want {
					t.Fatalf("k=%d: with x[1,%d] = %g, %s[%d,%d] is %s, want %s", k, p, v, what, i, j, got, want)
				}
			}
		}
	}
	eachImpl(t, func(t *testing.T, im *impl) {
		for _, k := range []int{1, 8, 15, 17, 33} {
			for p := range k {
				for _, v := range []float32{nan, inf, -inf} {
					x, w, dst := newMatrix(newRand(), m, k, 0, 0), newMatrix(newRand(), n, k, 0, 0), newMatrix(newRand(), m, n, 0, 0)
					for i := range w.data {
						w.data[i] = 1
					}
					x.row(1)[p] = v
					for kind := range weightKinds {
						productNT(im, kind, &dst, &x, &w, k, false)
						check(t, weightKinds[kind].dtype.String(), k, p, v, &dst)
					}
					im.gemmNN(dst.slice(), n, x.slice(), k, w.data[:k*n], n, m, n, k, false)
					check(t, "NN", k, p, v, &dst)
				}
			}
		}
	})
}

// TestGemmDenormals multiplies the smallest numbers: none may be flushed to zero. (The file
// formats' own denormals are among the values of TestWiden.)
func TestGemmDenormals(t *testing.T) {
	const tiny = 0x1p-149
	eachImpl(t, func(t *testing.T, im *impl) {
		for _, k := range []int{1, 8, 21} {
			x, w, dst := make([]float32, k), make([]float32, k), make([]float32, 1)
			half := make([]uint16, k)
			for i := range x {
				x[i], w[i], half[i] = tiny, 1, 0x3f80
			}
			want := float32(k) * tiny
			im.product(F32, dst, 1, x, k, BytesOf(w), 4*k, 1, 1, k, false)
			if dst[0] != want {
				t.Errorf("k=%d: gemmNT = %g, want %g", k, dst[0], want)
			}
			im.gemmNN(dst, 1, w, k, x, 1, 1, 1, k, false)
			if dst[0] != want {
				t.Errorf("k=%d: gemmNN = %g, want %g", k, dst[0], want)
			}
			im.product(BF16, dst, 1, x, k, BytesOf(half), 2*k, 1, 1, k, false)
			if dst[0] != want {
				t.Errorf("k=%d: gemmNTBF16 = %g, want %g", k, dst[0], want)
			}
			for i := range x {
				x[i], half[i] = 0x1p24, 1 // 2⁻²⁴ in half precision, 2⁻¹³³ in bfloat16
			}
			im.product(F16, dst, 1, x, k, BytesOf(half), 2*k, 1, 1, k, false)
			if dst[0] != float32(k) {
				t.Errorf("k=%d: gemmNTF16 = %g, want %d", k, dst[0], k)
			}
			im.product(BF16, dst, 1, x, k, BytesOf(half), 2*k, 1, 1, k, false)
			if want := float32(k) * 0x1p-109; dst[0] != want {
				t.Errorf("k=%d: gemmNTBF16 of denormals = %g, want %g", k, dst[0], want)
			}
		}
	})
}

func TestGemmAllocs(t *testing.T) {
	eachImpl(t, func(t *testing.T, im *impl) {
		const n, k = 70, 1100
		r := newRand()
		for _, m := range []int{1, 5, 40} {
			dst, x, w, bits := make([]float32, m*n), randoms(r, m*k), randoms(r, n*k), make([]uint16, n*k)
			for name, f := range map[string]func(){
				"gemmNT":     func() { im.product(F32, dst, n, x, k, BytesOf(w), 4*k, m, n, k, false) },
				"gemmNTBF16": func() { im.product(BF16, dst, n, x, k, BytesOf(bits), 2*k, m, n, k, true) },
				"gemmNTF16":  func() { im.product(F16, dst, n, x, k, BytesOf(bits), 2*k, m, n, k, false) },
				"gemmNN":     func() { im.gemmNN(dst, n, x, k, w, n, m, n, k, true) },
				"gemmTN":     func() { im.productTN(dst, n, x, m, w, n, m, n, k, true) },
			} {
				if allocs := testing.AllocsPerRun(3, f); allocs != 0 {
					t.Errorf("%s with %d rows: %g allocations", name, m, allocs)
				}
			}
		}
	})
}

// A type that an instruction set has no entry for gives the bits of the product of its widened numbers.
func TestProductThroughWidening(t *testing.T) {
	eachImpl(t, func(t *testing.T, im *impl) {
		r := newRand()
		for _, k := range []int{1, 7, 64, 1100} {
			for _, n := range []int{1, 5, 97} {
				for _, m := range []int{1, 3, 30} {
					x, bits, wide := randoms(r, m*k), make([]uint16, n*k), make([]float32, n*k)
					for i := range bits {
						bits[i] = uint16(0x3f00 + r.IntN(256))
					}
					im.widen[BF16](wide, BytesOf(bits))
					without := *im
					without.products[BF16] = nil
					want, got := make([]float32, m*n), make([]float32, m*n)
					im.product(F32, want, n, x, k, BytesOf(wide), 4*k, m, n, k, false)
					without.product(BF16, got, n, x, k, BytesOf(bits), 2*k, m, n, k, false)
					if !slices.Equal(got, want) {
						t.Fatalf("m=%d n=%d k=%d: other bits", m, n, k)
					}
				}
			}
		}
	})
}

func TestDTypes(t *testing.T) {
	for d := F32; d < numDTypes; d++ {
		n, size := d.Block()
		if d.String() == "" || n < 1 || size < 1 || d.Bytes(3*n) != 3*size {
			t.Errorf("%d: %q, blocks of %d numbers in %d bytes", uint8(d), d, n, size)
		}
		if d.Weight() != (d <= F16 || d >= Q8_0) || (d.Scales() != nil) != (d >= Q8_0) || d >= Q8_0 && !d.Float() {
			t.Errorf("%v: Weight %v", d, d.Weight())
		}
	}
	if got := DType(0).String() + " " + numDTypes.String(); got != "DType(0) DType(42)" {
		t.Error(got)
	}
}
