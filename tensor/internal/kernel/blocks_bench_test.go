//go:build linux

package kernel

import (
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// cpuTime returns what this thread has used of a processor, which other programs don't count in.
func cpuTime(b *testing.B) time.Duration {
	const thread = 1 // RUSAGE_THREAD
	var u syscall.Rusage
	if err := syscall.Getrusage(thread, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkBlocks times the products with blocks on one thread, by its own processor time: with weights
// that are new each time, and with the same ones. GB/s are the weights'.
func BenchmarkBlocks(b *testing.B) {
	const n, k = 768, 1024
	blocks := randomBlocks(newRand(), Q4_K, (256<<20)/144)
	halves := make([]uint16, len(blocks)/2)
	for i := range halves {
		halves[i] = uint16(i*7919)&0x80ff | 0x3c00 // denormals would take their time
	}
	eachImplBench(b, func(b *testing.B, im *impl) {
		for _, d := range []DType{BF16, Q8_0, Q6_K, Q5_K, Q4_K} {
			memory := blocks
			if d == BF16 {
				memory = BytesOf(halves)
			}
			for _, a := range []Activations{Exact, Q8Activations} {
				for _, m := range []int{1, 4, 8, 16, 64, 256} {
					for _, cold := range []bool{true, false} {
						product := im.roundings[a].products[d]
						if a != Exact && product == nil {
							continue
						}
						b.Run(fmt.Sprintf("weights=%v/activations=%v/rows=%d/cold=%v", d, a, m, cold), func(b *testing.B) {
							runtime.LockOSThread()
							defer runtime.UnlockOSThread()
							x, dst := randoms(newRand(), m*k), make([]float32, m*n)
							rounded := roundedRows(im, x, m, k)
							row := d.Bytes(k)
							at := 0
							start := cpuTime(b)
							for b.Loop() {
								w := memory[at:][:n*row]
								if a == Exact {
									im.product(d, dst, n, x, k, w, row, m, n, k, false)
								} else {
									product(dst, n, rounded, w, row, m, n, k, false)
								}
								if at += n * row; !cold || at+n*row > len(memory) {
									at = 0
								}
							}
							perSec := float64(b.N) / (cpuTime(b) - start).Seconds()
							b.ReportMetric(perSec*float64(n*row)/1e9, "GB/s")
							b.ReportMetric(perSec*2*float64(m*n*k)/1e9, "GFLOP/s")
						})
					}
				}
			}
		}
	})
	b.Run("read", func(b *testing.B) {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		start := cpuTime(b)
		for b.Loop() {
			active.read(View[float32](blocks))
		}
		b.ReportMetric(float64(b.N)*float64(len(blocks))/(cpuTime(b)-start).Seconds()/1e9, "GB/s")
	})
}
