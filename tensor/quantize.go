package tensor

import (
	"fmt"

	"microrwkv/tensor/internal/freelist"
	"microrwkv/tensor/internal/kernel"
	"microrwkv/tensor/internal/task"
)

// Quantized lists the formats that Convert rounds to blocks of, the usual one first.
func Quantized() []DType { return []DType{Q8_0, Q6_K, Q5_K, Q4_K, Q5_1, Q5_0, Q4_1, Q4_0} }

// rounding is a weight that is rounded to blocks, a row in each piece.
type rounding struct {
	from, to *Weight
	factors  *Tensor // nil to round each row by itself
	rows     freelist.List[roundingRow]
}

type roundingRow struct{ x []float32 }

func (w *Weight) quantize(dtype DType) *Weight { return w.rounded(dtype, nil) }

func (w *Weight) rounded(dtype DType, factors *Tensor) *Weight {
	data := make([]byte, w.rows()*dtype.Bytes(w.cols()))
	out := NewWeight(dtype, data, w.Shape()...)
	Parallel(w.rows(), &rounding{from: w, to: out, factors: factors, rows: freelist.New[roundingRow]()})
	return out
}

// Compensated is Convert to blocks with each number's rounding error made up for by the numbers after it
// in the row, as far as the inputs x that the weight is multiplied with allow (Frantar et al., GPTQ,
// arXiv:2210.17323). factors [K, K] is U with UᵀU = (Σ xxᵀ)⁻¹, upper triangular, for rows of K numbers.
func (w *Weight) Compensated(dtype DType, factors *Tensor) *Weight {
	if k := w.cols(); !dtype.Quantizes() || factors.ndim != 2 || factors.rows() != k || factors.cols() != k {
		panic(fmt.Sprintf("tensor: Compensated: %v of %s with factors %s", dtype, task.FormatShape(w.Shape()...), task.FormatShape(factors.Shape()...)))
	}
	return w.rounded(dtype, factors)
}

// Run rounds one row.
func (t *rounding) Run(r int) {
	buf := t.rows.Get()
	defer t.rows.Put(buf)
	buf.x = freelist.Grown(buf.x, t.from.cols())
	x, d, row := buf.x[:t.from.cols()], t.to.dtype, t.to.row(r)
	t.from.RowTo(x, r)
	if t.factors == nil {
		kernel.Quantize(d, row, x)
		return
	}
	numbers, size := d.Block()
	for i := range x {
		b := row[i/numbers*size:][:size]
		if i%numbers == 0 { // what the numbers before left decides the block's scales
			kernel.Quantize(d, b, x[i:i+numbers])
		}
		u := t.factors.Row(i)
		miss := (x[i] - kernel.Requantize(d, b, i%numbers, x[i])) / u[i]
		kernel.Axpy(x[i+1:], -miss, u[i+1:])
	}
}

// Observed returns a view of w for which Linear calls f with each X that it multiplies with it, before it
// does: to learn what inputs a layer has.
func (w *Weight) Observed(f func(x *Tensor)) *Weight {
	v := *w
	v.observe = f
	return &v
}
