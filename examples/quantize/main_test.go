package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"microrwkv/examples/internal/clitest"
	"microrwkv/rwkv"
	"microrwkv/tensor"
)

func TestMain(m *testing.M) { clitest.Main(m, main) }

const golden = "../../rwkv/testdata/golden/"

// A model is quantized to both kinds of files, which open.
func TestQuantize(t *testing.T) {
	dir := t.TempDir()
	const demo = "../../rwkv/demo/tinystories-reference.pt"
	for _, c := range []struct{ model, out, format, says string }{
		{golden + "rwkv7/bf16.pth", "a.gguf", "q8_0", "bf16 → q8_0\n"},
		{golden + "rwkv7/bf16.pth", "b.safetensors", "Q4_0", "bf16 → q4_0\n"},
		{demo, "c.safetensors", "q5_1", "bf16 → q8_0 (embedding and head, rows of 128 aren't whole blocks of 256)\n"},
		{demo, "d.safetensors", "q4_k", "bf16 → q5_0 (rows of 128 aren't whole blocks of 256)\n"},
		{demo, "e.safetensors", "q8_0", "bf16 → bf16 (vectors)\n"},
	} {
		out := filepath.Join(dir, c.out)
		text := clitest.Succeed(t, c.model, out, "--format", c.format, "--verbose")
		if !strings.Contains(text, c.says) || !strings.Contains(text, "everything else stays") || !strings.Contains(text, " MB → ") {
			t.Errorf("%s: %s", c.out, text)
		}
		m, err := rwkv.Open(out)
		if err != nil {
			t.Fatal(err)
		}
		m.Close()
		clitest.Refuse(t, 1, []string{"quantized already"}, out, filepath.Join(dir, "x.gguf"))
	}
}

// With a text to calibrate with, a table at the end compares the models on what is left of it, or on it.
func TestCalibrate(t *testing.T) {
	dir := t.TempDir()
	text, model := filepath.Join(dir, "text.txt"), filepath.Join(dir, "m.pth")
	m, err := rwkv.Random(rwkv.Config{Kind: rwkv.RWKV7, VocabSize: 65, NumLayers: 2, NumHeads: 1, EmbedDim: 64}, tensor.F32, 1)
	if err != nil {
		t.Fatal(err)
	}
	meta, err := os.ReadFile("../../tokenizer/testdata/meta_p4.pkl")
	if err := errors.Join(err, m.Save(model), os.WriteFile(filepath.Join(dir, "meta.pkl"), meta, 0o666), os.WriteFile(text, []byte(strings.Repeat("the cat ", 100)), 0o666)); err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct{ tokens, says string }{{"600", "on 200 tokens of " + text + " after those"}, {"700", "on 700 tokens of " + text + " that it was calibrated with"}} {
		out := filepath.Join(dir, string(rune('a'+i))+".gguf")
		got := clitest.Succeed(t, model, out, "--format", "q4_1", "--calibrate", text, "--calibration_tokens", c.tokens)
		for _, want := range []string{"same top-1", "tokens/s", "original", "q4_1 ", "100%", c.says} {
			if !strings.Contains(got, want) {
				t.Errorf("no %q in %s", want, got)
			}
		}
	}
}

func TestErrors(t *testing.T) {
	dir := t.TempDir()
	short := filepath.Join(dir, "short.txt")
	if err := os.WriteFile(short, []byte("Once upon a time."), 0o666); err != nil {
		t.Fatal(err)
	}
	const model = golden + "rwkv7/bf16.pth"
	clitest.Refuse(t, 1, []string{"--format", "q9"}, model, filepath.Join(dir, "a.gguf"), "--format", "q9")
	clitest.Refuse(t, 1, []string{".gguf or .safetensors"}, model, filepath.Join(dir, "a.pt"))
	clitest.Refuse(t, 1, []string{"reference", "GGUF has RWKV-6 and 7 alone"}, "../../rwkv/demo/tinystories-reference.pt", filepath.Join(dir, "a.gguf"))
	clitest.Refuse(t, 1, []string{"calibration", "512"}, "../../rwkv/demo/tinystories-reference.pt", filepath.Join(dir, "a.safetensors"), "--calibrate", short)
	clitest.Refuse(t, 2, []string{"OUT"}, model)
}
