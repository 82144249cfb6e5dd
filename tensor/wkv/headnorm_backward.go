package wkv

import (
	"microrwkv/tensor"
	"microrwkv/tensor/internal/kernel"
	"microrwkv/tensor/internal/task"
)

// GatedNorm computes what HeadNorm does with z = silu⁻¹ of its gate, so that a backward pass has what
// it needs:
//
//	dst = ((y − mean) / √(var + Eps) ⊙ Gain + Bias) ⊙ silu(z)     per head
//
// dst, y and z are [R, H·N]; n.Gate isn't used. dst may be y.
func GatedNorm(dst, y, z *tensor.Tensor, heads int, n HeadNorm) {
	tensor.SameShape("GatedNorm", dst, y, z)
	checkHeads("GatedNorm", dst, heads)
	task.OverRows(task.Rows{Op: func(t *task.Rows, r int) {
		d, y := t.Dst.Row(r), t.A.Row(r)
		size := t.N / t.Groups
		for i := 0; i < t.N; i += size {
			task.Normalize(d[i:][:size], y[i:][:size], t.C[i:][:size], t.D[i:][:size], t.X)
		}
		kernel.MulSiLU(d, d, t.B.Row(r))
	}, Dst: dst.Matrix(), A: y.Matrix(), B: z.Matrix(),
		C: tensor.Vector("GatedNorm", n.Gain, dst.Dim(-1)), D: tensor.Vector("GatedNorm", n.Bias, dst.Dim(-1)), X: n.Eps, Groups: heads})
}

// GatedNormBackward computes the gradients of GatedNorm from that of its output, d: dy and dz are
// written, dgain and dbias [H·N] added to unless they are nil. dz may be d.
func GatedNormBackward(dy, dz, d, y, z *tensor.Tensor, heads int, n HeadNorm, dgain, dbias *tensor.Tensor) {
	tensor.SameShape("GatedNormBackward", dy, dz, d, y, z)
	checkHeads("GatedNormBackward", dy, heads)
	c := y.Dim(-1)
	t := task.Sums{Op: gatedNormRow, N: c, Tmp: 5, Groups: heads, X: n.Eps}
	t.In[0], t.In[1], t.In[2], t.Out[0], t.Out[1] = y.Matrix(), z.Matrix(), d.Matrix(), dy.Matrix(), dz.Matrix()
	t.Vec[0], t.Vec[1] = tensor.Vector("GatedNorm", n.Gain, c), tensor.Vector("GatedNorm", n.Bias, c)
	t.Sum[0], t.Sum[1] = tensor.Vector("GatedNorm", dgain, c), tensor.Vector("GatedNorm", dbias, c)
	task.OverRowSums(&t)
}

func gatedNormRow(t *task.Sums, r int, sums, tmp []float32) {
	n := t.N
	hat, sigmoid, dNorm := tmp[:n], tmp[n:2*n], tmp[2*n:3*n]
	dGain, dBias := tmp[3*n:4*n], tmp[4*n:5*n]
	if t.Sum[0] != nil {
		dGain, dBias = sums[:n], sums[n:2*n]
	}
	y, z, d, dy, dz := t.In[0].Row(r), t.In[1].Row(r), t.In[2].Row(r), t.Out[0].Row(r), t.Out[1].Row(r)
	kernel.Sigmoid(sigmoid, z)
	size := n / t.Groups
	for i := 0; i < n; i += size {
		rstd := task.Standardize(hat[i:][:size], y[i:][:size], t.X)
		gain, bias := t.Vec[0][i:][:size], t.Vec[1][i:][:size]
		h, s, g, zi, di, out := hat[i:][:size], sigmoid[i:][:size], dNorm[i:][:size], z[i:][:size], d[i:][:size], dz[i:][:size]
		sg, sb := dGain[i:][:size], dBias[i:][:size]
		for j, x := range h {
			dj := di[j]
			norm := x*gain[j] + bias[j]
			silu := zi[j] * s[j]
			out[j] = dj * norm * (s[j] + silu*(1-s[j]))
			dn := dj * silu
			sg[j] += dn * x
			sb[j] += dn
			g[j] = dn * gain[j]
		}
		mean, slope := kernel.Sum(g)/float32(size), kernel.Dot(g, h)/float32(size)
		o := dy[i:][:size]
		for j, v := range g {
			o[j] = rstd * (v - mean - h[j]*slope)
		}
	}
}
