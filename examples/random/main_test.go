package main

import (
	"path/filepath"
	"slices"
	"testing"

	"microrwkv/examples/internal/clitest"
	"microrwkv/rwkv"
	"microrwkv/tensor"
)

func TestMain(m *testing.M) { clitest.Main(m, main) }

// TestKinds writes a little model of every kind, opens it and compares it with the one in memory.
func TestKinds(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		kind rwkv.Kind
		file string
	}{{rwkv.Reference, "r.pt"}, {rwkv.Causal, "c.safetensors"}, {rwkv.X051a, "x.pth"}, {rwkv.RWKV7, "g.pth"}, {rwkv.RWKV7, "g.safetensors"}} {
		path := filepath.Join(dir, c.file)
		args := []string{"--kind", string(c.kind), "--n_layer=2", "--n_embd=64", "--vocab_size=100", "--seed=5", "--dtype=f32", path}
		shape := rwkv.Config{NumLayers: 2, EmbedDim: 64, VocabSize: 100}
		if c.kind != rwkv.RWKV7 {
			shape.NumHeads, shape.BlockSize = 2, 30
			args = append(args, "--n_head=2", "--block_size=30")
		}
		if out := clitest.Succeed(t, args...); out != "" {
			t.Errorf("printed %q", out)
		}
		want, err := config("", c.kind, shape)
		if err != nil {
			t.Fatal(err)
		}
		made, err := rwkv.Random(want, tensor.F32, 5)
		if err != nil {
			t.Fatal(err)
		}
		m, err := rwkv.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		got, want := m.Config(), made.Config()
		got.Dim, want.Dim = 0, 0 // nothing is computed from it
		if got != want {
			t.Errorf("%s: %+v, want %+v", c.file, got, want)
		}
		a, err := m.Forward([]int{3, 1, 4})
		if err != nil {
			t.Fatal(err)
		}
		b, err := made.Forward([]int{3, 1, 4})
		if err != nil || !slices.Equal(a.Data(), b.Data()) {
			t.Errorf("%s: the logits differ, %v", c.file, err)
		}
		m.Close()
	}
}

// TestBlocks writes quantized weights, in the types that quantize gives them.
func TestBlocks(t *testing.T) {
	dir := t.TempDir()
	for _, file := range []string{"a.gguf", "a.safetensors"} {
		path := filepath.Join(dir, file)
		clitest.Succeed(t, path, "--kind", "rwkv7", "--n_layer", "2", "--n_embd", "256", "--vocab_size", "300", "--dtype", "q4_k", "--seed", "5")
		m, err := rwkv.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		plain, err := rwkv.Random(m.Config(), tensor.BF16, 5)
		if err != nil {
			t.Fatal(err)
		}
		plan, err := rwkv.PlanQuantize(plain, tensor.Q4_K)
		if err != nil {
			t.Fatal(err)
		}
		tensors := map[string]tensor.DType{}
		for _, w := range m.Tensors() {
			tensors[w.Name] = w.Tensor.DType()
		}
		for _, p := range plan {
			if got := tensors[p.Name]; p.From != p.To && got != p.To {
				t.Errorf("%s: %s is %v, want %v", file, p.Name, got, p.To)
			}
		}
		logits, err := m.Forward([]int{3, 1, 4})
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range logits.Data() {
			if !(x > -100 && x < 100) {
				t.Fatalf("%s: a logit of %g", file, x)
			}
		}
		m.Close()
	}
	clitest.Refuse(t, 1, []string{"b.pth", "q4_k"}, filepath.Join(dir, "b.pth"), "--kind", "rwkv7", "--n_layer", "1", "--n_embd", "256", "--dtype", "q4_k")
}

// TestSizes has the official shapes.
func TestSizes(t *testing.T) {
	for size, want := range map[string]rwkv.Config{
		"0.1B": {Kind: rwkv.RWKV7, NumLayers: 12, NumHeads: 12, EmbedDim: 768, VocabSize: 65536},
		"0.4B": {Kind: rwkv.RWKV7, NumLayers: 24, NumHeads: 16, EmbedDim: 1024, VocabSize: 65536},
		"1.5B": {Kind: rwkv.RWKV7, NumLayers: 24, NumHeads: 32, EmbedDim: 2048, VocabSize: 65536},
	} {
		if got, err := config(size, "", rwkv.Config{}); err != nil || got != want {
			t.Errorf("%s: %+v, %v, want %+v", size, got, err, want)
		}
	}
	for _, kind := range []rwkv.Kind{rwkv.RWKV4, rwkv.RWKV5, rwkv.RWKV6} {
		got, err := config("1.6B", kind, rwkv.Config{})
		if err != nil || got.Kind != kind || got.NumLayers != 24 || got.EmbedDim != 2048 || got.NumHeads != 32 {
			t.Errorf("%s: %+v, %v", kind, got, err)
		}
	}
	if got, err := config("", "", rwkv.Config{}); err != nil || got.NumLayers != 8 || got.EmbedDim != 768 || got.Kind != rwkv.Reference {
		t.Errorf("without a size: %+v, %v", got, err)
	}
	if got, err := config("0.1B", "", rwkv.Config{NumLayers: 2, EmbedDim: 128}); err != nil || got.NumLayers != 2 || got.NumHeads != 2 {
		t.Errorf("a smaller 0.1B: %+v, %v", got, err)
	}
}

func TestRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.pth")
	for _, c := range []struct {
		words []string
		args  []string
	}{
		{[]string{"x.gguf"}, []string{"x.gguf"}},
		{[]string{"--dtype", "f8"}, []string{path, "--dtype", "f8"}},
		{[]string{"--size", "7B"}, []string{path, "--size", "7B"}},
		{[]string{"0.1B", "causal"}, []string{path, "--size", "0.1B", "--kind", "causal"}},
		{[]string{"x", "kind"}, []string{path, "--kind", "x"}},
		{[]string{"n_embd"}, []string{path, "--kind", "rwkv7", "--n_embd", "100"}},
		{[]string{"block_size"}, []string{path, "--kind", "rwkv7", "--block_size", "100"}},
		{[]string{"n_layer"}, []string{path, "--n_layer", "-1"}},
	} {
		clitest.Refuse(t, 1, c.words, c.args...)
	}
	clitest.Refuse(t, 2, []string{"OUT"})
	clitest.Refuse(t, 2, []string{"nosuch"}, path, "--nosuch")
}
