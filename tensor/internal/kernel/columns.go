package kernel

// columnLanes is what the numbers of columns are multiples of.
const columnLanes = 16

// ExpColumns begins a softmax of each of the n columns of x [rows, n], which are ld numbers from row to row
// and a multiple of 16: most gets the column's largest element, x becomes exp(x − most), and sums gets the sum
// of that. A column of −Inf alone becomes NaN.
func ExpColumns(x []float32, ld, rows, n int, most, sums []float32) {
	if emptyColumns("ExpColumns", ld, rows, n, len(x)) {
		return
	}
	checkLen("ExpColumns", n, len(most), len(sums))
	active.expColumns(active, x, ld, rows, n, most, sums)
}

// GradColumns goes back through softmaxes of columns, from the scores s, the largest of each, a factor that
// makes exp(s − most) the softmax, and the gradient d of the softmax times that factor: s and d [rows, n]
// are as for ExpColumns, and
//
//	s = exp(s − most)
//	d = s ⊙ (d − factor·Σ s⊙d)
//
// which is the gradient of the scores.
func GradColumns(s, d []float32, ld, rows, n int, most, factors []float32) {
	if emptyColumns("GradColumns", ld, rows, n, len(s), len(d)) {
		return
	}
	checkLen("GradColumns", n, len(most), len(factors))
	active.gradColumns(active, s, d, ld, rows, n, most, factors)
}

// emptyColumns checks the sizes of matrices and reports whether there is nothing to do.
func emptyColumns(op string, ld, rows, n int, lens ...int) bool {
	if n%columnLanes != 0 {
		panic("kernel: " + op + ": a number of columns that is no multiple of 16")
	}
	if rows == 0 || n == 0 {
		return true
	}
	for _, l := range lens {
		checkMatrix(op, "operand", l, ld, rows, n)
	}
	return false
}

// expColumnsByRows is ExpColumns by the exponentials of rows.
func expColumnsByRows(im *impl, x []float32, ld, rows, n int, most, sums []float32) {
	copy(most, x[:n])
	for i := range rows {
		for j, v := range x[i*ld:][:n] {
			most[j] = max(most[j], v)
		}
	}
	clear(sums)
	for i := range rows {
		row := x[i*ld:][:n]
		im.expLess(row, most)
		for j, e := range row {
			sums[j] += e
		}
	}
}

// gradColumnsByRows is GradColumns by the exponentials of rows.
func gradColumnsByRows(im *impl, s, d []float32, ld, rows, n int, most, factors []float32) {
	buf := getBuffer(n)
	defer buf.put()
	dots := buf.data[:n]
	clear(dots)
	for i := range rows {
		row := s[i*ld:][:n]
		im.expLess(row, most)
		for j, g := range d[i*ld:][:n] {
			dots[j] += row[j] * g
		}
	}
	im.mul(dots, dots, factors)
	for i := range rows {
		row := d[i*ld:][:n]
		for j, e := range s[i*ld:][:n] {
			row[j] = e * (row[j] - dots[j])
		}
	}
}

// expLess computes x = exp(x − y).
func (im *impl) expLess(x, y []float32) {
	for j := range x {
		x[j] -= y[j]
	}
	im.exp(x, x)
}
