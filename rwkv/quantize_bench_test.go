package rwkv

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"microrwkv/tensor"
)

// reading is a task that reads memory and does nothing else.
type reading struct{ pieces [][]byte }

func (r *reading) Run(i int) {
	if bytes.IndexByte(r.pieces[i], 1) >= 0 { // in vectors, wherever Go has them
		panic("zeros that aren't")
	}
}

// BenchmarkReadBandwidth is what a token is bound by, measured in the run of the other benchmarks here: all
// threads read a buffer too large for the caches.
func BenchmarkReadBandwidth(b *testing.B) {
	all := make([]byte, 512<<20)
	for i := 0; i < len(all); i += 4096 {
		all[i] = 2 // pages of its own
	}
	r := &reading{slices.Collect(slices.Chunk(all, 1<<20))}
	for b.Loop() {
		tensor.Parallel(len(r.pieces), r)
	}
	b.ReportMetric(float64(b.N)*float64(len(all))/b.Elapsed().Seconds()/1e9, "GB/s")
}

// BenchmarkOpen opens files that are in the page cache, with all checks and without: quantized ones, and those
// of PyTorch.
func BenchmarkOpen(b *testing.B) {
	if testing.Short() {
		b.Skip("writes large files")
	}
	open := func(dtype tensor.DType, ext string) {
		path := filepath.Join(b.TempDir(), "model"+ext)
		if err := benchModel(b, RWKV7, dtype).Save(path); err != nil {
			b.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			b.Fatal(err)
		}
		for _, checks := range []string{"off", "on"} {
			b.Run(fmt.Sprintf("kind=%s/weights=%v/file=%s/checks=%s", RWKV7, dtype, ext[1:], checks), func(b *testing.B) {
				var opts []OpenOption
				if checks == "off" {
					opts = append(opts, SkipChecks())
				}
				b.ReportAllocs()
				for b.Loop() {
					m, err := Open(path, opts...)
					if err != nil {
						b.Fatal(err)
					}
					m.Close()
				}
				b.ReportMetric(float64(info.Size())/1e6, "MB")
			})
		}
		if err := os.Remove(path); err != nil {
			b.Fatal(err)
		}
	}
	for _, dtype := range tensor.Quantized() {
		open(dtype, ".gguf")
	}
	open(tensor.BF16, ".pth")
	open(tensor.BF16, ".safetensors")
}

// BenchmarkQuantize rounds a layer's numbers to blocks.
func BenchmarkQuantize(b *testing.B) {
	m, err := Random(Config{Kind: RWKV7, VocabSize: 256, NumLayers: 1, NumHeads: 4, EmbedDim: 256}, tensor.BF16, 1)
	if err != nil {
		b.Fatal(err)
	}
	for _, dtype := range tensor.Quantized() {
		b.Run(fmt.Sprintf("kind=%s/weights=%v", RWKV7, dtype), func(b *testing.B) {
			for b.Loop() {
				if _, err := Quantize(m, dtype); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)*float64(m.NumParameters())/b.Elapsed().Seconds()/1e6, "Mweights/s")
		})
	}
}
