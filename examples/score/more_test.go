package main

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"microrwkv/examples/internal/clitest"
	"microrwkv/rwkv"
	"microrwkv/tensor"
)

// TestLineEnds scores a text with the ends of lines of Windows as the same text.
func TestLineEnds(t *testing.T) {
	dir := t.TempDir()
	loss := func(text string, args ...string) float64 {
		t.Helper()
		path := filepath.Join(dir, "text")
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		var r result
		if err := json.Unmarshal([]byte(clitest.Succeed(t, append(args, "--text", path)...)), &r); err != nil {
			t.Fatal(err)
		}
		return *r.Loss
	}
	unix := loss("One day, a boy\nwent to the park.\n")
	if windows := loss("One day, a boy\r\nwent to the park.\r\n"); windows != unix {
		t.Errorf("loss %g with \\r\\n, %g without", windows, unix)
	}
	if binary := loss("One day, a boy\r\nwent to the park.\r\n", "--binary"); binary <= unix {
		t.Errorf("loss %g of the bytes as they are, %g of the text", binary, unix)
	}
}

// TestHidden prints the row that the library gives.
func TestHidden(t *testing.T) {
	const path = "../../rwkv/testdata/golden/rwkv7/base.pth"
	var r result
	if err := json.Unmarshal([]byte(clitest.Succeed(t, "--model", path, "--tokens", "3,1,4", "--hidden")), &r); err != nil {
		t.Fatal(err)
	}
	m, err := rwkv.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if want, err := m.Hidden([]int{3, 1, 4}); err != nil || !slices.Equal(r.Hidden, want) {
		t.Errorf("%v, want %v, %v", r.Hidden, want, err)
	}
}

// TestNotFinite names logits that are no numbers, and TestOutput never writes over the model.
func TestNotFinite(t *testing.T) {
	m, err := rwkv.Random(rwkv.Config{Kind: rwkv.X051a, BlockSize: 8, VocabSize: 5, NumLayers: 1, NumHeads: 1, EmbedDim: 4}, tensor.F32, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range m.Tensors() {
		if x.Name == "transformer.wte.weight" {
			x.Tensor.Float32().Data()[4] = float32(math.NaN())
		}
	}
	path := filepath.Join(t.TempDir(), "m.pt")
	if err := m.Save(path); err != nil {
		t.Fatal(err)
	}
	clitest.Refuse(t, 1, []string{"logit", "NaN"}, "--model", path, "--tokens", "1,2", "--skip_checks")
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	clitest.Refuse(t, 1, []string{"--all_logits", path}, "--model", path, "--tokens", "1,2", "--skip_checks", "--all_logits", path)
	if after, err := os.ReadFile(path); err != nil || !slices.Equal(before, after) {
		t.Error("the model has changed", err)
	}
}

// A quantized file beside what it was made of.
func TestAgainst(t *testing.T) {
	m, err := rwkv.Open(golden + "rwkv7/bf16.pth")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	q, err := rwkv.Quantize(m, tensor.Q8_0)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "q.gguf")
	if err := q.Save(path); err != nil {
		t.Fatal(err)
	}
	r := score(t, "--model", path, "--tokens", "1,2,3,4,5,6", "--against", golden+"rwkv7/bf16.pth")
	if r.Against == nil || !(r.Against.KL > 0 && r.Against.KL < 1e-3) || r.Against.Positions != 5 {
		t.Errorf("%+v", r.Against)
	}
	if a := r.Against; !(a.TokensPerSecond > 0 && a.OtherTokensPerSecond > 0 && a.Bytes > 0 && a.Bytes < a.OtherBytes) {
		t.Errorf("sizes and speeds: %+v", a)
	}
	if same := score(t, "--model", path, "--tokens", "1,2,3", "--against", path); same.Against.KL != 0 || same.Against.Top1 != 1 || same.Against.DLoss != 0 {
		t.Errorf("a model beside itself: %+v", same.Against)
	}
}

// Activations are float32 beside Q8_0, and 8 bits beside Q4_K unless f32 is asked for.
func TestActivations(t *testing.T) {
	last := func(name string, more ...string) []float32 {
		return score(t, append([]string{"--model", golden + "gguf/" + name, "--tokens", "1,2,3"}, more...)...).LastLogits
	}
	if !slices.Equal(last("rwkv7-q8_0.gguf"), last("rwkv7-q8_0.gguf", "--activations", "f32")) {
		t.Error("q8_0: auto isn't f32")
	}
	q4 := "rwkv6-q4_k.gguf"
	rounded := last(q4, "--activations", "q8")
	if !slices.Equal(last(q4), rounded) {
		t.Error("q4_k: auto isn't q8")
	}
	if slices.Equal(last(q4, "--activations", "f32"), rounded) {
		t.Error("q4_k: f32 is q8")
	}
	clitest.Refuse(t, 1, []string{"--activations", "q4"}, "--model", golden+"gguf/"+q4, "--tokens", "1,2,3", "--activations", "q4")
}
