package kernel

import "math"

// Operations on rows that read a number once where those that they are made of read it several times. They have the
// bits of those, which are the reference.

// Normalize computes for each of groups equal parts of x
//
//	dst = (x − mean)·rstd ⊙ gain + bias,   rstd = 1/√(var + eps)
//
// with the variance over the part's length. A nil gain is 1, a nil bias 0; rstd keeps a number for each part,
// unless it is nil.
func Normalize(dst, x, gain, bias, rstd []float32, groups int, eps float32) {
	checkLen("Normalize", len(dst), len(x))
	checkWanted("Normalize", len(dst), gain, bias)
	checkWanted("Normalize rstd", groups, rstd)
	if groups <= 0 || len(x)%groups != 0 {
		panic("kernel: Normalize: parts of unequal lengths")
	}
	if len(x) > 0 {
		active.normalize(active, dst, x, gain, bias, rstd, groups, eps)
	}
}

// NormGrad goes back over Normalize from the gradient of its result, dy, with hat what it gives without gain and
// bias: with g = dy ⊙ gain,
//
//	dx = rstd·(g − mean(g) − hat·mean(g ⊙ hat))    for each part; added to dx if add is set
//	dgain += dy ⊙ hat;  dbias += dy                unless they are nil
//
// dx may be dy. tmp is room for two rows.
func NormGrad(dx, dgain, dbias, dy, hat, gain, rstd, tmp []float32, add bool) {
	checkLen("NormGrad", len(dx), len(dy), len(hat))
	checkWanted("NormGrad", len(dx), dgain, dbias, gain)
	if len(rstd) == 0 || len(dx)%len(rstd) != 0 || len(tmp) < 2*len(dx) {
		panic("kernel: NormGrad: parts of unequal lengths, or no room")
	}
	if len(dx) > 0 {
		active.normGrad(active, dx, dgain, dbias, dy, hat, gain, rstd, tmp, add)
	}
}

// GateGrad goes back over (hat ⊙ gain + bias) ⊙ silu(z) from its gradient d: g becomes the gradient of what the
// gate multiplies, dz that of z. dz may be d. tmp is room for three rows.
func GateGrad(dz, g, d, z, hat, gain, bias, tmp []float32) {
	checkLen("GateGrad", len(d), len(dz), len(g), len(z), len(hat), len(gain), len(bias), len(tmp)/3)
	if len(d) > 0 {
		active.gateGrad(active, dz, g, d, z, hat, gain, bias, tmp)
	}
}

// MixRows is Mix for rows that follow each other, each with the one before it: of the first that is prev. The rows
// of dst and x are ldd and ldx apart and have the length of mix; dst must not overlap x.
func MixRows(dst []float32, ldd int, x []float32, ldx int, prev, mix []float32, rows int) {
	n := len(mix)
	checkLen("MixRows", n, len(prev))
	if rows <= 0 || n == 0 {
		return
	}
	checkMatrix("MixRows", "dst", len(dst), ldd, rows, n)
	checkMatrix("MixRows", "x", len(x), ldx, rows, n)
	active.mixRows(active, dst, ldd, x, ldx, prev, mix, rows)
}

// MixEnds says what MixGradRows has at the ends of its rows, and whether it adds.
type MixEnds int

const (
	FirstRow MixEnds = 1 << iota // the sequence begins here: x doesn't begin with the row before
	LastRow                      // the sequence ends here: d doesn't end with the row after
	AddToDX                      // dx is added to, else written
)

// MixGradRows goes back over MixRows from the gradient d of its result: for rows of a sequence,
//
//	dx = d + (next − d) ⊙ mix;   s += Σ d ⊙ (prev − x)
//
// where next is d's row after, zeros behind the last, and prev is x's row before, zeros before the first. d has
// a row more than dx behind, x one before, but for the ends; rows are lddx, ldd and ldx apart and have the length of
// mix. No slice may overlap another. tmp is room for two rows.
func MixGradRows(dx []float32, lddx int, s, d []float32, ldd int, x []float32, ldx int, mix, tmp []float32, rows int, ends MixEnds) {
	n := len(mix)
	checkLen("MixGradRows", n, len(s), len(tmp)/2)
	if rows <= 0 || n == 0 {
		return
	}
	before, after := 1, 1
	if ends&FirstRow != 0 {
		before = 0
	}
	if ends&LastRow != 0 {
		after = 0
	}
	checkMatrix("MixGradRows", "dx", len(dx), lddx, rows, n)
	checkMatrix("MixGradRows", "d", len(d), ldd, rows+after, n)
	checkMatrix("MixGradRows", "x", len(x), ldx, rows+before, n)
	active.mixGradRows(active, dx, lddx, s, d, ldd, x, ldx, mix, tmp, rows, ends)
}

// checkWanted is checkLen for operands that may be nil.
func checkWanted(op string, n int, operands ...[]float32) {
	for _, x := range operands {
		if x != nil {
			checkLen(op, n, len(x))
		}
	}
}

func normalizeParts(im *impl, dst, x, gain, bias, rstd []float32, groups int, eps float32) {
	size := len(x) / groups
	for i := range groups {
		from, to := i*size, (i+1)*size
		d, part := dst[from:to], x[from:to]
		mean := im.sum(part) / float32(size)
		scale := float32(1 / math.Sqrt(float64(im.sumSquares(part, mean)/float32(size)+eps)))
		im.norm(d, part, mean, scale, wanted(gain, from, to), wanted(bias, from, to))
		if rstd != nil {
			rstd[i] = scale
		}
	}
}

// wanted returns a part of x, nil of nil.
func wanted(x []float32, from, to int) []float32 {
	if x == nil {
		return nil
	}
	return x[from:to]
}

func normGradParts(im *impl, dx, dgain, dbias, dy, hat, gain, rstd, tmp []float32, add bool) {
	n, size := len(dx), len(dx)/len(rstd)
	g, part := tmp[:n], tmp[n:2*n]
	if dbias != nil {
		im.add(dbias, dbias, dy)
	}
	if dgain != nil {
		im.mul(part, dy, hat)
		im.add(dgain, dgain, part)
	}
	if gain != nil {
		im.mul(g, dy, gain)
	} else {
		copy(g, dy)
	}
	for i, r := range rstd {
		from, to := i*size, (i+1)*size
		gi, h, out := g[from:to], hat[from:to], part[from:to]
		mean, slope := im.sum(gi)/float32(size), im.dot(gi, h)/float32(size)
		im.norm(out, gi, mean, r, nil, nil)
		im.axpy(out, -slope*r, h)
	}
	if add {
		im.add(dx, dx, part)
	} else {
		copy(dx, part)
	}
}

func gateGradParts(im *impl, dz, g, d, z, hat, gain, bias, tmp []float32) {
	n := len(d)
	sigmoid, silu, p := tmp[:n], tmp[n:2*n], tmp[2*n:3*n]
	im.sigmoid(sigmoid, z)
	im.mul(silu, z, sigmoid)
	im.mul(g, d, silu)
	im.norm(p, hat, 0, 1, gain, bias)
	im.mul(dz, d, p)
	im.mul(p, silu, sigmoid) // silu' = sigmoid + silu − silu·sigmoid
	im.axpy(silu, -1, p)
	im.add(silu, silu, sigmoid)
	im.mul(dz, dz, silu)
}

func mixRowsParts(im *impl, dst []float32, ldd int, x []float32, ldx int, prev, mix []float32, rows int) {
	n := len(mix)
	for r := range rows {
		row := x[r*ldx:][:n]
		im.mix(dst[r*ldd:][:n], row, prev, mix)
		prev = row
	}
}

func mixGradRowsParts(im *impl, dx []float32, lddx int, s, d []float32, ldd int, x []float32, ldx int, mix, tmp []float32, rows int, ends MixEnds) {
	n := len(mix)
	diff, zeros := tmp[:n], tmp[n:2*n]
	clear(zeros)
	prev := zeros
	if ends&FirstRow == 0 {
		prev, x = x[:n], x[ldx:]
	}
	for r := range rows {
		row, to, next := x[r*ldx:][:n], dx[r*lddx:][:n], zeros
		im.scale(diff, -1, row)
		im.add(diff, diff, prev)
		if r+1 < rows || ends&LastRow == 0 {
			next = d[(r+1)*ldd:][:n]
		}
		if ends&AddToDX == 0 {
			clear(to)
		}
		im.mixGrad(to, s, d[r*ldd:][:n], next, mix, diff)
		prev = row
	}
}
