package tensor

import (
	"fmt"
	"slices"

	"microrwkv/tensor/internal/kernel"
	"microrwkv/tensor/internal/task"
)

// Weight is what products read: a row-major array of up to four dimensions in any format, as a file
// has it. Its rows (the last dimension) are whole blocks of the format and equally far apart. It
// aliases the memory that it is made over, often a mapped file, and is never written.
type Weight struct {
	dims
	stride int // bytes from the start of one row to the start of the next
	dtype  DType
	data   []byte   // nil if later has it
	later  *turning // see Turned

	activations Activations     // see WithActivations
	observe     func(x *Tensor) // see Observed
}

// NewWeight returns a weight over data, which it aliases and which must lie where the machine can read
// the type's numbers. It panics unless data has exactly the bytes of shape.
func NewWeight(dtype DType, data []byte, shape ...int) *Weight {
	if !dtype.Weight() {
		panic(fmt.Sprintf("tensor: a weight of type %v", dtype))
	}
	w := &Weight{dims: newDims(shape), dtype: dtype, data: data}
	w.stride = dtype.Bytes(w.cols())
	fits := len(data) == 0
	if w.stride > 0 { // by division, which can't overflow
		fits = len(data)%w.stride == 0 && len(data)/w.stride == w.rows()
	}
	if !fits {
		panic(fmt.Sprintf("tensor: %d bytes for a weight %s of type %v", len(data), task.FormatShape(shape...), dtype))
	}
	return w
}

// FromBits returns a weight of type BF16 or F16 over bit patterns, which it aliases. It panics unless
// bits has exactly the elements of shape.
func FromBits(dtype DType, bits []uint16, shape ...int) *Weight {
	if dtype != BF16 && dtype != F16 {
		panic(fmt.Sprintf("tensor: FromBits of %v", dtype))
	}
	return NewWeight(dtype, kernel.BytesOf(bits), shape...)
}

// Weight returns t as a weight of type F32, which aliases it.
func (t *Tensor) Weight() *Weight {
	return &Weight{dims: t.dims, stride: 4 * t.stride, dtype: F32, data: kernel.BytesOf(t.data)}
}

// WithActivations returns a view of the weight whose products round their activations so, if the kernels in
// use can for its type (RoundsActivations); else they are exact.
func (w *Weight) WithActivations(a Activations) *Weight {
	v := *w
	v.activations = a
	return &v
}

// DType returns the format of the numbers.
func (w *Weight) DType() DType { return w.dtype }

// Contiguous reports whether the rows follow each other without gaps.
func (w *Weight) Contiguous() bool { return w.stride == w.dtype.Bytes(w.cols()) || w.rows() <= 1 }

// Bytes returns the memory of a contiguous weight; it aliases it. It panics if there are gaps.
func (w *Weight) Bytes() []byte {
	if !w.Contiguous() {
		panic("tensor: Bytes of a view with gaps")
	}
	return w.memory()[:w.rows()*w.dtype.Bytes(w.cols())]
}

// memory returns the bytes from the first number on.
func (w *Weight) memory() []byte {
	if w.later != nil {
		return w.later.bytes()
	}
	return w.data
}

// row returns the bytes of row i.
func (w *Weight) row(i int) []byte { return w.memory()[i*w.stride:][:w.dtype.Bytes(w.cols())] }

// RowTo writes row i, widened to float32, into dst; all dimensions but the last count rows.
func (w *Weight) RowTo(dst []float32, i int) { kernel.Widen(w.dtype, dst[:w.cols()], w.row(i)) }

// Rows returns rows i to j (excluded) of a weight with two dimensions, as a view.
func (w *Weight) Rows(i, j int) *Weight {
	v := *w
	v.slice(i, j)
	return &v
}

func (w *Weight) slice(i, j int) {
	w.checkSlice(i, j, 0, w.shape[1])
	from, to := 0, 0 // an empty view holds nothing
	if j > i {
		from, to = i*w.stride, (j-1)*w.stride+w.dtype.Bytes(w.cols())
	}
	w.shape[0], w.data, w.later = j-i, w.memory()[from:to], nil
}

// Reshape returns a view with another shape of as many elements, whose rows are whole blocks. It
// panics if the weight has gaps between its rows.
func (w *Weight) Reshape(shape ...int) *Weight {
	if slices.Equal(shape, w.Shape()) && w.Contiguous() {
		v := *w
		return &v
	}
	v := NewWeight(w.dtype, w.Bytes(), shape...)
	v.activations, v.observe = w.activations, w.observe
	return v
}

// Packed returns the weight itself if it is contiguous, else a copy that is.
func (w *Weight) Packed() *Weight {
	if w.Contiguous() {
		return w
	}
	data := make([]byte, 0, w.rows()*w.dtype.Bytes(w.cols()))
	for i := range w.rows() {
		data = append(data, w.row(i)...)
	}
	return NewWeight(w.dtype, data, w.Shape()...).WithActivations(w.activations)
}

// Float32 returns the numbers as a tensor: a view of a weight of type F32 without gaps, else a
// widened copy.
func (w *Weight) Float32() *Tensor {
	if w.dtype == F32 && w.Contiguous() {
		return FromSlice(kernel.View[float32](w.Bytes()), w.Shape()...)
	}
	t := New(w.Shape()...)
	for i := range w.rows() {
		w.RowTo(t.Row(i), i)
	}
	return t
}

// String formats the numbers as nested lists, and large weights as type and shape.
func (w *Weight) String() string { return w.format(w.dtype.String(), w.RowTo) }

// Convert returns the weight itself if it has that type, else a converted copy. Widening is exact;
// narrowing rounds to the nearest number, ties to even, and to ±Inf beyond the largest. NaN stays
// NaN.
func (w *Weight) Convert(dtype DType) *Weight {
	switch dtype {
	case w.dtype:
		return w
	case F32:
		return w.Float32().Weight()
	case BF16:
		return w.round(dtype, RoundBF16)
	case F16:
		return w.round(dtype, RoundF16)
	}
	if dtype.Quantizes() {
		return w.quantize(dtype)
	}
	panic(fmt.Sprintf("tensor: Convert to %v", dtype))
}

func (w *Weight) round(dtype DType, round func(float32) uint16) *Weight {
	n := w.cols()
	bits, row := make([]uint16, w.Len()), make([]float32, n)
	for i := range w.rows() {
		w.RowTo(row, i)
		for j, v := range row {
			bits[i*n+j] = round(v)
		}
	}
	return FromBits(dtype, bits, w.Shape()...)
}

// RoundBF16 returns the bits of the bfloat16 nearest to x, ties to even.
func RoundBF16(x float32) uint16 { return kernel.RoundBF16(x) }

// RoundF16 returns the bits of the IEEE binary16 nearest to x, ties to even.
func RoundF16(x float32) uint16 { return kernel.RoundF16(x) }
