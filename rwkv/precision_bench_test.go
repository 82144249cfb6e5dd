package rwkv

import (
	"fmt"
	"testing"

	"microrwkv/tensor"
)

// BenchmarkBF16Products has the works of BenchmarkDecode, DecodeBatch, Prefill and Forward with products in
// bfloat16, of bfloat16 weights.
func BenchmarkBF16Products(b *testing.B) {
	if !tensor.RoundsActivations(tensor.BF16Activations, tensor.BF16) {
		b.Skipf("kernels %s have no products of bfloat16", tensor.Kernel())
	}
	works := []struct {
		name   string
		kinds  []Kind
		tokens int
		run    func(m *Model, states []*State) error
	}{
		{"decode", streamingKinds, 1, func(m *Model, states []*State) error {
			_, err := states[0].Append(benchIDs(1))
			return err
		}},
		{"decode/sequences=16", streamingKinds, 16, func(m *Model, states []*State) error {
			feed := make([][]int, len(states))
			for i := range feed {
				feed[i] = benchIDs(1)
			}
			return m.AppendBatch(states, feed)
		}},
		{"prefill/T=512", streamingKinds, 512, func(m *Model, states []*State) error {
			states[0].Reset()
			_, err := states[0].Append(benchIDs(512))
			return err
		}},
		{"forward/T=256", []Kind{Reference}, 256, func(m *Model, _ []*State) error {
			_, err := m.LastLogits(benchIDs(256))
			return err
		}},
	}
	for _, kind := range allKinds {
		for _, w := range works {
			for _, k := range w.kinds {
				if k != kind || testing.Short() && kind != X051a {
					continue
				}
				b.Run(fmt.Sprintf("kind=%s/work=%s", kind, w.name), func(b *testing.B) {
					m := benchModel(b, kind, tensor.BF16, Precision(BF16Products))
					states := make([]*State, 16)
					for i := range states {
						states[i] = m.NewState()
					}
					for b.Loop() {
						if states[0].Len() > 500 {
							for _, s := range states {
								s.Reset()
							}
						}
						if err := w.run(m, states); err != nil {
							b.Fatal(err)
						}
					}
					reportTokens(b, w.tokens)
				})
			}
		}
	}
}
