package wkv

import (
	"math"

	"microrwkv/tensor"
	"microrwkv/tensor/internal/kernel"
	"microrwkv/tensor/internal/task"
)

// Mix7 is what lies between the products of an RWKV-7 time mix and its recurrence, row by row, with
// k0 and v0 the keys and values as the products give them:
//
//	w = exp(Scale·s);  κ = (k0 ⊙ KK) / max(‖·‖, 10⁻¹²) per head;  k = k0 ⊙ (1 + (a−1) ⊙ KA);  b = κ ⊙ a
//	v = v0 + (vFirst − v0) ⊙ m         without m in the first block, where vFirst = v0
//	out += (Σ_head r ⊙ k ⊙ RK) v
//
// a, s and m are sigmoids.
type Mix7 struct {
	Heads                        int
	Scale                        float32
	R, K0, K, V0, V, Kappa, A, S *tensor.Tensor // [R, C]
	M, VFirst                    *tensor.Tensor // [R, C]; M is nil in the first block
	KK, KA, RK                   *tensor.Tensor // [C]
	DKK, DKA, DRK, DA0, DS0, DM0 *tensor.Tensor // [C], added to; the last three get the sums of DA, DS and DM
	DOut                         *tensor.Tensor // gradient of out
	DR, DK, DV, DW, DKappa, DB   *tensor.Tensor // of the recurrence's operands, DW of ln w; DR, DK0 = DK and DV0 = DV are then those of the products
	DA, DS, DM, DVFirst          *tensor.Tensor // written, of what goes into the sigmoids; DVFirst is added to, or read in the first block
}

// Backward computes the gradients.
func (m *Mix7) Backward() {
	t := task.Sums{Op: mix7Row, N: m.R.Dim(-1), Groups: m.Heads, X: m.Scale}
	for i, x := range [...]*tensor.Tensor{m.DOut, m.R, m.K0, m.K, m.V, m.Kappa, m.A, m.S, m.DKappa, m.DB, m.VFirst} {
		tensor.SameShape("Mix7", m.R, x)
		t.In[i] = x.Matrix()
	}
	for i, x := range [...]*tensor.Tensor{m.DR, m.DK, m.DV, m.DW, m.DA, m.DS, m.DVFirst} {
		tensor.SameShape("Mix7", m.R, x)
		t.Out[i] = x.Matrix()
	}
	for i, x := range [...]*tensor.Tensor{m.KK, m.KA, m.RK} {
		t.Vec[i] = tensor.Vector("Mix7", x, t.N)
	}
	for i, x := range [...]*tensor.Tensor{m.DKK, m.DKA, m.DRK, m.DA0, m.DS0, m.DM0} {
		t.Sum[i] = tensor.Vector("Mix7", x, t.N)
	}
	checkHeads("Mix7", m.R, m.Heads)
	if m.M != nil {
		tensor.SameShape("Mix7", m.R, m.M, m.V0, m.DM)
		t.In[11], t.In[12], t.Out[7] = m.M.Matrix(), m.V0.Matrix(), m.DM.Matrix()
	}
	t.Tmp = 6 + 4 // room for all sums, whichever are wanted, and for four rows
	task.OverRowSums(&t)
}

// mix7Row goes back over a row: bonus, k and κ, decay, v. What isn't a sum over a head is done for all of them at
// once.
func mix7Row(t *task.Sums, r int, sums, tmp []float32) {
	n, size := t.N, t.N/t.Groups
	sum := func(i int) []float32 {
		if t.Sum[i] == nil {
			return tmp[i*n:][:n] // that nobody reads
		}
		return sums[i*n:][:n]
	}
	in := func(i int) []float32 { return t.In[i].Row(r) }
	out := func(i int) []float32 { return t.Out[i].Row(r) }
	dOut, rr, k0, k, v, kappa, a := in(0), in(1), in(2), in(3), in(4), in(5), in(6)
	dr, dk, dv := out(0), out(1), out(2)
	kk, ka, rk := t.Vec[0], t.Vec[1], t.Vec[2]
	x, y, z, p := tmp[6*n:][:n], tmp[7*n:][:n], tmp[8*n:][:n], tmp[9*n:][:n]

	kernel.Mul(x, k, rk)
	kernel.Mul(y, rr, rk)
	kernel.Mul(z, rr, k)
	dRK := sum(2)
	for from := 0; from < n; from += size {
		to := from + size
		bonus, dBonus := kernel.Dot(rr[from:to], x[from:to]), kernel.Dot(dOut[from:to], v[from:to])
		kernel.Axpy(dv[from:to], bonus, dOut[from:to])
		kernel.Axpy(dr[from:to], dBonus, x[from:to])
		kernel.Axpy(dk[from:to], dBonus, y[from:to])
		kernel.Axpy(dRK[from:to], dBonus, z[from:to])
	}

	d, db, da := in(8), in(9), out(4) // d is κ's gradient, then k0 ⊙ KK's
	kernel.Mul(x, db, a)
	kernel.Add(d, d, x)
	kernel.Mul(y, k0, kk)
	for from := 0; from < n; from += size {
		to := from + size
		along := kernel.Dot(d[from:to], kappa[from:to])
		inv := float32(1 / leastNorm)
		if length := math.Sqrt(float64(kernel.SumSquares(y[from:to], 0))); length > leastNorm {
			inv = float32(1 / length)
		} else {
			along = 0 // divided by a constant
		}
		kernel.Axpy(d[from:to], -along, kappa[from:to])
		kernel.Scale(d[from:to], inv, d[from:to])
	}
	addProduct(sum(0), d, k0, x)
	kernel.Mul(x, dk, k0)
	kernel.Mul(y, x, a)
	kernel.Axpy(y, -1, x) // dk ⊙ k0 ⊙ (a − 1)
	dKA := sum(1)
	kernel.Add(dKA, dKA, y)
	kernel.Mul(x, x, ka)
	addProduct(x, db, kappa, y) // a's gradient
	kernel.Mul(y, dk, a)
	kernel.Mix(dk, dk, y, ka) // dk ⊙ (1 + (a − 1) ⊙ KA)
	addProduct(dk, d, kk, y)
	kernel.Mul(x, x, a)
	sigmoidRest(da, x, a, y)
	dA0 := sum(3)
	kernel.Add(dA0, dA0, da)

	s, ds, dS0 := in(7), out(5), sum(4)
	kernel.Scale(x, t.X, out(3))
	kernel.Mul(x, x, s)
	sigmoidRest(ds, x, s, y)
	kernel.Add(dS0, dS0, ds)

	dFirst := out(6)
	if t.In[11].Data == nil {
		kernel.Add(dv, dv, dFirst)
		return
	}
	first, m, v0, dm, dM0 := in(10), in(11), in(12), out(7), sum(5)
	kernel.Mul(x, dv, m)
	kernel.Add(dFirst, dFirst, x)
	kernel.Scale(p, -1, v0)
	kernel.Add(p, p, first)
	sigmoidRest(z, x, m, y)
	kernel.Mul(dm, z, p)
	kernel.Add(dM0, dM0, dm)
	kernel.Axpy(dv, -1, x)
}

// addProduct computes dst += a ⊙ b, by way of tmp.
func addProduct(dst, a, b, tmp []float32) {
	kernel.Mul(tmp, a, b)
	kernel.Add(dst, dst, tmp)
}

// sigmoidRest computes dst = x ⊙ (1 − y), by way of tmp.
func sigmoidRest(dst, x, y, tmp []float32) {
	kernel.Mul(tmp, x, y)
	kernel.Scale(tmp, -1, tmp)
	kernel.Add(dst, x, tmp)
}
