package kernel

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// eachQ8 runs a subtest for every implementation and format that has products with activations of 8 bits.
func eachQ8(t *testing.T, f func(t *testing.T, im *impl, d DType)) {
	eachImpl(t, func(t *testing.T, im *impl) {
		r := &im.roundings[Q8Activations]
		if r.group == 0 && im.name == "simd128" {
			t.Skip("WebAssembly's module has none")
		}
		for d := F32; d < numDTypes; d++ {
			if (r.products[d] != nil) != (q8Formats[d].unpack != nil) {
				t.Errorf("%v: there is a product: %v", d, r.products[d] != nil)
			}
			if r.products[d] != nil {
				t.Run(d.String(), func(t *testing.T) { f(t, im, d) })
			}
		}
	})
}

// roundedRows rounds rows of k numbers by im.
func roundedRows(im *impl, x []float32, m, k int) []byte {
	b := make([]byte, m*q8Size(k))
	for i := range m {
		im.roundings[Q8Activations].round(b[i*q8Size(k):][:q8Size(k)], x[i*k:], k, 1, k)
	}
	return b
}

// Every implementation rounds to the same bytes, which are right.
func TestRoundQ8(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	rng := newRand()
	rows := map[string][]float32{
		"zeros": make([]float32, 32), "random": randoms(rng, 32*7), "ties": nil, "one": {5: -3, 31: 0},
		"small": {3: 0x1p-119, 4: -0x1p-126, 31: 0}, "tiny": {3: 0x1p-121, 4: -0x1p-149, 31: 0}, "least": {9: 0x1p-120, 31: 0},
		"large": {2: math.MaxFloat32, 8: -math.MaxFloat32, 31: 1}, "negative zero": {0: float32(math.Copysign(0, -1)), 31: 0},
		"inf": {7: inf, 31: 1}, "minus inf": {7: -inf, 31: 1}, "nan": {0: 2, 19: nan, 31: 1}, "negative nan": {19: -nan, 31: 1},
		"both": {0: inf, 1: nan, 2: -inf, 31: 0},
	}
	for i := range 32 {
		rows["ties"] = append(rows["ties"], float32(i)-15.5)
	}
	rows["ties"][0] = 127
	for i := range 200 {
		x := randoms(rng, 32)
		for j := range x {
			x[j] *= float32(math.Exp2(float64(rng.IntN(254) - 140)))
		}
		rows[fmt.Sprintf("scaled %d", i)] = x
	}
	eachImpl(t, func(t *testing.T, im *impl) {
		if im.roundings[Q8Activations].group == 0 {
			t.Skip("no products with activations of 8 bits")
		}
		for name, x := range rows {
			k := len(x)
			got, want := roundedRows(im, x, 1, k), roundedRows(&generic, x, 1, k)
			for u := range k / 32 {
				g, w, x := got[u*q8Unit:][:q8Unit], want[u*q8Unit:][:q8Unit], x[32*u:][:32]
				d, gd := math.Float32frombits(binary.LittleEndian.Uint32(w[32:])), math.Float32frombits(binary.LittleEndian.Uint32(g[32:]))
				finite := !slices.ContainsFunc(x, func(v float32) bool { return v-v != 0 })
				if !finite {
					if d == d || gd == gd {
						t.Errorf("%s: the scale is %g, in Go %g, want NaN", name, gd, d)
					}
					if product := math.Float32frombits(binary.LittleEndian.Uint32(g[36:])); product == product {
						t.Errorf("%s: scale times sum is %g, want NaN", name, product)
					}
					binary.LittleEndian.PutUint64(g[32:], binary.LittleEndian.Uint64(w[32:])) // there are many NaN
				}
				if !slices.Equal(g, w) {
					t.Errorf("%s, block %d: % x, in Go % x", name, u, g, w)
				}
				most, sums := 0.0, [2]int32{}
				for i, v := range x {
					most = max(most, math.Abs(float64(v)))
					q := int32(int8(w[i]))
					sums[i/16] += q
					if off := math.Abs(float64(d)*float64(q) - float64(v)); finite && most > q8Tiny && !(off <= 0.5001*float64(d)) {
						t.Errorf("%s: %g becomes %d times %g", name, v, q, d)
					}
				}
				for i, s := range sums {
					if got := int32(binary.LittleEndian.Uint32(w[40+4*i:])); got != -32*s {
						t.Errorf("%s: −32 times the sum is %d, the sum %d", name, got, s)
					}
				}
				if finite && most < q8Tiny && (d != 0 || sums != [2]int32{}) {
					t.Errorf("%s: scale %g, sums %d", name, d, sums)
				}
			}
		}
	})
}

// checkQ8 compares an element with what the rounded x and the widened w give in float64, and with what x
// itself gives. The bound counts the roundings of a part, which are no more than 8, and one for each part in
// the sum, of sizes that are no larger than what the parts' terms come to.
func checkQ8(t *testing.T, what string, d DType, got float32, x []float32, rounded, w []byte) {
	t.Helper()
	k := len(x)
	numbers, size := d.Block()
	wide, q, factors := make([]float32, k), make([]uint8, numbers), make([]float32, numbers/16)
	dtypes[d].widen(wide, w)
	var want, exact, scale, lost float64
	for p := range k {
		if p%numbers == 0 {
			q8Formats[d].unpack(q, factors, w[p/numbers*size:][:size])
		}
		unit := rounded[p/32*q8Unit:]
		dx := float64(math.Float32frombits(binary.LittleEndian.Uint32(unit[32:])))
		xq := dx * float64(int8(unit[p%32]))
		i := p % numbers
		term := math.Abs(float64(factors[i/32*2])*float64(q[i])) + math.Abs(float64(factors[i/32*2+1]))
		if q8Formats[d].halves {
			term = math.Abs(float64(factors[i/16])) * (float64(q[i]) + 32)
		}
		want += float64(wide[p]) * xq
		exact += float64(wide[p]) * float64(x[p])
		scale += term * math.Abs(xq)
		lost += math.Abs(float64(wide[p])) * 0.5001 * dx
	}
	bound := float64(k/32+8) * 0x1p-23 * scale
	if off := math.Abs(float64(got) - want); !(off <= bound) {
		t.Fatalf("%s: %g, want %g ± %g", what, got, want, bound)
	}
	if off := math.Abs(float64(got) - exact); !(off <= bound+lost) {
		t.Fatalf("%s: %g, with exact activations %g ± %g", what, got, exact, bound+lost)
	}
}

// Products with activations of 8 bits are right, whatever the tiles, and written where they belong alone. A
// row of them has the same bits alone and among others, wherever its weights lie.
func TestProductsQ8(t *testing.T) {
	eachQ8(t, func(t *testing.T, im *impl, d DType) {
		rng := newRand()
		numbers, _ := d.Block()
		test := func(m, n, blocks int, acc bool) {
			k, pad := numbers*blocks, rng.IntN(3)
			row := d.Bytes(k)
			ldw := row + 2*rng.IntN(2)*row
			x, w := randoms(rng, m*k), randomBlocks(rng, d, ldw/row*n*blocks)
			w = w[: (n-1)*ldw+row : (n-1)*ldw+row]
			for i := range x { // each 32 with another scale
				x[i] *= float32(1 + i/32%5)
			}
			rounded := roundedRows(im, x, m, k)
			product := im.roundings[Q8Activations].products[d]
			dst := newMatrix(rng, m, n, pad, 1)
			before := dst.clone()
			product(dst.slice(), dst.ld, rounded, w, ldw, m, n, k, acc)
			dst.checkGuards(t)
			for range 12 {
				i, j := rng.IntN(m), rng.IntN(n)
				var alone [1]float32
				product(alone[:], 1, rounded[i*q8Size(k):], w[j*ldw:], ldw, 1, 1, k, false)
				what := fmt.Sprintf("m=%d n=%d blocks=%d acc=%v: element %d, %d", m, n, blocks, acc, i, j)
				checkQ8(t, what, d, alone[0], x[i*k:][:k], rounded[i*q8Size(k):], w[j*ldw:][:row])
				want := alone[0]
				if acc {
					want += before.row(i)[j]
				}
				if got := dst.row(i)[j]; got != want {
					t.Fatalf("%s is %g, alone %g", what, got, want)
				}
			}
		}
		for m := 1; m <= 40; m++ {
			test(m, 1+rng.IntN(40), 1+rng.IntN(2), m%2 == 0)
		}
		for n := 1; n <= 40; n++ {
			test(1+n%3, n, 1, n%3 == 0)
		}
		for blocks := 1; blocks <= 14; blocks++ { // more than a panel's
			test(1+blocks%3, 17, blocks, false)
		}
	})
}

// Whatever the scales of blocks, implementations agree with the reference on what isn't finite, and on the
// rest within its roundings; NaN and Inf in x make the row's elements NaN and no others.
func TestHostileQ8(t *testing.T) {
	eachQ8(t, func(t *testing.T, im *impl, d DType) {
		rng := newRand()
		numbers, size := d.Block()
		for round := range 300 {
			k := 2 * numbers
			w := randomBlocks(rng, d, 2*17)
			for i := range len(w) / size { // any half-precision number: subnormal ones, and in some rounds NaN and Inf
				for _, at := range d.Scales() {
					s := uint16(rng.Uint32())
					if round%2 == 0 && s>>10&31 == 31 {
						s &^= 1 << 10
					}
					binary.LittleEndian.PutUint16(w[i*size+at:], s)
				}
			}
			x := randoms(rng, 3*k)
			if round%3 == 0 {
				x[k+rng.IntN(k)] = []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))}[rng.IntN(3)]
			}
			got, want := make([]float32, 3*17), make([]float32, 3*17)
			rounded := roundedRows(im, x, 3, k)
			im.roundings[Q8Activations].products[d](got, 17, rounded, w, 2*size, 3, 17, k, false)
			productQ8Generic(d, want, 17, rounded, w, 2*size, 3, 17, k, false)
			for i, v := range want {
				if round%3 == 0 && i/17 == 1 && got[i] == got[i] {
					t.Fatalf("element %d is %g where x isn't finite", i, got[i])
				}
				if round%2 == 0 && !(round%3 == 0 && i/17 == 1) {
					checkQ8(t, fmt.Sprintf("round %d, element %d", round, i), d, got[i], x[i/17*k:][:k], rounded[i/17*q8Size(k):], w[i%17*2*size:][:2*size])
				}
				if (v != v) != (got[i] != got[i]) || math.IsInf(float64(v), 0) && got[i] != v {
					t.Fatalf("round %d: element %d is %g, in Go %g", round, i, got[i], v)
				}
			}
		}
	})
}

// The implementations' factors and numbers are those of the reference in every place of a block: a block in
// which a single number isn't 0 comes out as that number times x.
func TestNumbersQ8(t *testing.T) {
	eachQ8(t, func(t *testing.T, im *impl, d DType) {
		rng := newRand()
		numbers, size := d.Block()
		w := randomBlocks(rng, d, 1)
		wide := make([]float32, numbers)
		dtypes[d].widen(wide, w)
		for p := range numbers {
			x := make([]float32, numbers)
			x[p] = 127 // which is rounded to itself
			var got [1]float32
			im.roundings[Q8Activations].products[d](got[:], 1, roundedRows(im, x, 1, numbers), w, size, 1, 1, numbers, false)
			checkQ8(t, fmt.Sprintf("number %d, %g times 127", p, wide[p]), d, got[0], x, roundedRows(im, x, 1, numbers), w)
		}
	})
}

// The largest numbers of blocks beside the largest of x: sums of few bits must not overflow.
func TestExtremesQ8(t *testing.T) {
	eachQ8(t, func(t *testing.T, im *impl, d DType) {
		numbers, size := d.Block()
		for _, bits := range []byte{0x00, 0xff} {
			w := make([]byte, 2*size)
			for i := range w {
				w[i] = bits
			}
			for i := range 2 {
				for _, at := range d.Scales() {
					binary.LittleEndian.PutUint16(w[i*size+at:], 0x3555) // some third
				}
			}
			for _, signs := range [][2]float32{{1, 1}, {-1, -1}, {1, -1}} {
				x := make([]float32, 2*numbers)
				for i := range x {
					x[i] = signs[i%2]
				}
				var got [1]float32
				rounded := roundedRows(im, x, 1, len(x))
				im.roundings[Q8Activations].products[d](got[:], 1, rounded, w, 2*size, 1, 1, len(x), false)
				checkQ8(t, fmt.Sprintf("bits %x, signs %v", bits, signs), d, got[0], x, rounded, w)
			}
		}
	})
}

// The wrapper refuses what doesn't fit.
func TestRoundedRefuses(t *testing.T) {
	x := NewRounded(Q8Activations, 2, 256)
	defer x.Free()
	src, dst, w := make([]float32, 512), make([]float32, 8), make([]byte, 4*144)
	x.Round(0, src, 256, 2)
	x.Round(1, src, 256, 2)
	x.Product(Q4_K, dst, 4, 0, w, 144, 2, 4, false)
	for name, f := range map[string]func(){
		"rows":      func() { x.Product(Q4_K, dst, 4, 1, w, 144, 2, 4, false) },
		"group":     func() { x.Product(Q4_K, dst, 4, -1, w, 144, 1, 4, false) },
		"weights":   func() { x.Product(Q4_K, dst, 4, 0, w[1:], 144, 2, 4, false) },
		"dst":       func() { x.Product(Q4_K, dst[1:], 4, 0, w, 144, 2, 4, false) },
		"round's x": func() { x.Round(1, src[1:], 256, 2) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

// FuzzProductQ8 holds every implementation against the reference on any bytes.
func FuzzProductQ8(f *testing.F) {
	rng := rand.New(rand.NewPCG(3, 4))
	for d := range q8Formats {
		if q8Formats[d].unpack != nil {
			f.Add(uint8(d), randomBlocks(rng, DType(d), 2), uint64(d))
		}
	}
	f.Fuzz(func(t *testing.T, dtype uint8, w []byte, seed uint64) {
		d := DType(dtype)
		if d >= numDTypes || q8Formats[d].unpack == nil {
			return
		}
		numbers, size := d.Block()
		n := len(w) / size
		if n == 0 || n > 40 {
			return
		}
		rng := rand.New(rand.NewPCG(seed, 1))
		x := randoms(rng, 2*numbers)
		for i := range impls {
			im := &impls[i]
			if im.roundings[Q8Activations].group == 0 {
				continue
			}
			got, want := make([]float32, 2*n), make([]float32, 2*n)
			rounded := roundedRows(im, x, 2, numbers)
			im.roundings[Q8Activations].products[d](got, n, rounded, w, size, 2, n, numbers, false)
			productQ8Generic(d, want, n, rounded, w, size, 2, n, numbers, false)
			for i, v := range want {
				if (v != v) != (got[i] != got[i]) {
					t.Fatalf("%s: element %d is %g, in Go %g", im.name, i, got[i], v)
				}
				if v-v == 0 {
					checkQ8(t, im.name, d, got[i], x[i/n*numbers:][:numbers], rounded[i/n*q8Size(numbers):], w[i%n*size:][:size])
				}
			}
		}
	})
}
