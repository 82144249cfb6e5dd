package serve

import (
	"fmt"
	"net/http"
	"os"
	"sync"
	"testing"

	"microrwkv/rwkv"
	"microrwkv/tensor"
	"microrwkv/tokenizer/world"
)

// BenchmarkThroughput has the same requests answered by a Batch and by the server, as streams over HTTP: 32 prompts of 100 tokens each, 48 tokens after each, 16 at a time. The client's own
// work is part of the latter. MICRORWKV_BENCH_SIZE=0.1B takes a model of that shape.
func BenchmarkThroughput(b *testing.B) {
	const requests, length, more, wide = 32, 100, 48, 16
	c := rwkv.Config{Kind: rwkv.RWKV7, NumLayers: 4, NumHeads: 8, EmbedDim: 512, VocabSize: 65536}
	if os.Getenv("MICRORWKV_BENCH_SIZE") == "0.1B" {
		c.NumLayers, c.NumHeads, c.EmbedDim = 12, 12, 768
	}
	if testing.Short() {
		c = tiny().Model.Config()
	}
	m, err := rwkv.Random(c, tensor.BF16, 1)
	if err != nil {
		b.Fatal(err)
	}
	tok, err := world.Tokenizer()
	if err != nil {
		b.Fatal(err)
	}
	round := 0
	prompt := func(i int) []int { // another each time, for the prompts' cache
		list := ids(length + i)[i:]
		list[0] = 300 + round%20000
		return list
	}
	report := func(b *testing.B) {
		b.ReportMetric(float64(b.N)*requests*more/b.Elapsed().Seconds(), "tok/s")
	}
	name := fmt.Sprintf("model=%dx%d/", c.NumLayers, c.EmbedDim)
	b.Run(name+"by=batch", func(b *testing.B) {
		for b.Loop() {
			round++
			batch := m.NewBatch()
			for next := 0; next < requests || batch.Len() > 0; {
				for ; next < requests && batch.Len() < wide; next++ {
					if _, err := batch.Add(prompt(next), tok, rwkv.MaxTokens(more), rwkv.StopAtEnd(false), rwkv.Seed(1), rwkv.NoLogProbs()); err != nil {
						b.Fatal(err)
					}
				}
				if err := batch.Step(); err != nil {
					b.Fatal(err)
				}
			}
		}
		report(b)
	})
	serve := func(b *testing.B, s *site, ask func(body object) int) {
		for b.Loop() {
			round++
			var all sync.WaitGroup
			places := make(chan struct{}, 64)
			for i := range requests {
				places <- struct{}{}
				all.Go(func() {
					defer func() { <-places }()
					body := object{"prompt": prompt(i), "max_tokens": more, "ignore_eos": true, "seed": 1, "stream": true}
					if n := ask(body); n < 10 {
						b.Errorf("%d events", n)
					}
				})
			}
			all.Wait()
		}
		report(b)
	}
	b.Run(name+"by=http", func(b *testing.B) {
		s := newSite(b, Config{MaxBatch: wide}, Model{Name: "m", Model: m, Tokenizer: tok})
		serve(b, s, func(body object) int {
			r, err := s.do(b.Context(), "POST", "/v1/completions", body)
			if err != nil {
				b.Error(err)
				return 0
			}
			defer r.Body.Close()
			if r.StatusCode != http.StatusOK {
				b.Errorf("status %d", r.StatusCode)
			}
			return lines(r.Body)
		})
	})
}
