package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

const eps32 = 0x1p-24 // the largest relative error of one rounding

// guarded returns n numbers around which there are guard values, at an offset that isn't aligned.
func guarded(n, offset int) (all, x []float32) {
	all = make([]float32, n+offset+8)
	for i := range all {
		all[i] = 12345
	}
	return all, all[offset : offset+n : offset+n]
}

func checkGuards(t *testing.T, what string, all []float32, n, offset int) {
	t.Helper()
	for i, v := range all {
		if (i < offset || i >= offset+n) && v != 12345 {
			t.Fatalf("%s: n=%d offset=%d: wrote beside dst at %d", what, n, offset, i-offset)
		}
	}
}

func uniform(rng *rand.Rand, n int, scale float32) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = (2*rng.Float32() - 1) * scale
	}
	return x
}

func sigmoid64(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

type operands struct{ a, b, c []float32 }

// elementwise are the operations of up to three operands.
var elementwise = []struct {
	name string
	run  func(im *impl, dst []float32, o operands)
	want func(a, b, c float64) float64
	ulps float64 // bound in 2⁻²⁴ of |want| + |a| + |b|
}{
	{"add", func(im *impl, d []float32, o operands) { im.add(d, o.a, o.b) }, func(a, b, _ float64) float64 { return a + b }, 1},
	{"mul", func(im *impl, d []float32, o operands) { im.mul(d, o.a, o.b) }, func(a, b, _ float64) float64 { return a * b }, 1},
	{"scale", func(im *impl, d []float32, o operands) { im.scale(d, 1.7, o.a) }, func(a, _, _ float64) float64 { return float64(float32(1.7)) * a }, 1},
	{"mix", func(im *impl, d []float32, o operands) { im.mix(d, o.a, o.b, o.c) }, func(a, b, c float64) float64 { return a + (b-a)*c }, 8},
	{"norm", func(im *impl, d []float32, o operands) { im.norm(d, o.a, 0.5, 2, o.b, o.c) }, func(a, b, c float64) float64 { return (a-0.5)*2*b + c }, 24},
	{"norm without bias", func(im *impl, d []float32, o operands) { im.norm(d, o.a, 0.5, 2, o.b, nil) }, func(a, b, _ float64) float64 { return (a - 0.5) * 2 * b }, 24},
	{"norm without gain", func(im *impl, d []float32, o operands) { im.norm(d, o.a, 0.5, 2, nil, o.b) }, func(a, b, _ float64) float64 { return (a-0.5)*2 + b }, 24},
	{"norm alone", func(im *impl, d []float32, o operands) { im.norm(d, o.a, 0.5, 2, nil, nil) }, func(a, _, _ float64) float64 { return (a - 0.5) * 2 }, 8},
	{"squareReLU", func(im *impl, d []float32, o operands) { im.squareReLU(d, o.a) }, func(a, _, _ float64) float64 { return max(a, 0) * max(a, 0) }, 1},
	{"exp", func(im *impl, d []float32, o operands) { im.exp(d, o.a) }, func(a, _, _ float64) float64 { return math.Exp(a) }, 4},
	{"sigmoid", func(im *impl, d []float32, o operands) { im.sigmoid(d, o.a) }, func(a, _, _ float64) float64 { return sigmoid64(a) }, 5},
	{"silu", func(im *impl, d []float32, o operands) { im.silu(d, o.a) }, func(a, _, _ float64) float64 { return a * sigmoid64(a) }, 6},
	{"tanh", func(im *impl, d []float32, o operands) { im.tanh(d, o.a) }, func(a, _, _ float64) float64 { return math.Tanh(a) }, 5},
}

// vecLengths are every tail of every vector width, and more than a call of assembly gets.
func vecLengths() []int {
	lengths := []int{20011}
	for n := 1; n <= 130; n++ {
		lengths = append(lengths, n)
	}
	return lengths
}

// Elementwise operations at every length and alignment, in place and not, beside guard values.
func TestElementwise(t *testing.T) {
	eachImpl(t, func(t *testing.T, im *impl) {
		rng := rand.New(rand.NewPCG(1, 2))
		for _, op := range elementwise {
			for _, n := range vecLengths() {
				offset := n % 4
				o := operands{uniform(rng, n+1, 3)[1:], uniform(rng, n+2, 3)[2:], uniform(rng, n+3, 1)[3:]}
				all, dst := guarded(n, offset)
				op.run(im, dst, o)
				checkGuards(t, op.name, all, n, offset)
				for i := range dst {
					a, b := float64(o.a[i]), float64(o.b[i])
					want := op.want(a, b, float64(o.c[i]))
					bound := op.ulps * eps32 * (math.Abs(want) + math.Abs(a) + math.Abs(b))
					if got := float64(dst[i]); !(math.Abs(got-want) <= bound) {
						t.Fatalf("%s: n=%d: [%d] = %g, want %g ± %g", op.name, n, i, got, want, bound)
					}
				}
				inPlace := append([]float32(nil), o.a...)
				o.a = inPlace
				op.run(im, inPlace, o)
				for i := range dst {
					if inPlace[i] != dst[i] {
						t.Fatalf("%s: n=%d: in place [%d] = %g, else %g", op.name, n, i, inPlace[i], dst[i])
					}
				}
			}
		}
		for _, n := range vecLengths() {
			all, dst := guarded(n, n%4)
			x := uniform(rng, n+1, 1)[1:]
			copy(dst, uniform(rng, n, 1))
			before := append([]float32(nil), dst...)
			im.axpy(dst, 0.3, x)
			checkGuards(t, "axpy", all, n, n%4)
			for i := range dst {
				want := float64(before[i]) + float64(float32(0.3))*float64(x[i])
				if !(math.Abs(float64(dst[i])-want) <= 2*eps32*(math.Abs(want)+1)) {
					t.Fatalf("axpy: n=%d: [%d] = %g, want %g", n, i, dst[i], want)
				}
			}
		}
	})
}

// class tells NaN, the infinities and all else apart.
func class(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return fmt.Sprint(v)
	}
	return "finite"
}

// TestElementwiseSpecial puts NaN, Inf and denormals at every place: each gives what the formula
// does there, and changes no other element. So an element's bits don't depend on its place.
func TestElementwiseSpecial(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	special := [][3]float32{
		{nan, 1, 0.5}, {1, nan, 0.5}, {1, 2, nan}, {inf, 1, 0.5}, {-inf, 1, 0.5}, {1, inf, 0.5}, {1, -inf, 0.5},
		{0x1p-133, 0x1p-134, 1}, {-0x1p-149, 0x1p-149, 1}, {0, 0, 0},
	}
	eachImpl(t, func(t *testing.T, im *impl) {
		rng := newRand()
		for _, op := range elementwise {
			for _, n := range []int{1, 3, 4, 7, 8, 15, 16, 31, 37} {
				o := operands{uniform(rng, n, 3), uniform(rng, n, 3), uniform(rng, n, 1)}
				plain, dst, alone := make([]float32, n), make([]float32, n), make([]float32, 1)
				op.run(im, plain, o)
				for p := range n {
					op.run(im, alone, operands{o.a[p : p+1], o.b[p : p+1], o.c[p : p+1]})
					if math.Float32bits(alone[0]) != math.Float32bits(plain[p]) {
						t.Fatalf("%s: [%d] of %d is %g, alone it is %g", op.name, p, n, plain[p], alone[0])
					}
					before := [3]float32{o.a[p], o.b[p], o.c[p]}
					for _, v := range special {
						o.a[p], o.b[p], o.c[p] = v[0], v[1], v[2]
						op.run(im, dst, o)
						a, b, c := float64(v[0]), float64(v[1]), float64(v[2])
						want, got := op.want(a, b, c), float64(dst[p])
						bound := 0x1p-148
						for _, size := range []float64{want, a, b} {
							if class(size) == "finite" {
								bound += op.ulps * eps32 * math.Abs(size)
							}
						}
						if class(got) != class(want) || class(want) == "finite" && !(math.Abs(got-want) <= bound) {
							t.Fatalf("%s: n=%d: [%d] of %g is %g, want %g ± %g", op.name, n, p, v, got, want, bound)
						}
						for i := range dst {
							if i != p && math.Float32bits(dst[i]) != math.Float32bits(plain[i]) {
								t.Fatalf("%s: n=%d: [%d] = %g beside %g at [%d], else %g", op.name, n, i, dst[i], v, p, plain[i])
							}
						}
					}
					o.a[p], o.b[p], o.c[p] = before[0], before[1], before[2]
				}
			}
		}
	})
}

// Reductions: a sum of n numbers in any order is off by at most n·2⁻²⁴·Σ|x|.
func TestReductions(t *testing.T) {
	eachImpl(t, func(t *testing.T, im *impl) {
		rng := rand.New(rand.NewPCG(3, 4))
		lengths := []int{20011} // more than a call of assembly gets
		for n := 1; n <= 300; n++ {
			lengths = append(lengths, n)
		}
		for _, n := range lengths {
			for offset := range 4 {
				x, y := uniform(rng, n+offset, 1)[offset:], uniform(rng, n+offset, 1)[offset:]
				var dot, dotSize, sum, sumSize, squares float64
				largest := math.Inf(-1)
				for i := range x {
					a, b := float64(x[i]), float64(y[i])
					dot, dotSize = dot+a*b, dotSize+math.Abs(a*b)
					sum, sumSize = sum+a, sumSize+math.Abs(a)
					squares += (a - 0.25) * (a - 0.25)
					largest = max(largest, a)
				}
				check := func(what string, got float32, want, size float64) {
					t.Helper()
					if bound := float64(n+3) * eps32 * size; !(math.Abs(float64(got)-want) <= bound) {
						t.Fatalf("%s: n=%d offset=%d: %g, want %g ± %g", what, n, offset, got, want, bound)
					}
				}
				check("dot", im.dot(x, y), dot, dotSize)
				check("sum", im.sum(x), sum, sumSize)
				check("sumSquares", im.sumSquares(x, 0.25), squares, squares)
				check("max", im.max(x), largest, 0)

				all, dst := guarded(n, offset)
				got := im.expSum(dst, x, float32(largest))
				checkGuards(t, "expSum", all, n, offset)
				var expSum float64
				for i := range x {
					e := math.Exp(float64(x[i] - float32(largest)))
					expSum += e
					if !(math.Abs(float64(dst[i])-e) <= 4*eps32*e) {
						t.Fatalf("expSum: n=%d: [%d] = %g, want %g", n, i, dst[i], e)
					}
				}
				check("expSum", got, expSum, 5*expSum)
			}
		}
	})
}

// TestReductionsSpecial puts NaN, Inf and the largest number at every place, among numbers that are
// all negative, and sums denormals.
func TestReductionsSpecial(t *testing.T) {
	inf := math.Inf(1)
	eachImpl(t, func(t *testing.T, im *impl) {
		rng := newRand()
		for n := 1; n <= 70; n++ {
			x, ones, dst := uniform(rng, n, 1), make([]float32, n), make([]float32, n)
			for i := range x {
				x[i], ones[i] = -1-x[i]*x[i], 1
			}
			check := func(what string, p int, got float32, want float64) {
				t.Helper()
				if float64(got) != want && !(got != got && want != want) {
					t.Fatalf("n=%d: with [%d] = %g, %s = %g, want %g", n, p, x[p], what, got, want)
				}
			}
			for p := range n {
				before := x[p]
				x[p] = -0.5
				check("max", p, im.max(x), -0.5)
				for _, v := range []float64{math.NaN(), inf, -inf} {
					x[p] = float32(v)
					check("dot", p, im.dot(x, ones), v)
					check("dot", p, im.dot(ones, x), v)
					check("sum", p, im.sum(x), v)
					check("sumSquares", p, im.sumSquares(x, 1), v*v)
					sum := im.expSum(dst, x, 0.5)
					check("exp", p, dst[p], math.Exp(v))
					if math.IsInf(v, -1) {
						x[p] = before
						if all := im.expSum(dst, x, 0.5); !(math.Abs(float64(all)-float64(dst[p])-float64(sum)) <= float64(n+3)*eps32*float64(all)) {
							t.Fatalf("n=%d: expSum = %g without [%d], %g of %g", n, sum, p, dst[p], all)
						}
					} else {
						check("expSum", p, sum, math.Exp(v))
					}
					if math.IsInf(v, 1) {
						check("max", p, im.max(x), v)
					}
				}
				x[p] = before
			}
			for i := range x {
				x[i] = -float32(inf)
			}
			check("max", 0, im.max(x), -inf)
			check("expSum", 0, im.expSum(dst, x, 0), 0)
			for i := range x {
				x[i] = 0x1p-149
			}
			check("sum", 0, im.sum(x), float64(n)*0x1p-149)
			check("dot", 0, im.dot(x, ones), float64(n)*0x1p-149)
			check("max", 0, im.max(x), 0x1p-149)
		}
	})
}

// The functions over the whole range of float32, a prime stride apart so that all low bits occur,
// and at every place where they change their mind. The bounds are in units of 2⁻²⁴ of the result,
// beside the least denormal.
func TestFunctionsOverTheWholeRange(t *testing.T) {
	funcs := []struct {
		name  string
		run   func(im *impl) func(dst, x []float32)
		want  func(float64) float64
		bound float64
	}{
		{"exp", func(im *impl) func(d, x []float32) { return im.exp }, math.Exp, 3},
		{"sigmoid", func(im *impl) func(d, x []float32) { return im.sigmoid }, sigmoid64, 4},
		{"silu", func(im *impl) func(d, x []float32) { return im.silu }, func(x float64) float64 { return x * sigmoid64(x) }, 5},
		{"tanh", func(im *impl) func(d, x []float32) { return im.tanh }, math.Tanh, 4},
	}
	inf := float32(math.Inf(1))
	special := []float32{0, float32(math.Copysign(0, -1)), inf, -inf, float32(math.NaN()), 1e-45, -1e-45, 0x1p-126, math.MaxFloat32, -math.MaxFloat32,
		88.72283, 88.72284, 88.8, 89, 90, -87.33654, -87.4, -103.27, -103.97, -103.98, -104, -104.1, -110, 0.625, 0.62499994, -0.625, 44.5, -44.5, 9, 10, 20}
	eachImpl(t, func(t *testing.T, im *impl) {
		for _, f := range funcs {
			run := f.run(im)
			worst, at := 0.0, float32(0)
			check := func(x, y []float32) {
				for i, v := range x {
					want := f.want(float64(v))
					got := float64(y[i])
					switch {
					case math.IsNaN(want):
						if got == got {
							t.Fatalf("%s(%g) = %g, want NaN", f.name, v, got)
						}
					case float32(want) == inf && got == float64(inf): // the same side of the border
					case math.Abs(want) > math.MaxFloat32*(1-1e-6):
						if !(got > math.MaxFloat32*(1-1e-6)) {
							t.Fatalf("%s(%g) = %g, want %g", f.name, v, got, want)
						}
					default:
						slack := 0x1p-149
						if f.name == "silu" { // x times a sigmoid that may be denormal
							slack *= max(1, math.Abs(float64(v)))
						}
						err := max(0, math.Abs(got-want)-slack) / math.Abs(want) / eps32
						if want == 0 {
							err = math.Abs(got) / eps32
						}
						if !(err <= f.bound) {
							t.Fatalf("%s(%g) = %g, want %g: error %g · 2⁻²⁴", f.name, v, got, want, err)
						}
						if err > worst {
							worst, at = err, v
						}
					}
					if want == 0 && v == 0 && math.Signbit(float64(v)) && f.name != "exp" && !math.Signbit(got) {
						t.Fatalf("%s(−0) = %g", f.name, got)
					}
				}
			}
			y := make([]float32, len(special))
			run(y, special)
			check(special, y)
			x := make([]float32, 0, 4096)
			y = make([]float32, 4096)
			step := uint64(20011)
			if testing.Short() {
				step = 300007
			}
			for b := uint64(0); b < 1<<32; b += step {
				x = append(x, math.Float32frombits(uint32(b)))
				if len(x) == cap(x) || b+step >= 1<<32 {
					run(y[:len(x)], x)
					check(x, y)
					x = x[:0]
				}
			}
			t.Logf("%s: largest error %.2f · 2⁻²⁴ at %g", f.name, worst, at)
		}
	})
}

// Widening is exact for all 65,536 patterns.
func TestWiden(t *testing.T) {
	eachImpl(t, func(t *testing.T, im *impl) {
		bits := make([]uint16, 1<<16)
		for i := range bits {
			bits[i] = uint16(i)
		}
		bf16, f16 := make([]float32, len(bits)), make([]float32, len(bits))
		im.widen[BF16](bf16, BytesOf(bits))
		im.widen[F16](f16, BytesOf(bits))
		for i := range bits {
			if got, want := math.Float32bits(bf16[i]), uint32(i)<<16; got != want {
				t.Fatalf("bf16 %#x is %#x, want %#x", i, got, want)
			}
			e, frac := i>>10&31, float64(i&1023)
			want := math.Ldexp(1+frac/1024, e-15)
			switch e {
			case 0:
				want = math.Ldexp(frac, -24)
			case 31:
				want = math.Inf(1)
				if frac != 0 {
					want = math.NaN()
				}
			}
			if i>>15 == 1 {
				want = -want
			}
			if got := float64(f16[i]); got != want && !(got != got && want != want) {
				t.Fatalf("f16 %#x is %g, want %g", i, got, want)
			}
		}
		for n := 1; n <= 130; n++ {
			from := 0x3c00 + n // ordinary numbers in both formats
			check := func(what string, widen widening, want []float32) {
				t.Helper()
				all, dst := guarded(n, n%4)
				widen(dst, BytesOf(bits[from:][:n]))
				checkGuards(t, what, all, n, n%4)
				for i := range dst {
					if dst[i] != want[from+i] {
						t.Fatalf("%s: n=%d: [%d] = %g, want %g", what, n, i, dst[i], want[from+i])
					}
				}
			}
			check("widenBF16", im.widen[BF16], bf16)
			check("widenF16", im.widen[F16], f16)
		}
	})
}

func BenchmarkVec(b *testing.B) {
	x, y, z := make([]float32, 768), make([]float32, 768), make([]float32, 768)
	for i := range x {
		x[i], y[i] = float32(i%17)-8, float32(i%13)-6
	}
	s := make([]float32, 64*64)
	for _, im := range impls {
		for _, op := range []struct {
			name string
			f    func()
		}{
			{"add", func() { im.add(z, x, y) }},
			{"mix", func() { im.mix(z, x, y, y) }},
			{"dot", func() { im.dot(x, y) }},
			{"norm", func() { im.norm(z, x, 1, 2, y, y) }},
			{"exp", func() { im.exp(z, x) }},
			{"expSum", func() { im.expSum(z, x, 8) }},
			{"silu", func() { im.silu(z, x) }},
			{"tanh", func() { im.tanh(z, x) }},
			{"wkv5", func() { im.wkv5(z[:64], s, x[:64], x[64:128], x[128:192], 0.5, 0.5) }},
			{"wkv7", func() { im.wkv7(z[:64], s, x[:64], s[:64], x[64:128], x[128:192], s[:64], s[:64]) }},
		} {
			b.Run(fmt.Sprintf("op=%s/impl=%s", op.name, im.name), func(b *testing.B) {
				for b.Loop() {
					op.f()
				}
			})
		}
	}
}
