package moe

import (
	"microrwkv/tensor"
	"microrwkv/tensor/internal/kernel"
	"microrwkv/tensor/internal/task"
)

// SumBackward computes the gradients of WeightedSum from that of its output, d [T, S], and its inputs
// x [T, n·S] and p [T, E], the softmax: dx and dlogits
// are written. extra [sequences, n·S], if not nil, has a vector for each sequence of spans that is added to
// all of its rows of dx.
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

// WeightedSum is Sum with p [T, E] as the softmax itself, which it only reads.
func WeightedSum(dst, x, p *tensor.Tensor) {
	n := x.Dim(-1) / max(dst.Dim(-1), 1)
	task.OverRows(task.Rows{Op: func(t *task.Rows, r int) {
		dst, x, p := t.Dst.Row(r), t.A.Row(r), t.B.Row(r)
		kernel.Scale(dst, p[0], x[:t.N])
		for j := 1; j < t.Groups; j++ {
			kernel.Axpy(dst, p[j], x[j*t.N:][:t.N])
		}
	}, Dst: dst.Matrix(), A: x.Matrix(), B: p.Matrix(), Groups: n})
}

// ColumnMeans writes the mean of x's rows [R, N] of each sequence to a row of dst [sequences, N], summed
// in float64.
func ColumnMeans(dst, x *tensor.Tensor, spans []int) {
	t := task.Rows{Op: columnMeans, Dst: dst.Matrix(), A: x.Matrix()}
	for i := range len(spans) - 1 { // few rows: a sequence at a time
		t.Dst, t.A = dst.Matrix(), x.Matrix()
		t.Dst.Data, t.Dst.Rows = t.Dst.Row(i), 1
		t.A.Data, t.A.Rows = t.A.Data[spans[i]*t.A.Stride:], spans[i+1]-spans[i]
		task.OverRows(t)
	}
}

func columnMeans(t *task.Rows, _ int) {
	dst := t.Dst.Row(0)
	for c := range dst {
		var sum float64
		for r := range t.A.Rows {
			sum += float64(t.A.Data[r*t.A.Stride+c])
		}
		dst[c] = float32(sum / float64(t.A.Rows))
	}
}
