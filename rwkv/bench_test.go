package rwkv

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"microrwkv/tensor"
)

// The models of the README's table: the published default size, 156.7 million parameters beside
// the positions, and the official models of the 0.4B shape.
func benchConfig(kind Kind) Config {
	c := DefaultConfig()
	c.Kind = kind
	if kind == X051a {
		c.NumLayers, c.NumExperts, c.NumActiveExperts, c.ExpertDim, c.ExpertWidth = 12, 0, 0, 0, 0
	}
	if !limited(kind) { // 0.4B
		c = Config{Kind: kind, VocabSize: 65536, NumLayers: 24, NumHeads: 16, EmbedDim: 1024}
	}
	return c
}

var benchModels sync.Map // kind/dtype → *Model: they take seconds to make

func benchModel(b *testing.B, kind Kind, dtype tensor.DType, opts ...OpenOption) *Model {
	key := fmt.Sprint(kind, dtype, len(opts))
	if m, ok := benchModels.Load(key); ok {
		return m.(*Model)
	}
	benchModels.Clear() // one at a time fits everywhere
	m, err := Random(benchConfig(kind), dtype, 1, opts...)
	if err != nil {
		b.Fatal(err)
	}
	benchModels.Store(key, m)
	return m
}

func benchIDs(n int) []int {
	ids := make([]int, n)
	for i := range ids {
		ids[i] = (i*7919 + 13) % 50257
	}
	return ids
}

func reportTokens(b *testing.B, each int) {
	b.ReportMetric(float64(b.N)*float64(each)/b.Elapsed().Seconds(), "tok/s")
}

// weightBytes returns the bytes of weights that one token reads: all but the embeddings, of which
// it takes a row, unless the head is tied to one.
func weightBytes(m *Model) int {
	n := 0
	for _, t := range m.tensors {
		if t.name != "transformer.wpe.weight" && t.name != "emb.weight" && !strings.HasSuffix(t.name, ".s_emb.weight") {
			n += len(t.Bytes())
		}
	}
	return n
}

var benchDTypes = []tensor.DType{tensor.F32, tensor.BF16}

// benchWeights returns the types of weights that a streaming kind is measured with: blocks for RWKV-7, but not
// in short runs.
func benchWeights(kind Kind) []tensor.DType {
	if kind != RWKV7 || testing.Short() {
		return benchDTypes
	}
	return slices.Concat(benchDTypes, tensor.Quantized())
}

// BenchmarkGenerate makes 50 tokens after a prompt of 2.
func BenchmarkGenerate(b *testing.B) {
	for _, kind := range allKinds {
		for _, dtype := range benchDTypes {
			if !limited(kind) && dtype == tensor.F32 {
				continue // the official files are bf16
			}
			b.Run(fmt.Sprintf("kind=%s/weights=%v", kind, dtype), func(b *testing.B) {
				m := benchModel(b, kind, dtype)
				for b.Loop() {
					for _, err := range m.GenerateTokens(b.Context(), benchIDs(2), MaxTokens(50), TopK(200), Temperature(0.8)) {
						if err != nil {
							b.Fatal(err)
						}
					}
				}
				reportTokens(b, 50)
			})
		}
	}
}

// BenchmarkForward computes the logits of the last of T positions, as the published program does.
func BenchmarkForward(b *testing.B) {
	for _, kind := range []Kind{Reference, Causal, X051a} {
		for _, t := range []int{64, 256, 1024} {
			b.Run(fmt.Sprintf("kind=%s/T=%d", kind, t), func(b *testing.B) {
				m := benchModel(b, kind, tensor.F32)
				ids := benchIDs(t)
				for b.Loop() {
					if _, err := m.LastLogits(ids); err != nil {
						b.Fatal(err)
					}
				}
				reportTokens(b, t)
			})
		}
	}
}

// BenchmarkDecode appends one token.
func BenchmarkDecode(b *testing.B) {
	for _, kind := range streamingKinds {
		for _, dtype := range benchWeights(kind) {
			b.Run(fmt.Sprintf("kind=%s/weights=%v", kind, dtype), func(b *testing.B) {
				m := benchModel(b, kind, dtype)
				s := m.NewState()
				if _, err := s.Append(benchIDs(32)); err != nil {
					b.Fatal(err)
				}
				b.ReportAllocs()
				for b.Loop() {
					if _, err := s.Append(benchIDs(1)); err != nil {
						b.Fatal(err)
					}
				}
				reportTokens(b, 1)
				b.ReportMetric(float64(b.N)*float64(weightBytes(m))/b.Elapsed().Seconds()/1e9, "GB/s")
			})
		}
	}
}

// BenchmarkDecodeBatch appends one token to each of 16 sequences together.
func BenchmarkDecodeBatch(b *testing.B) {
	const n = 16
	for _, kind := range streamingKinds {
		for _, dtype := range benchWeights(kind) {
			b.Run(fmt.Sprintf("kind=%s/weights=%v/sequences=%d", kind, dtype, n), func(b *testing.B) {
				m := benchModel(b, kind, dtype)
				var states []*State
				var feed [][]int
				for i := range n {
					s := m.NewState()
					if _, err := s.Append(benchIDs(16 + i)); err != nil {
						b.Fatal(err)
					}
					states, feed = append(states, s), append(feed, benchIDs(1))
				}
				for b.Loop() {
					if err := m.AppendBatch(states, feed); err != nil {
						b.Fatal(err)
					}
				}
				reportTokens(b, n)
			})
		}
	}
}

// BenchmarkPrefill feeds a prompt to an empty state.
func BenchmarkPrefill(b *testing.B) {
	for _, kind := range streamingKinds {
		for _, dtype := range benchWeights(kind) {
			b.Run(fmt.Sprintf("kind=%s/weights=%v/T=512", kind, dtype), func(b *testing.B) {
				m := benchModel(b, kind, dtype)
				s := m.NewState()
				for b.Loop() {
					s.Reset()
					if _, err := s.Append(benchIDs(512)); err != nil {
						b.Fatal(err)
					}
				}
				reportTokens(b, 512)
				// Two operations for each weight of the blocks: embeddings are looked up, and one position
				// needs the head.
				n := m.NumParameters()
				for _, t := range m.tensors {
					if slices.Contains([]string{"emb.weight", "head.weight", tiedEmbedding, "transformer.wpe.weight"}, t.name) {
						n -= t.Len()
					}
				}
				flops := 2 * 512 * float64(n)
				b.ReportMetric(float64(b.N)*flops/b.Elapsed().Seconds()/1e9, "GFLOP/s")
			})
		}
	}
}

// BenchmarkStateSave and BenchmarkStateRestore take a state after 512 tokens.
func BenchmarkStateSave(b *testing.B) {
	benchState(b, func(b *testing.B, s *State, saved []byte) {
		for b.Loop() {
			var err error
			if saved, err = s.AppendBinary(saved[:0]); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkStateRestore(b *testing.B) {
	benchState(b, func(b *testing.B, s *State, saved []byte) {
		for b.Loop() {
			if err := s.UnmarshalBinary(saved); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func benchState(b *testing.B, f func(b *testing.B, s *State, saved []byte)) {
	for _, kind := range streamingKinds {
		b.Run(fmt.Sprintf("kind=%s", kind), func(b *testing.B) {
			s := benchModel(b, kind, tensor.BF16).NewState()
			if _, err := s.Append(benchIDs(512)); err != nil {
				b.Fatal(err)
			}
			saved, err := s.MarshalBinary()
			if err != nil {
				b.Fatal(err)
			}
			f(b, s, saved)
			b.ReportMetric(float64(len(saved))/1e6, "MB")
		})
	}
}
