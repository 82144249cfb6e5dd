package kernel

import (
	"fmt"
	"testing"
)

func eachImplBench(b *testing.B, f func(b *testing.B, im *impl)) {
	for i := range impls {
		b.Run("impl="+impls[i].name, func(b *testing.B) { f(b, &impls[i]) })
	}
}

// BenchmarkPeakFMA is the limit of one core that products are measured against.
func BenchmarkPeakFMA(b *testing.B) {
	eachImplBench(b, func(b *testing.B, im *impl) {
		flops := 0
		for b.Loop() {
			flops += im.peak(1000)
		}
		b.ReportMetric(float64(flops)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
	})
}

// BenchmarkGemmNT runs on one core. "cold" weights come from the memory: copies that together are
// larger than the caches take turns.
func BenchmarkGemmNT(b *testing.B) {
	shapes := []struct{ in, out int }{{768, 768}, {768, 2304}, {2304, 768}, {768, 64}}
	eachImplBench(b, func(b *testing.B, im *impl) {
		for kind := range weightKinds {
			for _, s := range shapes {
				for _, m := range []int{1, 2, 4, 8, 16, 50, 256} {
					for _, cold := range []bool{false, true} {
						if cold && m > 50 {
							continue
						}
						name := fmt.Sprintf("weights=%v/rows=%d/shape=%dx%d/cold=%v", weightKinds[kind].dtype, m, s.in, s.out, cold)
						b.Run(name, func(b *testing.B) { benchmarkNT(b, im, kind, m, s.out, s.in, cold) })
					}
				}
			}
		}
	})
}

// benchmarkWeights is 512 MB: past the last cache's share of a core on today's servers.
var benchmarkWeights []float32

func benchmarkNT(b *testing.B, im *impl, kind, m, n, k int, cold bool) {
	r := newRand()
	x, dst := randoms(r, m*k), make([]float32, m*n)
	if benchmarkWeights == nil {
		benchmarkWeights = make([]float32, 128<<20)
		for i := range benchmarkWeights {
			benchmarkWeights[i] = 0x1p-10
		}
	}
	next, copies := 0, 1
	weights, dtype := BytesOf(benchmarkWeights), weightKinds[kind].dtype
	row := dtype.Bytes(k)
	if cold {
		copies = len(weights) / (n * row)
	}
	for b.Loop() {
		im.product(dtype, dst, n, x, k, weights[next*n*row:], row, m, n, k, false)
		next = (next + 1) % copies
	}
	perSec := float64(b.N) / b.Elapsed().Seconds() / 1e9
	b.ReportMetric(2*perSec*float64(m*n*k), "GFLOP/s")
	b.ReportMetric(perSec*float64(n*row), "GB/s")
}

// BenchmarkGemmNN runs on one core.
func BenchmarkGemmNN(b *testing.B) {
	eachImplBench(b, func(b *testing.B, im *impl) {
		for _, s := range []struct{ m, n, k int }{
			{1, 64, 64}, {1, 64, 512}, {16, 64, 64}, {64, 64, 64}, {96, 96, 96}, {256, 48, 256}, {256, 64, 256}, {512, 64, 512},
			{1024, 128, 1024}, {1024, 1024, 1024},
		} {
			b.Run(fmt.Sprintf("m=%d/n=%d/k=%d", s.m, s.n, s.k), func(b *testing.B) {
				r := newRand()
				// Rows at the distance of a square matrix of the larger benchmark, as MatMul's are.
				ldb := s.n
				if s.n == 128 {
					ldb = 1024
				}
				x, y, dst := randoms(r, s.m*s.k), randoms(r, s.k*ldb), make([]float32, s.m*ldb)
				for b.Loop() {
					im.gemmNN(dst, ldb, x, s.k, y, ldb, s.m, s.n, s.k, false)
				}
				b.ReportMetric(2*float64(b.N)*float64(s.m*s.n*s.k)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
			})
		}
	})
}
