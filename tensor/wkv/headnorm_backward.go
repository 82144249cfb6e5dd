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
		d, y := t.Out[0].Row(r), t.In[0].Row(r)
		size := t.N / t.Groups
		for i := 0; i < t.N; i += size {
			task.Normalize(d[i:][:size], y[i:][:size], t.Vec[0][i:][:size], t.Vec[1][i:][:size], t.X)
		}
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
	part := func(i int) []float32 { return tmp[i*n:][:n] }
	hat, sigmoid, silu, g, p := part(0), part(1), part(2), part(3), part(4)
	y, z, d, dy, dz := t.In[0].Row(r), t.In[1].Row(r), t.In[2].Row(r), t.Out[0].Row(r), t.Out[1].Row(r)
	size := n / t.Groups
	rstds := part(5)[:t.Groups]
	for h := range rstds {
		rstds[h] = task.Standardize(hat[h*size:][:size], y[h*size:][:size], t.X)
	}
	kernel.Sigmoid(sigmoid, z)
	kernel.Mul(silu, z, sigmoid)
	kernel.Mul(g, d, silu) // the gradient of the norm
	if t.Sum[0] != nil {
		kernel.Mul(p, g, hat)
		kernel.Add(sums[:n], sums[:n], p)
		kernel.Add(sums[n:], sums[n:], g)
	}
	kernel.Norm(p, hat, 0, 1, t.Vec[0], t.Vec[1])
	kernel.Mul(dz, d, p)
	kernel.Mul(g, g, t.Vec[0])
	kernel.Mul(p, silu, sigmoid) // silu' = sigmoid + silu − silu·sigmoid
	kernel.Axpy(silu, -1, p)
	kernel.Add(silu, silu, sigmoid)
	kernel.Mul(dz, dz, silu)
	for h, rstd := range rstds {
		gh, hh, o := g[h*size:][:size], hat[h*size:][:size], dy[h*size:][:size]
		mean, slope := kernel.Sum(gh)/float32(size), kernel.Dot(gh, hh)/float32(size)
		kernel.Norm(o, gh, mean, rstd, nil, nil)
		kernel.Axpy(o, -slope*rstd, hh)
	}
}
