package tensor_test

import (
	"fmt"
	"math/rand/v2"
	"microrwkv/tensor"
	"strings"
	"sync"
	"testing"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"

	"microrwkv/tensor/internal/kernel"
)

// benchmarkKernels runs a benchmark with each set of kernels that this CPU has.
func benchmarkKernels(b *testing.B, f func(b *testing.B)) {
	before := tensor.Kernel()
	defer tensor.SetKernel(before)
	for _, name := range tensor.Kernels() {
		if err := tensor.SetKernel(name); err != nil {
			b.Fatal(err)
		}
		b.Run("impl="+name, f)
	}
}

// coldSize is the elements of a float32 buffer that no cache share holds: 768 MiB.
const coldSize = 192 << 20

// cold is that buffer, filled with numbers in ±1. Its bits also serve as bf16 weights.
var cold = sync.OnceValue(func() []float32 {
	x := make([]float32, coldSize)
	rng := rand.New(rand.NewPCG(1, 1))
	for i := 0; i < len(x); i += 2 {
		u := rng.Uint64()
		x[i], x[i+1] = float32(int32(u))*0x1p-31, float32(int32(u>>32))*0x1p-31
	}
	return x
})

var coldBits = sync.OnceValue(func() []uint16 {
	bits := make([]uint16, coldSize)
	for i, v := range cold() {
		bits[i] = uint16(int32(v*100)&0xff) | 0x3c00 // some number near 0.01
	}
	return bits
})

// report gives the rates of b.N products of rows by in by out with weights of that size.
func report(b *testing.B, rows, in, out int, size float64) {
	perSec := float64(b.N) * float64(in) * float64(out) / b.Elapsed().Seconds()
	b.ReportMetric(2*perSec*float64(rows)/1e9, "GFLOP/s")
	b.ReportMetric(size*perSec/1e9, "GB/s")
}

// linearKind is what BenchmarkLinear multiplies with.
type linearKind struct {
	name        string
	dtype       tensor.DType
	activations tensor.Activations
}

// BenchmarkLinear takes other weights each time, so that they come from memory.
func BenchmarkLinear(b *testing.B) {
	shapes := [][2]int{{768, 768}, {768, 2304}, {2304, 768}, {768, 50304}}
	kinds := []linearKind{{"f32", tensor.F32, tensor.F32Activations}, {"bf16", tensor.BF16, tensor.F32Activations}, {"q8_0", tensor.Q8_0, tensor.F32Activations}, {"bf16/activations=bf16", tensor.BF16, tensor.BF16Activations}}
	for _, d := range []tensor.DType{tensor.Q6_K, tensor.Q5_K, tensor.Q4_K} {
		kinds = append(kinds, linearKind{d.String(), d, tensor.F32Activations}, linearKind{d.String() + "/activations=q8", d, tensor.Q8Activations})
	}
	run := func(b *testing.B, f func(b *testing.B, kind linearKind, rows, in, out int)) {
		for _, kind := range kinds {
			for _, rows := range []int{1, 8, 16, 50, 256} {
				for _, s := range shapes {
					b.Run(fmt.Sprintf("weights=%s/rows=%d/shape=%dx%d", kind.name, rows, s[0], s[1]), func(b *testing.B) {
						f(b, kind, rows, s[0], s[1])
					})
				}
			}
		}
	}
	benchmarkKernels(b, func(b *testing.B) {
		run(b, func(b *testing.B, kind linearKind, rows, in, out int) {
			dtype := kind.dtype
			if !tensor.RoundsActivations(kind.activations, dtype) {
				b.Skipf("kernels %s don't round activations so", tensor.Kernel())
			}
			x, y := tensor.FromSlice(cold()[:rows*in], rows, in), tensor.New(rows, out)
			var weights []*tensor.Weight
			for at := 0; at+in*out <= coldSize; at += in * out {
				if dtype == tensor.F32 {
					weights = append(weights, tensor.FromSlice(cold()[at:][:in*out], out, in).Weight())
					continue
				}
				size := dtype.Bytes(in * out) // of blocks: whatever the bits of those numbers are
				w := tensor.NewWeight(dtype, kernel.BytesOf(coldBits())[at*2:][:size], out, in)
				weights = append(weights, w.WithActivations(kind.activations))
			}
			i := 0
			for b.Loop() {
				tensor.Linear(tensor.Product{Dst: y, X: x, W: weights[i%len(weights)]})
				i++
			}
			numbers, size := dtype.Block()
			report(b, rows, in, out, float64(size)/float64(numbers))
		})
	})
	b.Run("impl=gonum", func(b *testing.B) {
		run(b, func(b *testing.B, kind linearKind, rows, in, out int) {
			if kind.dtype != tensor.F32 {
				b.Skip("gonum has float32 alone")
			}
			x, y := blas32.General{Rows: rows, Cols: in, Stride: in, Data: cold()[:rows*in]}, blas32.General{Rows: rows, Cols: out, Stride: out, Data: make([]float32, rows*out)}
			i := 0
			for b.Loop() {
				w := blas32.General{Rows: out, Cols: in, Stride: in, Data: cold()[i%(coldSize/(in*out))*in*out:][:in*out]}
				if rows == 1 {
					blas32.Gemv(blas.NoTrans, 1, w, blas32.Vector{N: in, Inc: 1, Data: x.Data}, 0, blas32.Vector{N: out, Inc: 1, Data: y.Data})
				} else {
					blas32.Gemm(blas.NoTrans, blas.Trans, 1, x, w, 0, y)
				}
				i++
			}
			report(b, rows, in, out, 4)
		})
	})
}

func BenchmarkMatMul(b *testing.B) {
	const n = 1024
	x, y, z := cold()[:n*n], cold()[n*n:2*n*n], make([]float32, n*n)
	b.Run("impl=gonum/n=1024", func(b *testing.B) {
		g := func(d []float32) blas32.General { return blas32.General{Rows: n, Cols: n, Stride: n, Data: d} }
		for b.Loop() {
			blas32.Gemm(blas.NoTrans, blas.NoTrans, 1, g(x), g(y), 0, g(z))
		}
		report(b, n, n, n, 4)
	})
	benchmarkKernels(b, func(b *testing.B) {
		b.Run("n=1024", func(b *testing.B) {
			for b.Loop() {
				tensor.MatMul(tensor.FromSlice(z, n, n), tensor.FromSlice(x, n, n), tensor.FromSlice(y, n, n))
			}
			report(b, n, n, n, 4)
		})
	})
}

// readTask reads a buffer in pieces of 1 MiB.
type readTask struct{ x []float32 }

const readPiece = 1 << 18

func (t *readTask) Run(i int) { kernel.Read(t.x[i*readPiece:][:readPiece]) }

// BenchmarkReadBandwidth measures the memory's own limit, what a product with one row is bound by:
// all threads read a buffer too large for the caches, and that is all.
func BenchmarkReadBandwidth(b *testing.B) {
	t := &readTask{x: cold()}
	for b.Loop() {
		tensor.Parallel(coldSize/readPiece, t)
	}
	b.ReportMetric(float64(b.N)*4*coldSize/b.Elapsed().Seconds()/1e9, "GB/s")
}

// peakTask computes multiply-adds that wait for nothing.
type peakTask struct{ flops []int }

func (t *peakTask) Run(i int) { t.flops[i] = kernel.PeakFMA(10_000) }

// BenchmarkPeakFMA measures the multiply-add units' own limit, what a product with many rows is
// bound by, on all threads.
func BenchmarkPeakFMA(b *testing.B) {
	benchmarkKernels(b, func(b *testing.B) {
		t := &peakTask{flops: make([]int, 8*tensor.Threads())}
		for b.Loop() {
			tensor.Parallel(len(t.flops), t)
		}
		total := 0
		for _, n := range t.flops {
			total += n
		}
		b.ReportMetric(float64(b.N)*float64(total)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
	})
}

// BenchmarkOps times operations on a row of the width of the README table's model, and on many.
func BenchmarkOps(b *testing.B) {
	const c = 768
	for _, rows := range []int{1, 256} {
		x, y, v := tensor.FromSlice(cold()[:rows*c], rows, c), tensor.New(rows, c), tensor.FromSlice(cold()[:c], c)
		for _, op := range []struct {
			name string
			f    func()
		}{
			{"Add", func() { tensor.Add(y, x, x) }},
			{"Mix", func() { tensor.Mix(y, x, x, v) }},
			{"LayerNorm", func() { tensor.LayerNorm(y, x, v, v, 1e-5) }},
			{"RMSNorm", func() { tensor.RMSNorm(y, x, 1e-8) }},
			{"Softmax", func() { tensor.Softmax(y, x) }},
			{"SiLU", func() { tensor.Apply(tensor.SiLU, y, x) }},
			{"Tanh", func() { tensor.Apply(tensor.Tanh, y, x) }},
		} {
			b.Run(fmt.Sprintf("op=%s/impl=%s/rows=%d", strings.ToLower(op.name), tensor.Kernel(), rows), func(b *testing.B) {
				for b.Loop() {
					op.f()
				}
				b.ReportMetric(float64(b.N)*float64(rows*c)/b.Elapsed().Seconds()/1e9, "Gelem/s")
			})
		}
	}
}
