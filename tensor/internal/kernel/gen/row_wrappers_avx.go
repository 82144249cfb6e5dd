package main

// rowShapes are the Go functions around the operations on rows: what isn't whole blocks of 16 numbers is computed
// by the operations that they are made of.
const rowShapes = `
func normalizeVecISA(im *impl, dst, x, gain, bias, rstd []float32, groups int, eps float32) {
	size := len(x) / groups
	if size%16 != 0 {
		normalizeParts(im, dst, x, gain, bias, rstd, groups, eps)
		return
	}
	normalizeISA(&dst[0], &x[0], unsafe.SliceData(gain), unsafe.SliceData(bias), unsafe.SliceData(rstd), groups, size, eps)
}

func normGradVecISA(im *impl, dx, dgain, dbias, dy, hat, gain, rstd, tmp []float32, add bool) {
	size := len(dy) / len(rstd)
	if size%16 != 0 {
		normGradParts(im, dx, dgain, dbias, dy, hat, gain, rstd, tmp, add)
		return
	}
	normGradISA(&dx[0], unsafe.SliceData(dgain), unsafe.SliceData(dbias), &dy[0], &hat[0], unsafe.SliceData(gain), &rstd[0], len(rstd), size, btoi(add))
}

func gateGradVecISA(im *impl, dz, g, d, z, hat, gain, bias, tmp []float32) {
	if len(d)%16 != 0 {
		gateGradParts(im, dz, g, d, z, hat, gain, bias, tmp)
		return
	}
	gateGradISA(&dz[0], &g[0], &d[0], &z[0], &hat[0], &gain[0], &bias[0], len(d))
}

func mixRowsVecISA(im *impl, dst []float32, ldd int, x []float32, ldx int, prev, mix []float32, rows int) {
	if len(mix)%16 != 0 {
		mixRowsParts(im, dst, ldd, x, ldx, prev, mix, rows)
		return
	}
	mixRowsISA(&dst[0], &x[0], &prev[0], &mix[0], 4*ldd, 4*ldx, rows, len(mix))
}

func mixGradRowsVecISA(im *impl, dx []float32, lddx int, s, d []float32, ldd int, x []float32, ldx int, mix, tmp []float32, rows int, ends MixEnds) {
	if len(mix)%16 != 0 {
		mixGradRowsParts(im, dx, lddx, s, d, ldd, x, ldx, mix, tmp, rows, ends)
		return
	}
	if ends&FirstRow == 0 {
		x = x[ldx:]
	}
	mixGradRowsISA(&dx[0], &s[0], &d[0], &x[0], &mix[0], 4*lddx, 4*ldd, 4*ldx, rows, len(mix), int(ends))
}
`
