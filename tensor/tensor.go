// Package tensor has what the layers of package nn compute with: dense float32 arrays and views of
// them, weights in the format of their file, checked operations, and the splitting of work over
// goroutines.
//
// A [Tensor] is row-major float32: activations, and parameters that are vectors. A [Weight] is a matrix
// that products read, in any of the formats that [DType] lists, widened inside the kernels, exactly unless
// it asks for rounded activations ([Weight.WithActivations]). Operations take dst first and panic, naming the operation and
// the shapes, when shapes don't fit: that is a bug of the caller, never of a file. They are safe for
// concurrent use on different destinations, allocate nothing, and give the same bits at any number of
// threads: each output element is computed by one goroutine in one order.
//
// The inner loops of one kind of layer are in a package of its own below this one, with its formula:
// tensor/wkv (the recurrences of RWKV), tensor/attention, tensor/shift (the token shift) and tensor/moe
// (the sum of experts). What all of them share is here.
//
// The inner loops are assembly chosen at run time by what the CPU has: see [Kernel].
//
// # Formats of weights
//
// A format is a row of tables in tensor/internal/kernel. What a row says, and what one gets by it:
//
//   - dtypes (dtype.go): the name, the numbers and bytes of a block, a function that widens blocks to float32,
//     where in a block its scales are. With this alone weights of the format work everywhere: a few rows at a
//     time are widened into the cache for float32 products, and the function is what all else is tested
//     against.
//   - grids (quantize.go): how numbers are rounded to blocks, for [Weight.Convert] and [Weight.Compensated].
//   - q8Formats (q8.go): how a block comes apart into small unsigned integers and factors, a step and what is
//     subtracted for each 32 numbers. With it products can round their activations to 8 bits and multiply
//     integers, in Go: see [Q8Activations].
//
// An instruction set adds to a row what it does better. By the generator in gen:
//
//   - widen: for nibbles and the like a program of groupFormats (gen/groups.go), written once for AVX2 and NEON.
//   - few: products of few rows of activations that wait for the memory, where the blocks are read as they are:
//     Q8_0's.
//   - q8Kernel's unpack (gen/q8_avx.go, gen/q8_neon.go): it takes as many rows of blocks apart as a vector has
//     lanes, into a panel of which all formats' products are the same.
//
// The formats and what they have:
//
//	F32, F16, BF16                    float32 products of their own; in bfloat16 by request
//	Q8_0                              exact products, of few rows as the blocks are read
//	Q4_K, Q5_K, Q6_K                  products with 8-bit activations, which models use unless asked not to
//	Q4_0, Q4_1, Q5_0, Q5_1            products with 8-bit activations, by request
//	IQ4_NL, IQ4_XS, Q2_K, Q3_K        exact products of widened rows
package tensor

import (
	"fmt"
	"math"
	"strings"

	"microrwkv/tensor/internal/kernel"
	"microrwkv/tensor/internal/task"
)

const maxDims = 4

// Tensor is a dense row-major array of float32 of up to four dimensions, or a view of one. Its rows
// (the last dimension) are contiguous and equally far apart. Views share memory with what they view.
type Tensor struct {
	dims
	stride int // elements from the start of one row to the start of the next
	data   []float32
}

// dims is a shape.
type dims struct {
	shape [maxDims]int
	ndim  int
}

// newDims checks a shape.
func newDims(shape []int) (d dims) {
	numElements(shape)
	d.ndim = copy(d.shape[:], shape)
	return d
}

// New returns a tensor of zeros.
func New(shape ...int) *Tensor {
	return FromSlice(make([]float32, numElements(shape)), shape...)
}

// FromSlice returns a tensor over data, which it aliases. It panics unless data has exactly the
// elements of shape.
func FromSlice(data []float32, shape ...int) *Tensor {
	t := &Tensor{}
	t.init(data, shape)
	return t
}

func (t *Tensor) init(data []float32, shape []int) {
	if n := numElements(shape); n != len(data) {
		panic(fmt.Sprintf("tensor: %d elements for shape %s", len(data), task.FormatShape(shape...)))
	}
	t.dims, t.data = newDims(shape), data
	t.stride = t.cols()
}

func numElements(shape []int) int {
	if len(shape) == 0 || len(shape) > maxDims {
		panic(fmt.Sprintf("tensor: %d dimensions", len(shape)))
	}
	n := 1
	for _, d := range shape {
		if d < 0 || (d > 0 && n > math.MaxInt/d) {
			panic("tensor: shape " + task.FormatShape(shape...))
		}
		n *= d
	}
	return n
}

// Shape returns the sizes of the dimensions. The caller must not change them.
func (d *dims) Shape() []int { return d.shape[:d.ndim] }

// Dim returns the size of dimension i; a negative i counts from the last.
func (d *dims) Dim(i int) int {
	if i < 0 {
		i += d.ndim
	}
	return d.shape[:d.ndim][i]
}

// Len returns the number of elements.
func (d *dims) Len() int { return d.rows() * d.cols() }

// cols is the length of a row, rows the number of rows.
func (d *dims) cols() int { return d.shape[d.ndim-1] }
func (d *dims) rows() int {
	n := 1
	for _, size := range d.shape[:d.ndim-1] {
		n *= size
	}
	return n
}

// checkSlice panics unless there are two dimensions with those rows and columns.
func (d *dims) checkSlice(r0, r1, c0, c1 int) {
	if d.ndim != 2 || r0 < 0 || r1 < r0 || r1 > d.shape[0] || c0 < 0 || c1 < c0 || c1 > d.shape[1] {
		panic(fmt.Sprintf("tensor: rows %d:%d, columns %d:%d of %s", r0, r1, c0, c1, task.FormatShape(d.Shape()...)))
	}
}

// Contiguous reports whether the rows follow each other without gaps.
func (t *Tensor) Contiguous() bool { return t.stride == t.cols() || t.rows() <= 1 }

// Data returns the elements of a contiguous tensor, in row-major order; it aliases them. It panics on
// a view with gaps.
func (t *Tensor) Data() []float32 {
	if !t.Contiguous() {
		panic("tensor: Data of a view with gaps")
	}
	return t.data[:t.Len()]
}

// Row returns row i, aliasing it; all dimensions but the last count rows.
func (t *Tensor) Row(i int) []float32 {
	n := t.cols()
	return t.data[i*t.stride:][:n:n]
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
	t.checkSlice(r0, r1, c0, c1)
	from, to := 0, 0 // an empty view holds nothing
	if r1 > r0 && c1 > c0 {
		from, to = r0*t.stride+c0, (r1-1)*t.stride+c1
	}
	t.shape[0], t.shape[1] = r1-r0, c1-c0
	t.data = t.data[from:to]
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
	t.init(t.data[:t.Len()], shape)
}

// CopyFrom copies src into t, which has the same shape.
func (t *Tensor) CopyFrom(src *Tensor) {
	SameShape("CopyFrom", t, src)
	if t.Len() >= task.MinSpread { // worth more than one thread
		task.OverRows(task.Rows{Op: func(t *task.Rows, r int) { copy(t.Dst.Row(r), t.A.Row(r)) }, Dst: t.Matrix(), A: src.Matrix()})
		return
	}
	for i := range t.rows() {
		copy(t.Row(i), src.Row(i))
	}
}

// SameShape panics unless all shapes are equal, naming the operation.
func SameShape(op string, a *Tensor, others ...*Tensor) {
	for _, b := range others {
		if a.ndim != b.ndim || a.shape != b.shape {
			panic(fmt.Sprintf("tensor: %s: shapes %s and %s", op, task.FormatShape(a.Shape()...), task.FormatShape(b.Shape()...)))
		}
	}
}

// String formats the elements as nested lists of numbers, and large tensors by their shape.
func (t *Tensor) String() string {
	return t.format("f32", func(dst []float32, i int) { copy(dst, t.Row(i)) })
}

// format formats what rowTo gives as nested lists, and what is large as dtype and shape.
func (d *dims) format(dtype string, rowTo func(dst []float32, i int)) string {
	const most = 100
	if d.Len() > most {
		return dtype + task.FormatShape(d.Shape()...)
	}
	var b strings.Builder
	row := make([]float32, d.cols())
	var write func(dim, first, rows int)
	write = func(dim, first, rows int) {
		if dim == d.ndim-1 {
			rowTo(row, first)
			fmt.Fprint(&b, row)
			return
		}
		b.WriteByte('[')
		for i := range d.shape[dim] {
			if i > 0 {
				b.WriteByte(' ')
			}
			write(dim+1, first+i*rows/d.shape[dim], rows/d.shape[dim])
		}
		b.WriteByte(']')
	}
	write(0, 0, d.rows())
	return b.String()
}

// Matrix returns the tensor by its rows, for the operations of the packages below.
func (t *Tensor) Matrix() task.Matrix {
	return task.Matrix{Data: t.data, Stride: t.stride, Rows: t.rows(), Cols: t.cols()}
}

// Task is work that splits into independent pieces. Run is called once for each piece, from several
// goroutines at once.
type Task = task.Task

// Parallel runs t.Run(0) … t.Run(n−1) on up to Threads goroutines, this one among them, and returns
// when all are done. It may be called from many goroutines at once, and from within a piece, and
// doesn't allocate. If pieces panic, on whichever goroutine, Parallel panics with the value of one of them
// when all are done. On Linux, without a filter of system calls (seccomp), a thread that the system stopped in
// the middle of a piece, for another process, is moved to the CPU of a thread that waits for it; afterwards
// both may use the CPUs that they might use before.
func Parallel(n int, t Task) { task.Parallel(n, t) }

// Threads returns the number of goroutines that an operation may use: what SetThreads asked for, else
// GOMAXPROCS, but not more than the process has CPUs, or cores where the system tells (Linux).
func Threads() int { return task.Threads() }

// SetThreads sets the goroutines that one operation uses, the caller's own included; n ≤ 0 is the
// default of Threads. Results don't depend on it.
func SetThreads(n int) { task.SetThreads(n) }

// Usage is how the time of the goroutines that operations use passed.
type Usage = task.Usage

// MeasureThreads runs f and tells how the goroutines' time passed meanwhile, in all operations of the
// program. It is for benchmarks; one runs at a time.
func MeasureThreads(f func()) Usage { return task.Measure(f) }

// CountProducts runs f and returns how many multiply-adds its products of matrices were, but for those of
// rounded activations. Nothing else may use the package meanwhile. It is for benchmarks.
func CountProducts(f func()) int64 { return kernel.CountProducts(f) }

// Kernel names the assembly kernels in use: "generic" (Go), "avx2", "avx512" or "neon". The
// environment variable MICRORWKV_KERNEL picks one at start; else the fastest that the CPU can run
// is used.
func Kernel() string { return kernel.Active() }

// Kernels lists the kernels that this build and CPU can run, the slowest first.
func Kernels() []string { return kernel.Names() }

// SetKernel picks the kernels to use, as MICRORWKV_KERNEL does. It must not be called while
// operations run.
func SetKernel(name string) error { return kernel.Use(name) }
