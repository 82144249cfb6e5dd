package rwkv

import (
	"math/rand/v2"
	"testing"

	"microrwkv/tensor"
)

// Experts' shapes decide their width and number.
func TestOpenExperts(t *testing.T) {
	for _, c := range []struct{ experts, active, dim, width int }{
		{1, 1, 1, 1}, {4, 1, 4, 4}, {4, 4, 10, 12}, {5, 2, 9, 10}, {12, 11, 3, 3}, {3, 3, 5, 6}, {2, 2, 0, 17},
	} {
		config := smallConfig(Reference)
		config.NumExperts, config.NumActiveExperts, config.ExpertDim = c.experts, c.active, c.dim
		if c.dim == 0 {
			config.ExpertWidth = c.width
		}
		m := wildModel(t, config, rand.New(rand.NewPCG(1, 1)))
		if m.config.ExpertWidth != c.width {
			t.Errorf("expert_dim %d: width %d, want %d", c.dim, m.config.ExpertWidth, c.width)
		}
		f := &file{tensors: map[string]*tensor.Weight{}}
		for _, w := range m.tensors {
			f.put(w.name, w.Weight)
		}
		f.sameModel(t, m)
	}
	// each block must have the first one's
	f, _ := smallFile(t, Reference, 1)
	f.put("transformer.h.1.moe.experts.2.weight", tensor.New(8, 24).Weight())
	f.refused(t, "transformer.h.1.moe.experts.2.weight", "no place")
	f, _ = smallFile(t, Reference, 1)
	f.put("transformer.h.1.moe.fc.weight", tensor.New(24, 9).Weight())
	f.refused(t, "transformer.h.1.moe.fc.weight", "[24 9]", "[24 8]")
}

// What official files of RWKV-7 have, and what they might.
func TestOpenGoose(t *testing.T) {
	for seed := range uint64(8) { // widths of low-rank products that fill no register, every dtype, with and without v of block 0
		f, m := smallFile(t, RWKV7, seed)
		f.sameModel(t, m)
	}

	f, _ := smallFile(t, RWKV7, 1)
	for _, name := range []string{"w1", "w2", "a1", "a2", "v1", "v2", "g1", "g2"} {
		f.remove("blocks.1.att." + name)
	}
	f.refused(t, `"blocks.1.att.w1"`, `"blocks.1.att.w2"`, `"blocks.1.att.a1"`, `"blocks.1.att.a2"`, `"blocks.1.att.v1"`, `"blocks.1.att.v2"`, `"blocks.1.att.g1"`, `"blocks.1.att.g2"`)

	f, _ = smallFile(t, RWKV7, 1)
	f.put("blocks.1.att.w1", tensor.New(128, 7).Weight())
	f.put("blocks.1.att.w2", tensor.New(9, 128).Weight())
	f.refused(t, `"blocks.1.att.w2"`, "[9 128]", "[7 128]")

	f, _ = smallFile(t, RWKV7, 1)
	f.put("head.weight", tensor.New(15, 128).Weight())
	f.refused(t, "head.weight", "[15 128]", "[13 128]")
}
