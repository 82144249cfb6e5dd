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
	t.Tmp = 6 // room for all sums, whichever are wanted
	task.OverRowSums(&t)
}

// mix7Row goes back over a row, head by head: bonus, k and κ, decay, v.
func mix7Row(t *task.Sums, r int, sums, tmp []float32) {
	n, size := t.N, t.N/t.Groups
	sum := func(i, from int) []float32 {
		if t.Sum[i] == nil {
			return tmp[i*n+from:][:size] // that nobody reads
		}
		return sums[i*n+from:][:size]
	}
	for from := 0; from < n; from += size {
		in := func(i int) []float32 { return t.In[i].Data[r*t.In[i].Stride+from:][:size] }
		out := func(i int) []float32 { return t.Out[i].Data[r*t.Out[i].Stride+from:][:size] }
		dOut, rr, k0, k, v, kappa, a := in(0), in(1), in(2), in(3), in(4), in(5), in(6)
		dr, dk, dv := out(0), out(1), out(2)
		kk, ka, rk := t.Vec[0][from:][:size], t.Vec[1][from:][:size], t.Vec[2][from:][:size]

		var bonus float32
		for j, x := range rr {
			bonus += x * k[j] * rk[j]
		}
		dBonus := kernel.Dot(dOut, v)
		kernel.Axpy(dv, bonus, dOut)
		dRK := sum(2, from)
		for j, x := range rr {
			dr[j] += dBonus * k[j] * rk[j]
			dk[j] += dBonus * x * rk[j]
			dRK[j] += dBonus * x * k[j]
		}

		dKappa, db, da := in(8), in(9), out(4)
		var norm, along float32 // of k0 ⊙ KK, and of its direction in the gradient
		for j, x := range k0 {
			y := x * kk[j]
			norm += y * y
			dKappa[j] += db[j] * a[j]
			along += dKappa[j] * kappa[j]
		}
		inv := float32(1e12)
		if length := math.Sqrt(float64(norm)); length > 1e-12 {
			inv = float32(1 / length)
		} else {
			along = 0 // divided by a constant
		}
		dKK, dKA, dA0 := sum(0, from), sum(1, from), sum(3, from)
		for j, x := range k0 {
			dA := db[j]*kappa[j] + dk[j]*x*ka[j]
			dKA[j] += dk[j] * x * (a[j] - 1)
			d := (dKappa[j] - kappa[j]*along) * inv
			dKK[j] += d * x
			dk[j] = dk[j]*(1+(a[j]-1)*ka[j]) + d*kk[j]
			da[j] = dA * a[j] * (1 - a[j])
			dA0[j] += da[j]
		}

		s, dw, ds, dS0 := in(7), out(3), out(5), sum(4, from)
		for j, x := range s {
			ds[j] = t.X * dw[j] * x * (1 - x)
			dS0[j] += ds[j]
		}

		dFirst := out(6)
		if t.In[11].Data == nil {
			kernel.Add(dv, dv, dFirst)
			continue
		}
		first, m, v0, dm, dM0 := in(10), in(11), in(12), out(7), sum(5, from)
		for j, x := range m {
			d := dv[j]
			dFirst[j] += d * x
			dm[j] = d * (first[j] - v0[j]) * x * (1 - x)
			dM0[j] += dm[j]
			dv[j] = d - d*x
		}
	}
}
