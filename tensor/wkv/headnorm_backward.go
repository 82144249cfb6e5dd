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
	c := dst.Dim(-1)
	t := task.Sums{Op: func(t *task.Sums, r int, _, silu []float32) {
		d := t.Out[0].Row(r)
		kernel.Normalize(d, t.In[0].Row(r), t.Vec[0], t.Vec[1], nil, t.Groups, t.X)
		kernel.SiLU(silu[:t.N], t.In[1].Row(r))
		kernel.Mul(d, d, silu[:t.N])
	}, N: c, Tmp: 1, Groups: heads, X: n.Eps}
	t.In[0], t.In[1], t.Out[0] = y.Matrix(), z.Matrix(), dst.Matrix()
	t.Vec[0], t.Vec[1] = tensor.Vector("GatedNorm", n.Gain, c), tensor.Vector("GatedNorm", n.Bias, c)
	task.OverRowSums(&t)
}

// GatedNormBackward computes the gradients of GatedNorm from that of its output, d: dy and dz are
// written, dgain and dbias [H·N] added to unless they are nil. dz may be d.
func GatedNormBackward(dy, dz, d, y, z *tensor.Tensor, heads int, n HeadNorm, dgain, dbias *tensor.Tensor) {
	tensor.SameShape("GatedNormBackward", dy, dz, d, y, z)
	checkHeads("GatedNormBackward", dy, heads)
	c := y.Dim(-1)
	t := task.Sums{Op: gatedNormRow, N: c, Tmp: 6, Groups: heads, X: n.Eps}
	t.In[0], t.In[1], t.In[2], t.Out[0], t.Out[1] = y.Matrix(), z.Matrix(), d.Matrix(), dy.Matrix(), dz.Matrix()
	t.Vec[0], t.Vec[1] = tensor.Vector("GatedNorm", n.Gain, c), tensor.Vector("GatedNorm", n.Bias, c)
	t.Sum[0], t.Sum[1] = tensor.Vector("GatedNorm", dgain, c), tensor.Vector("GatedNorm", dbias, c)
	task.OverRowSums(&t)
}

func gatedNormRow(t *task.Sums, r int, sums, tmp []float32) {
	n := t.N
	hat, dn, rstd, room := tmp[:n], tmp[n:2*n], tmp[2*n:][:t.Groups], tmp[3*n:6*n]
	kernel.Normalize(hat, t.In[0].Row(r), nil, nil, rstd, t.Groups, t.X)
	kernel.GateGrad(t.Out[1].Row(r), dn, t.In[2].Row(r), t.In[1].Row(r), hat, t.Vec[0], t.Vec[1], room)
	kernel.NormGrad(t.Out[0].Row(r), t.Wanted(sums, 0), t.Wanted(sums, 1), dn, hat, t.Vec[0], rstd, room, false)
}
