package rwkv

import (
	"bytes"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"microrwkv/checkpoint"
	"microrwkv/tensor"
)

// smallModel returns a random model with rows of 256 and of 128 numbers.
func smallModel(t *testing.T, kind Kind, dtype tensor.DType) *Model {
	t.Helper()
	c := Config{Kind: kind, VocabSize: 300, NumLayers: 2, NumHeads: 2, EmbedDim: 128, FFNDim: 256}
	if kind == Reference || kind == Causal {
		c = Config{Kind: kind, BlockSize: 64, VocabSize: 300, NumLayers: 2, NumHeads: 2, EmbedDim: 128, NumExperts: 2, NumActiveExperts: 2, ExpertDim: 80, Dim: 128}
	}
	m, err := Random(c, dtype, 1)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// ids returns n ids, not all alike.
func someIDs(n int) []int {
	ids := make([]int, n)
	for i := range ids {
		ids[i] = (i*i*7 + i/3) % 300
	}
	return ids
}

// Models of all kinds are quantized, saved and opened again, with the same logits.
func TestQuantize(t *testing.T) {
	dir := t.TempDir()
	for _, kind := range []Kind{Causal, RWKV4, RWKV5, RWKV6, RWKV7} {
		m := smallModel(t, kind, tensor.BF16)
		for _, format := range tensor.Quantized() {
			q, err := Quantize(m, format)
			if err != nil {
				t.Fatal(err)
			}
			c, err := q.Compare(m, someIDs(60))
			if err != nil {
				t.Fatal(err)
			}
			if limit := map[bool]float64{true: 1e-3, false: 0.3}[format == tensor.Q8_0]; !(c.KL > 0 && c.KL < limit) {
				t.Errorf("%s, %v: KL %g", kind, format, c.KL)
			}
			for _, ext := range []string{".safetensors", ".gguf"} {
				path := filepath.Join(dir, "a"+ext)
				err := q.Save(path)
				if ext == ".gguf" && kind != RWKV6 && kind != RWKV7 {
					if err == nil || !strings.Contains(err.Error(), string(kind)) {
						t.Errorf("%s as GGUF: %v", kind, err)
					}
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				r, err := Open(path, AsKind(kind), Activations(Float32)) // as Quantize's
				if err != nil {
					t.Fatal(err)
				}
				again, err := r.Compare(q, someIDs(60))
				if err != nil || again.KL > 1e-12 || again.Top1 != 1 {
					t.Errorf("%s, %v, %s: KL %g after it was saved, %v", kind, format, ext, again.KL, err)
				}
				if _, err := Quantize(r, format); err == nil || !strings.Contains(err.Error(), "quantized already") {
					t.Errorf("quantized twice: %v", err)
				}
				r.Close()
			}
		}
	}
}

// Compensated rounding makes the error smaller on what it was calibrated with.
func TestCalibrate(t *testing.T) {
	m := smallModel(t, RWKV7, tensor.F32)
	ids := someIDs(1024)
	plain, err := Quantize(m, tensor.Q4_1)
	if err != nil {
		t.Fatal(err)
	}
	var last, total int64
	better, err := Quantize(m, tensor.Q4_1, Calibrate(ids), QuantizeProgress(func(done, all int64) { last, total = done, all }))
	if err != nil {
		t.Fatal(err)
	}
	if last != total || int(total) != m.NumParameters() {
		t.Errorf("progress ended at %d of %d", last, total)
	}
	a, _ := plain.Compare(m, ids)
	b, _ := better.Compare(m, ids)
	if !(b.KL < 0.8*a.KL) {
		t.Errorf("KL %g, compensated %g", a.KL, b.KL)
	}
	if _, err := Quantize(m, tensor.Q4_1, Calibrate(ids[:100])); err == nil || !strings.Contains(err.Error(), "100 tokens") {
		t.Errorf("a calibration of 100 tokens: %v", err)
	}
	if _, err := Quantize(m, tensor.BF16); err == nil || !strings.Contains(err.Error(), "want one of") {
		t.Errorf("quantize to bf16: %v", err)
	}
}

// Compare of known distributions.
func TestDivergence(t *testing.T) {
	log := func(p ...float64) (x []float32) {
		for _, v := range p {
			x = append(x, float32(math.Log(v)+3))
		}
		return x
	}
	kl, same := divergence(log(0.5, 0.25, 0.25), log(0.25, 0.5, 0.25))
	if want := 0.25 * math.Log(2); math.Abs(kl-want) > 1e-6 || same {
		t.Errorf("KL %g, want %g; the same token %v", kl, want, same)
	}
	if kl, same := divergence(log(0.5, 0.5), log(0.5, 0.5)); kl != 0 || !same {
		t.Errorf("KL %g of a distribution to itself", kl)
	}
}

// A model from a GGUF file, saved with the official names and as GGUF again, has the same logits. What was
// stored halved is doubled for files that don't know of it.
func TestSaveGGUF(t *testing.T) {
	for _, name := range []string{"rwkv7-q8_0", "rwkv6-q8_0", "rwkv6-q5_1-unfused"} {
		m, err := Open(ggufData + name + ".gguf")
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		for _, ext := range []string{".gguf", ".safetensors", ".pth"} {
			path := filepath.Join(t.TempDir(), "a"+ext)
			var opts []checkpoint.WriteOption
			if ext == ".pth" {
				if err := m.Save(path); err == nil {
					t.Errorf("%s: quantized weights were saved for PyTorch", name)
				}
				opts = append(opts, checkpoint.As(tensor.F32))
			}
			if err := m.Save(path, opts...); err != nil {
				t.Fatal(err)
			}
			r, err := Open(path)
			if err != nil {
				t.Fatal(err)
			}
			c, err := r.Compare(m, someIDs(60))
			if err != nil || c.KL > 1e-7 {
				t.Errorf("%s as %s: KL %g, %v", name, ext, c.KL, err)
			}
			if ext == ".gguf" {
				a, _ := m.Tokenizer()
				b, err := r.Tokenizer()
				if err != nil || a.VocabSize() != b.VocabSize() {
					t.Fatal(err)
				}
				for id := range a.VocabSize() {
					if !bytes.Equal(a.AppendToken(nil, id), b.AppendToken(nil, id)) {
						t.Errorf("token %d is %q, was %q", id, b.Decode([]int{id}), a.Decode([]int{id}))
					}
				}
			}
			r.Close()
		}
	}
}
