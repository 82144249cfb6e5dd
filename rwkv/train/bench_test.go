package train

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"microrwkv/rwkv"
	"microrwkv/tensor"
)

// randomBatches is a Source of random ids.
type randomBatches struct{ x, y [][]int }

func (r *randomBatches) Batch(int, *rand.Rand, *Options) (x, y [][]int, err error) {
	return r.x, r.y, nil
}
func (r *randomBatches) Place() string                       { return "random ids" }
func (r *randomBatches) Check(*rwkv.Trainee, *Options) error { return nil }

// BenchmarkStep is whole training steps, of nanoGPT's CPU demo among other sizes. GFLOP/op is what the products
// of a step are, two for each multiply-add, as counted in one: forward and back, of layers and heads, those
// whose results a mask hides included; GFLOP/s is that by the time of whole steps.
func BenchmarkStep(b *testing.B) {
	for _, size := range []struct {
		name                               string
		batch, block, layers, embed, vocab int
	}{{"demo", 12, 64, 4, 128, 65}, {"middle", 8, 256, 6, 384, 65}, {"vocabulary", 8, 256, 6, 128, 50304}, {"gpt2", 4, 64, 12, 768, 50304}} {
		if testing.Short() && size.name != "demo" {
			continue
		}
		for _, k := range kinds {
			b.Run(fmt.Sprintf("size=%s/kind=%s", size.name, k), func(b *testing.B) {
				c := rwkv.Config{Kind: k, BlockSize: size.block, VocabSize: size.vocab, NumLayers: size.layers, NumHeads: size.embed / 64, EmbedDim: size.embed, NumExperts: 4, NumActiveExperts: 4, ExpertDim: 2 * size.embed / 3}
				if (k == rwkv.Causal || k == rwkv.Reference || k == rwkv.X051a) && size.embed == 128 {
					c.NumHeads = 4
				}
				m := newModel(b, c)
				rng := rand.New(rand.NewPCG(1, 1))
				src := &randomBatches{}
				for range size.batch {
					x, y := make([]int, size.block), make([]int, size.block)
					for i := range x {
						x[i], y[i] = rng.IntN(size.vocab), rng.IntN(size.vocab)
						if k == rwkv.Reference && i+1 < size.block {
							y[i] = -1
						}
					}
					src.x, src.y = append(src.x, x), append(src.y, y)
				}
				t, err := New(m, Defaults(k), src)
				if err != nil {
					b.Fatal(err)
				}
				step := func() {
					if _, err := t.Step(context.Background()); err != nil {
						b.Fatal(err)
					}
				}
				step()
				flops := 2 * float64(tensor.CountProducts(step))
				b.ReportAllocs()
				for b.Loop() {
					step()
				}
				b.ReportMetric(float64(b.N*size.batch*size.block)/b.Elapsed().Seconds(), "tok/s")
				b.ReportMetric(flops/1e9, "GFLOP/op")
				b.ReportMetric(flops*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
				b.ReportMetric(float64(m.Memory())/(1<<20), "MB")
			})
		}
	}
}
