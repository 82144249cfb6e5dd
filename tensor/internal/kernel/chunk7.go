package kernel

// What a chunk of RWKV-7's recurrence does beside products on its way back, see package wkv.

// Chunk7 is a chunk of rows of one head. With P_i the product of the decays of rows 0 to i,
//
//	Pow [Rows+1, N]         1, then P_0, P_1, …
//	Planes [4, Rows, N]     r_i·P_i,  −a_i·P_{i−1},  k_i/P_i,  b_i/P_i
//
// It must not be on the stack: the kernels' table lets it escape.
type Chunk7 struct {
	Rows, N     int
	Pow, Planes []float32
}

func (c *Chunk7) check(op string, ld int, operands ...[]float32) {
	checkMatrix(op, "pow", len(c.Pow), c.N, c.Rows+1, c.N)
	checkMatrix(op, "planes", len(c.Planes), c.N, 4*c.Rows, c.N)
	for _, x := range operands {
		checkMatrix(op, "operand", len(x), ld, c.Rows, c.N)
	}
}

// Prepare computes the chunk from its operands, whose rows are ld apart.
func (c *Chunk7) Prepare(r, w, k, a, b []float32, ld int) {
	c.check("Chunk7", ld, r, w, k, a, b)
	active.prepare7(c, r, w, k, a, b, ld)
}

// Finish goes back over Prepare from the gradients of its planes and from log [N], that of ln P of the last row: it
// writes those of the operands, rows ld apart, and in dw that of ln w.
func (c *Chunk7) Finish(dr, dw, dk, da, db, planes, log []float32, ld int) {
	c.check("Chunk7 backwards", ld, dr, dw, dk, da, db)
	checkMatrix("Chunk7 backwards", "planes", len(planes), c.N, 4*c.Rows, c.N)
	checkLen("Chunk7 backwards", c.N, len(log))
	active.finish7(c, dr, dw, dk, da, db, planes, log, ld)
}

// Decay7 computes log = Σ d ⊙ s over the rows of d and s [M, N], then multiplies each row of d by pow [N].
func Decay7(d, s, pow, log []float32) {
	checkLen("Decay7", len(d), len(s))
	checkLen("Decay7", len(pow), len(log))
	if len(pow) == 0 || len(d) == 0 || len(d)%len(pow) != 0 {
		panic("kernel: Decay7: no rows")
	}
	active.decay7(d, s, pow, log)
}

// Solve7 makes x [rows, n] the solution of x_i = x_i + Σ_{j<i} m[i,j]·x_j; with back set, of
// x_i = x_i + Σ_{j>i} m[j,i]·x_j. The rows of m are ld apart.
func Solve7(x, m []float32, ld, rows, n int, back bool) {
	checkMatrix("Solve7", "x", len(x), n, rows, n)
	checkMatrix("Solve7", "m", len(m), ld, rows, rows)
	if rows > 1 && n > 0 {
		active.solve7(active, x, m, ld, rows, n, back)
	}
}

func prepare7Generic(c *Chunk7, r, w, k, a, b []float32, ld int) {
	n, plane := c.N, c.Rows*c.N
	for j := range n {
		c.Pow[j] = 1
	}
	for i := range c.Rows {
		before, pow := c.Pow[i*n:][:n], c.Pow[(i+1)*n:][:n]
		at, to := i*ld, i*n
		for j, q := range before {
			p := q * w[at+j]
			inv := 1 / p
			pow[j] = p
			c.Planes[to+j], c.Planes[plane+to+j] = r[at+j]*p, -(a[at+j] * q)
			c.Planes[2*plane+to+j], c.Planes[3*plane+to+j] = k[at+j]*inv, b[at+j]*inv
		}
	}
}

func finish7Generic(c *Chunk7, dr, dw, dk, da, db, planes, log []float32, ld int) {
	n, plane := c.N, c.Rows*c.N
	for j, sum := range log {
		for i := c.Rows - 1; i >= 0; i-- {
			at, in := i*ld+j, i*n+j
			xr, xa, xk, xb := planes[in], planes[plane+in], planes[2*plane+in], planes[3*plane+in]
			sum += c.Planes[in]*xr - c.Planes[2*plane+in]*xk - c.Planes[3*plane+in]*xb
			dw[at] = sum
			sum += c.Planes[plane+in] * xa // which has P of the row before
			p := c.Pow[in+n]
			inv := 1 / p
			dr[at], dk[at], db[at] = xr*p, xk*inv, xb*inv
			da[at] = -(xa * c.Pow[in])
		}
	}
}

func decay7Generic(d, s, pow, log []float32) {
	n := len(pow)
	clear(log)
	for at := 0; at < len(d); at += n {
		row, state := d[at:][:n], s[at:][:n]
		for j, x := range row {
			log[j] += x * state[j]
			row[j] = x * pow[j]
		}
	}
}

func solve7Parts(im *impl, x, m []float32, ld, rows, n int, back bool) {
	for j := range rows {
		for i := j + 1; i < rows; i++ {
			to, from, by := i, j, m[i*ld+j]
			if back {
				to, from = rows-1-i, rows-1-j
				by = m[from*ld+to]
			}
			im.axpy(x[to*n:][:n], by, x[from*n:][:n])
		}
	}
}
