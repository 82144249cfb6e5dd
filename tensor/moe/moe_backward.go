package moe

import (
	"microrwkv/tensor"
	"microrwkv/tensor/internal/kernel"
	"microrwkv/tensor/internal/task"
)

// SumBackward computes the gradients of WeightedSum from that of its output, d [T, S], and its inputs
// x [T, n·S] and p [T, E], the softmax: dx and dlogits are written. extra [sequences, n·S], if not nil, has
// a vector for each sequence of spans that is added to all of its rows of dx.
func SumBackward(dx, dlogits, d, x, p *tensor.Tensor, spans []int, extra *tensor.Tensor) {
	tensor.SameShape("moe.SumBackward", dx, x)
	tensor.SameShape("moe.SumBackward", dlogits, p)
	size := d.Dim(-1)
	t := task.Sums{Op: sumBackwardRow, N: x.Dim(-1), Groups: x.Dim(-1) / max(size, 1), Begins: spans}
	t.In[0], t.In[1], t.In[2], t.Out[0], t.Out[1] = d.Matrix(), x.Matrix(), p.Matrix(), dx.Matrix(), dlogits.Matrix()
	if extra != nil {
		t.In[3] = extra.Matrix()
	}
	task.OverRowSums(&t)
}

func sumBackwardRow(t *task.Sums, r int, _, _ []float32) {
	d, x, p, dx, dl := t.In[0].Row(r), t.In[1].Row(r), t.In[2].Row(r), t.Out[0].Row(r), t.Out[1].Row(r)
	size := len(d)
	var mean float32 // Σ p dp
	clear(dl)
	for j := range t.Groups {
		kernel.Scale(dx[j*size:][:size], p[j], d)
		dl[j] = kernel.Dot(d, x[j*size:][:size])
		mean += p[j] * dl[j]
	}
	for j := range dl {
		dl[j] = p[j] * (dl[j] - mean)
	}
	if t.In[3].Data != nil {
		seq := 0
		for t.Begins[seq+1] <= r {
			seq++
		}
		kernel.Add(dx, dx, t.In[3].Row(seq))
	}
}
