// Package tensor has what the layers of package nn compute with: dense float32 arrays and views
// of them, weights in float32, bfloat16 or half precision, checked operations, and the splitting
// of work over goroutines.
//
// A [Tensor] is row-major. Activations are float32 ([F32]); weights may stay in the precision of
// the file they come from, and are widened inside the kernels, exactly. Operations take dst first
// and panic, naming the operation and the shapes, when shapes don't fit: that is a bug of the
// caller, never of a file. They are safe for concurrent use on different destinations, allocate
// nothing, and give the same bits at any number of threads: each output element is computed by
// one goroutine in one order.
//
// The inner loops are assembly chosen at run time by what the CPU has: see [Kernel].
package tensor

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"microrwkv/tensor/internal/kernel"
)

// DType is the type of a Tensor's elements.
type DType uint8

const (
	F32  DType = iota // IEEE 754 binary32
	BF16              // bfloat16: the upper half of a binary32
	F16               // IEEE 754 binary16
)

// String returns "f32", "bf16" or "f16".
func (d DType) String() string {
	switch d {
	case F32:
		return "f32"
	case BF16:
		return "bf16"
	case F16:
		return "f16"
	}
	return fmt.Sprintf("DType(%d)", uint8(d))
}

// Size returns the bytes of one element.
func (d DType) Size() int {
	if d == F32 {
		return 4
	}
	return 2
}

const maxDims = 4

// Tensor is a dense row-major array of up to four dimensions, or a view of one. Its rows (the
// last dimension) are contiguous and equally far apart. Views share memory with what they view.
type Tensor struct {
	shape  [maxDims]int
	ndim   int
	stride int // elements from the start of one row to the start of the next
	dtype  DType
	f32    []float32 // elements if dtype is F32
	bits   []uint16  // bit patterns if dtype is BF16 or F16
}

// New returns a float32 tensor of zeros.
func New(shape ...int) *Tensor {
	return FromSlice(make([]float32, numElements(shape)), shape...)
}

// FromSlice returns a float32 tensor over data, which it aliases. It panics unless data has
// exactly the elements of shape.
func FromSlice(data []float32, shape ...int) *Tensor {
	t := &Tensor{}
	t.init(F32, len(data), shape)
	t.f32 = data
	return t
}

// FromBits returns a tensor of dtype BF16 or F16 over bit patterns, which it aliases. It panics
// unless bits has exactly the elements of shape.
func FromBits(dtype DType, bits []uint16, shape ...int) *Tensor {
	if dtype != BF16 && dtype != F16 {
		panic(fmt.Sprintf("tensor: FromBits of %v", dtype))
	}
	t := &Tensor{}
	t.init(dtype, len(bits), shape)
	t.bits = bits
	return t
}

// init sets everything but the data.
func (t *Tensor) init(dtype DType, length int, shape []int) {
	if n := numElements(shape); n != length {
		panic(fmt.Sprintf("tensor: %d elements for shape %s", length, formatShape(shape)))
	}
	t.dtype = dtype
	t.ndim = copy(t.shape[:], shape)
	t.stride = t.shape[max(t.ndim-1, 0)]
}

func numElements(shape []int) int {
	if len(shape) == 0 || len(shape) > maxDims {
		panic(fmt.Sprintf("tensor: %d dimensions", len(shape)))
	}
	n := 1
	for _, d := range shape {
		if d < 0 || (d > 0 && n > math.MaxInt/d) {
			panic("tensor: shape " + formatShape(shape))
		}
		n *= d
	}
	return n
}

// formatShape formats a shape without letting it escape to the heap, which would make views do
// so as well.
func formatShape(shape []int) string {
	b := []byte{'['}
	for i, d := range shape {
		if i > 0 {
			b = append(b, ' ')
		}
		b = strconv.AppendInt(b, int64(d), 10)
	}
	return string(append(b, ']'))
}

// Shape returns the sizes of the dimensions. The caller must not change them.
func (t *Tensor) Shape() []int { return t.shape[:t.ndim] }

// Dim returns the size of dimension i; a negative i counts from the last.
func (t *Tensor) Dim(i int) int {
	if i < 0 {
		i += t.ndim
	}
	return t.shape[:t.ndim][i]
}

// Len returns the number of elements.
func (t *Tensor) Len() int {
	n := 1
	for _, d := range t.shape[:t.ndim] {
		n *= d
	}
	return n
}

// DType returns the type of the elements.
func (t *Tensor) DType() DType { return t.dtype }

// cols is the length of a row, rows the number of rows.
func (t *Tensor) cols() int { return t.shape[t.ndim-1] }
func (t *Tensor) rows() int {
	n := 1
	for _, d := range t.shape[:t.ndim-1] {
		n *= d
	}
	return n
}

// Contiguous reports whether the rows follow each other without gaps.
func (t *Tensor) Contiguous() bool { return t.stride == t.cols() || t.rows() <= 1 }

// Data returns the elements of a contiguous float32 tensor, in row-major order; it aliases them.
// It panics on other tensors.
func (t *Tensor) Data() []float32 {
	t.mustF32("Data")
	if !t.Contiguous() {
		panic("tensor: Data of a view with gaps")
	}
	return t.f32[:t.Len()]
}

// Bits returns the bit patterns of a contiguous BF16 or F16 tensor; it aliases them. It panics
// on other tensors.
func (t *Tensor) Bits() []uint16 {
	if t.dtype == F32 || !t.Contiguous() {
		panic(fmt.Sprintf("tensor: Bits of a %v tensor", t.dtype))
	}
	return t.bits[:t.Len()]
}

// Row returns row i of a float32 tensor, aliasing it; all dimensions but the last count rows.
func (t *Tensor) Row(i int) []float32 {
	t.mustF32("Row")
	n := t.cols()
	return t.f32[i*t.stride:][:n:n]
}

// RowTo writes row i, widened to float32, into dst.
func (t *Tensor) RowTo(dst []float32, i int) {
	n := t.cols()
	switch t.dtype {
	case F32:
		copy(dst, t.f32[i*t.stride:][:n])
	case BF16:
		kernel.WidenBF16(dst[:n], t.bits[i*t.stride:][:n])
	case F16:
		kernel.WidenF16(dst[:n], t.bits[i*t.stride:][:n])
	}
}

// Rows returns rows i to j (excluded) of a tensor with two dimensions, as a view.
func (t *Tensor) Rows(i, j int) *Tensor {
	v := *t
	v.slice(i, j, 0, t.shape[1])
	return &v
}

// Cols returns columns i to j (excluded) of a tensor with two dimensions, as a view.
func (t *Tensor) Cols(i, j int) *Tensor {
	v := *t
	v.slice(0, t.shape[0], i, j)
	return &v
}

func (t *Tensor) slice(r0, r1, c0, c1 int) {
	if t.ndim != 2 || r0 < 0 || r1 < r0 || r1 > t.shape[0] || c0 < 0 || c1 < c0 || c1 > t.shape[1] {
		panic(fmt.Sprintf("tensor: rows %d:%d, columns %d:%d of %s", r0, r1, c0, c1, formatShape(t.Shape())))
	}
	from, to := 0, 0 // an empty view holds nothing
	if r1 > r0 && c1 > c0 {
		from, to = r0*t.stride+c0, (r1-1)*t.stride+c1
	}
	t.shape[0], t.shape[1] = r1-r0, c1-c0
	if t.dtype == F32 {
		t.f32 = t.f32[from:to]
	} else {
		t.bits = t.bits[from:to]
	}
}

// Reshape returns a view with another shape of as many elements. It panics if the tensor has
// gaps between its rows.
func (t *Tensor) Reshape(shape ...int) *Tensor {
	v := *t
	v.reshape(shape)
	return &v
}

func (t *Tensor) reshape(shape []int) {
	if !t.Contiguous() {
		panic("tensor: Reshape of a view with gaps")
	}
	t.init(t.dtype, t.Len(), shape)
}

// Float32 returns the tensor itself if it is float32, else a widened copy.
func (t *Tensor) Float32() *Tensor {
	if t.dtype == F32 {
		return t
	}
	w := New(t.Shape()...)
	for i := range t.rows() {
		t.RowTo(w.Row(i), i)
	}
	return w
}

// CopyFrom copies src, widened to float32, into t, which is float32 and has the same shape.
func (t *Tensor) CopyFrom(src *Tensor) {
	t.mustF32("CopyFrom")
	sameShape("CopyFrom", t, src)
	for i := range t.rows() {
		src.RowTo(t.Row(i), i)
	}
}

// Transpose returns a copy of a tensor with two dimensions, of the same dtype, with rows and
// columns exchanged.
func (t *Tensor) Transpose() *Tensor {
	if t.ndim != 2 {
		panic("tensor: Transpose of " + formatShape(t.Shape()))
	}
	rows, cols := t.shape[0], t.shape[1]
	if t.dtype == F32 {
		return FromSlice(transpose(t.f32, rows, cols, t.stride), cols, rows)
	}
	return FromBits(t.dtype, transpose(t.bits, rows, cols, t.stride), cols, rows)
}

func transpose[E any](x []E, rows, cols, stride int) []E {
	y := make([]E, rows*cols)
	for i := range rows {
		for j := range cols {
			y[j*rows+i] = x[i*stride+j]
		}
	}
	return y
}

func (t *Tensor) mustF32(op string) {
	if t.dtype != F32 {
		panic(fmt.Sprintf("tensor: %s of a %v tensor", op, t.dtype))
	}
}

// sameShape panics unless all shapes are equal.
func sameShape(op string, a *Tensor, others ...*Tensor) {
	for _, b := range others {
		if a.ndim != b.ndim || a.shape != b.shape {
			panic(fmt.Sprintf("tensor: %s: shapes %s and %s", op, formatShape(a.Shape()), formatShape(b.Shape())))
		}
	}
}

// String formats the elements as nested lists of numbers, and large tensors as dtype and shape.
func (t *Tensor) String() string {
	const most = 100
	if t.Len() > most {
		return t.dtype.String() + formatShape(t.Shape())
	}
	var b strings.Builder
	row := make([]float32, t.cols())
	var write func(dim, first, rows int)
	write = func(dim, first, rows int) {
		if dim == t.ndim-1 {
			t.RowTo(row, first)
			fmt.Fprint(&b, row)
			return
		}
		b.WriteByte('[')
		for i := range t.shape[dim] {
			if i > 0 {
				b.WriteByte(' ')
			}
			write(dim+1, first+i*rows/t.shape[dim], rows/t.shape[dim])
		}
		b.WriteByte(']')
	}
	write(0, 0, t.rows())
	return b.String()
}

// Kernel names the assembly kernels in use: "generic" (Go), "avx2", "avx512" or "neon". The
// environment variable MICRORWKV_KERNEL picks one at start; else the fastest that the CPU can run
// is used.
func Kernel() string { return kernel.Active() }

// Kernels lists the kernels that this build and CPU can run, the slowest first.
func Kernels() []string { return kernel.Names() }

// SetKernel picks the kernels to use, as MICRORWKV_KERNEL does. It must not be called while
// operations run.
func SetKernel(name string) error { return kernel.Use(name) }
