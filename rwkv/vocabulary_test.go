package rwkv

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"microrwkv/tensor"
	_ "microrwkv/tokenizer/bpe"
	_ "microrwkv/tokenizer/gpt2"
	_ "microrwkv/tokenizer/neox"
	_ "microrwkv/tokenizer/world"
)

// A model gets the tokenizer that its number of ids fits, or an error that tells why there is none.
func TestModelTokenizer(t *testing.T) {
	meta, err := os.ReadFile("../tokenizer/testdata/meta_p4.pkl")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		kind Kind
		ids  int
		meta bool
		want string // of the tokenizer's ids, or the error
	}{
		{X051a, 50257, false, "50257"},
		{X051a, 50304, true, "50257"},
		{RWKV7, 65536, false, "65530"},
		{X051a, 4146, false, "4146 ids: gpt2 has 50257"},
		{X051a, 50256, false, "50256 ids: gpt2 has 50257"},
		{X051a, 65536, false, "65536 ids: gpt2 has 50257"},
		{RWKV7, 50304, false, "50277"}, // of the Pile
		{RWKV7, 40000, false, "40000 ids: world has 65530, neox has 50277"},
		{X051a, 100, true, "65"},
		{X051a, 10, true, "10 ids: "},
		{RWKV7, 40000, true, "40000 ids: "},
		{X051a, 1025, true, "1025 ids: "},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "m.safetensors")
		made, err := Random(Config{Kind: c.kind, BlockSize: 1, VocabSize: c.ids, NumLayers: 1, NumHeads: 1, EmbedDim: 64}, tensor.BF16, 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := made.Save(path); err != nil {
			t.Fatal(err)
		}
		if c.meta {
			if err := os.WriteFile(filepath.Join(dir, "meta.pkl"), meta, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		m, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		tok, err := m.Tokenizer()
		got := fmt.Sprint(err)
		if err == nil {
			got = fmt.Sprint(tok.VocabSize())
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("%s of %d ids: %s, want %s", c.kind, c.ids, got, c.want)
		}
		m.Close()
	}
}

func TestSave(t *testing.T) {
	m, err := Random(smallConfig(Causal), tensor.BF16, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, ext := range []string{"pt", "pth", "bin", "safetensors"} {
		path := filepath.Join(t.TempDir(), "m."+ext)
		if err := m.Save(path); err != nil {
			t.Fatal(err)
		}
		again, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if fingerprint(t, again) != fingerprint(t, m) {
			t.Errorf("%s: another model", ext)
		}
		again.Close()
	}
	for name, want := range map[string]string{"m.onnx": ".safetensors", "m.gguf": "GGUF has RWKV-6 and 7 alone"} {
		if err := m.Save(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// The tokenizer of a Hugging Face folder, and those of RWKV-4's two vocabularies.
func TestModelTokenizerOfFolder(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "m.safetensors")
	open := func(ids int) string {
		made, err := Random(Config{Kind: RWKV4, VocabSize: ids, NumLayers: 1, EmbedDim: 8}, tensor.BF16, 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := made.Save(path); err != nil {
			t.Fatal(err)
		}
		m, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		tok, err := m.Tokenizer()
		if err != nil {
			return err.Error()
		}
		return fmt.Sprint(tok.VocabSize())
	}
	for ids, want := range map[int]string{50277: "50277", 50304: "50277", 65536: "65530", 448: "neox has 50277, world has 65530"} {
		if got := open(ids); !strings.Contains(got, want) {
			t.Errorf("%d ids: %s, want %s", ids, got, want)
		}
	}
	data, err := os.ReadFile("../tokenizer/bpe/testdata/gpt2.tokenizer.json")
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "tokenizer.json"), data, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	for ids, want := range map[int]string{425: "425", 448: "425", 424: "tokenizer.json has 425", 50277: "50277"} {
		if got := open(ids); !strings.Contains(got, want) {
			t.Errorf("%d ids beside tokenizer.json: %s, want %s", ids, got, want)
		}
	}
}
