package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// sameBits wants what the operations on rows write to be what their parts do, beside guard values.
func sameBits(t *testing.T, what string, run func(im *impl, out [][]float32), im, parts *impl, before ...[]float32) {
	t.Helper()
	var all, got [][]float32
	for i, x := range before {
		a, g := guarded(len(x), i%4)
		copy(g, x)
		all, got = append(all, a), append(got, g)
	}
	run(im, got)
	var want [][]float32
	for _, x := range before {
		want = append(want, slices.Clone(x))
	}
	run(parts, want)
	for i := range got {
		checkGuards(t, what, all[i], len(got[i]), i%4)
		for j, x := range want[i] {
			if math.Float32bits(got[i][j]) != math.Float32bits(x) {
				t.Fatalf("%s: operand %d [%d] = %v, its parts give %v", what, i, j, got[i][j], x)
			}
		}
	}
}

// TestRows wants of the operations on rows the bits of those that they are made of.
func TestRows(t *testing.T) {
	eachImpl(t, func(t *testing.T, im *impl) {
		parts := *im
		parts.normalize, parts.normGrad, parts.gateGrad = normalizeParts, normGradParts, gateGradParts
		parts.mixRows, parts.mixGradRows = mixRowsParts, mixGradRowsParts
		rng := rand.New(rand.NewPCG(31, 5))
		for _, size := range []int{1, 5, 16, 32, 48, 64, 80, 112, 128, 144, 208, 768} {
			for _, groups := range []int{1, 2, 3} {
				checkNormRows(t, im, &parts, rng, size, groups)
			}
			checkMixRows(t, im, &parts, rng, size)
		}
	})
}

func checkNormRows(t *testing.T, im, parts *impl, rng *rand.Rand, size, groups int) {
	n := size * groups
	x, dy, gain, bias, z := uniform(rng, n, 3), uniform(rng, n, 3), uniform(rng, n, 2), uniform(rng, n, 2), uniform(rng, n, 9)
	room := make([]float32, 3*n)
	for bits := range 16 {
		what := fmt.Sprintf("%d of %d, case %d:", groups, size, bits)
		gain, bias, add := unless(bits&1 != 0, gain), unless(bits&2 != 0, bias), bits&4 != 0
		sameBits(t, what+" Normalize", func(im *impl, out [][]float32) {
			im.normalize(im, out[0], x, gain, bias, unless(bits&4 != 0, out[1]), groups, 1e-5)
		}, im, parts, make([]float32, n), make([]float32, groups))
		hat, rstd := make([]float32, n), make([]float32, groups)
		im.normalize(im, hat, x, nil, nil, rstd, groups, 1e-5)
		sameBits(t, what+" NormGrad", func(im *impl, out [][]float32) {
			im.normGrad(im, out[0], unless(bits&2 != 0, out[1]), unless(bits&8 != 0, out[2]), dy, hat, gain, rstd, room, add)
		}, im, parts, uniform(rng, n, 1), uniform(rng, n, 1), uniform(rng, n, 1))
		sameBits(t, what+" NormGrad in place", func(im *impl, out [][]float32) {
			im.normGrad(im, out[0], out[1], out[2], out[0], hat, gain, rstd, room, add)
		}, im, parts, dy, uniform(rng, n, 1), uniform(rng, n, 1))
	}
	sameBits(t, "Normalize in place", func(im *impl, out [][]float32) {
		im.normalize(im, out[0], out[0], gain, bias, nil, groups, 1e-5)
	}, im, parts, x)
	sameBits(t, "GateGrad", func(im *impl, out [][]float32) {
		im.gateGrad(im, out[0], out[1], out[0], z, x, gain, bias, room)
	}, im, parts, dy, make([]float32, n))
}

// unless returns x, or nil if none is set.
func unless(none bool, x []float32) []float32 {
	if none {
		return nil
	}
	return x
}

func checkMixRows(t *testing.T, im, parts *impl, rng *rand.Rand, n int) {
	room := make([]float32, 2*n)
	for rows := 1; rows <= 4; rows++ {
		ldx, ldd, lddx := n+rng.IntN(5), n+rng.IntN(5), n+rng.IntN(5)
		mix := uniform(rng, n, 1)
		for ends := MixEnds(0); ends < 8; ends++ {
			before, after := 1, 1
			if ends&FirstRow != 0 {
				before = 0
			}
			if ends&LastRow != 0 {
				after = 0
			}
			x, d := uniform(rng, (rows+before-1)*ldx+n, 3), uniform(rng, (rows+after-1)*ldd+n, 3)
			what := fmt.Sprintf("%d rows of %d, ends %d:", rows, n, ends)
			prev := uniform(rng, n, 3)
			sameBits(t, what+" MixRows", func(im *impl, out [][]float32) {
				im.mixRows(im, out[0], lddx, x[before*ldx:], ldx, prev, mix, rows)
			}, im, parts, make([]float32, (rows-1)*lddx+n))
			sameBits(t, what+" MixGradRows", func(im *impl, out [][]float32) {
				im.mixGradRows(im, out[0], lddx, out[1], d, ldd, x, ldx, mix, room, rows, ends)
			}, im, parts, uniform(rng, (rows-1)*lddx+n, 1), make([]float32, n))
		}
	}
}

// TestChunk7 wants of what chunks of RWKV-7 need the bits of the reference.
func TestChunk7(t *testing.T) {
	eachImpl(t, func(t *testing.T, im *impl) {
		reference := *im
		reference.prepare7, reference.finish7 = prepare7Generic, finish7Generic
		reference.decay7, reference.solve7 = decay7Generic, solve7Parts
		rng := rand.New(rand.NewPCG(31, 6))
		for _, n := range []int{1, 15, 16, 32, 64, 80} {
			for rows := 1; rows <= 16; rows++ {
				checkChunk7(t, im, &reference, rng, rows, n)
			}
		}
	})
}

func checkChunk7(t *testing.T, im, reference *impl, rng *rand.Rand, rows, n int) {
	what, ld := fmt.Sprintf("%d rows of %d:", rows, n), n+rng.IntN(5)
	long := (rows-1)*ld + n
	var in [5][]float32
	for i := range in {
		in[i] = uniform(rng, long, 2)
		for j := range in[i] {
			in[i][j] += 2.5 // decays divide
		}
	}
	sameBits(t, what+" prepare7", func(im *impl, out [][]float32) {
		c := &Chunk7{Rows: rows, N: n, Pow: out[0], Planes: out[1]}
		im.prepare7(c, in[0], in[1], in[2], in[3], in[4], ld)
	}, im, reference, make([]float32, (rows+1)*n), make([]float32, 4*rows*n))
	c := &Chunk7{Rows: rows, N: n, Pow: uniform(rng, (rows+1)*n, 2), Planes: uniform(rng, 4*rows*n, 2)}
	planes, log := uniform(rng, 4*rows*n, 2), uniform(rng, n, 2)
	sameBits(t, what+" finish7", func(im *impl, out [][]float32) {
		im.finish7(c, out[0], out[1], out[2], out[3], out[4], planes, log, ld)
	}, im, reference, make([]float32, long), make([]float32, long), make([]float32, long), make([]float32, long), make([]float32, long))
	s, pow := uniform(rng, rows*n, 2), uniform(rng, n, 2)
	sameBits(t, what+" decay7", func(im *impl, out [][]float32) {
		im.decay7(out[0], s, pow, out[1])
	}, im, reference, uniform(rng, rows*n, 2), make([]float32, n))
	if rows == 1 {
		return
	}
	m := uniform(rng, rows*(rows+3), 1)
	for _, back := range []bool{false, true} {
		sameBits(t, what+" solve7", func(im *impl, out [][]float32) {
			im.solve7(im, out[0], m, rows+3, rows, n, back)
		}, im, reference, uniform(rng, rows*n, 2))
	}
}
