package rwkv

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"microrwkv/checkpoint"
	"microrwkv/tensor"
)

// Architectures that have RWKV's time mix in another model, and what else isn't read, are refused by name.
func TestGGUFRefused(t *testing.T) {
	w := []checkpoint.Named{{Name: "token_embd.weight", Tensor: tensor.New(64, 64).Weight()}}
	path := filepath.Join(t.TempDir(), "a.gguf")
	for _, c := range []struct {
		values map[string]any
		want   []string
	}{
		{map[string]any{"general.architecture": "arwkv7"}, []string{`"arwkv7"`, "ARWKV", "Qwen2"}},
		{map[string]any{"general.architecture": "rwkv6qwen2"}, []string{`"rwkv6qwen2"`, "QRWKV", "Qwen2"}},
		{map[string]any{"general.architecture": "llama"}, []string{`"llama"`, "want rwkv6 or rwkv7"}},
		{map[string]any{"general.architecture": 7}, []string{"general.architecture is 7", "want a string"}},
		{map[string]any{"general.name": "a"}, []string{"no general.architecture"}},
		{map[string]any{"general.architecture": "rwkv7", "split.count": 3, "split.no": 0}, []string{"split.count is 3", "--merge"}},
		{map[string]any{"general.architecture": "rwkv7"}, []string{"no rwkv7.block_count", "no rwkv7.embedding_length", "no rwkv7.wkv.head_size"}},
	} {
		if err := checkpoint.WriteGGUF(path, w, c.values); err != nil {
			t.Fatal(err)
		}
		m, err := Open(path)
		if err == nil {
			m.Close()
			t.Errorf("%v: opened", c.values)
			continue
		}
		for _, word := range append(c.want, path) {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%v: error %q doesn't name %q", c.values, err, word)
			}
		}
	}
}

// As converts the matrices of a .gguf and leaves in float32 what llama.cpp wants so; block 0 of RWKV-7 has
// tensors of v that are as large as those of a, whatever the model had there.
func TestGGUFAs(t *testing.T) {
	for _, c := range []struct {
		kind       Kind
		mayConvert []string // ends of names
	}{
		{RWKV7, []string{"token_embd.weight", "output.weight", "_receptance.weight", "_key.weight", "_value.weight", "_output.weight", "_a1.weight", "_a2.weight", "_v1.weight", "_v2.weight", "_g1.weight", "_g2.weight"}},
		{RWKV6, []string{"token_embd.weight", "output.weight", "_receptance.weight", "_key.weight", "_value.weight", "_output.weight", "_gate.weight"}},
	} {
		m := smallModel(t, c.kind, tensor.F32)
		if c.kind == RWKV7 { // an official file, which has tensors of v in block 0 too, of v's own rank
			var err error
			if m, err = Open("testdata/golden/rwkv7/base.pth"); err != nil {
				t.Fatal(err)
			}
			defer m.Close()
		}
		for _, d := range []tensor.DType{tensor.F16, tensor.BF16, tensor.F32} {
			path := filepath.Join(t.TempDir(), "a.gguf")
			if err := m.Save(path, checkpoint.As(d)); err != nil {
				t.Fatal(err)
			}
			f, err := checkpoint.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range f.Names() {
				info, _ := f.Info(name)
				want := tensor.F32
				if slices.ContainsFunc(c.mayConvert, func(end string) bool { return strings.HasSuffix(name, end) }) {
					want = d
				}
				if info.DType != checkpoint.DType(want) {
					t.Errorf("%s as %v: %s is %v", c.kind, d, name, info.DType)
				}
			}
			if c.kind == RWKV7 {
				a, _ := f.Info("blk.0.time_mix_a1.weight")
				v, _ := f.Info("blk.0.time_mix_v1.weight")
				if !slices.Equal(a.Shape, v.Shape) {
					t.Errorf("block 0: a1 is %v, v1 %v", a.Shape, v.Shape)
				}
			}
			f.Close()
			r, err := Open(path)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := r.Compare(m, make([]int, 20)); err != nil || !(got.KL < map[tensor.DType]float64{tensor.F32: 1e-9, tensor.F16: 1e-4, tensor.BF16: 1e-2}[d]) {
				t.Errorf("%s as %v: KL %g, %v", c.kind, d, got.KL, err)
			}
			r.Close()
		}
	}
	if err := smallModel(t, RWKV7, tensor.F32).Save(filepath.Join(t.TempDir(), "a.gguf"), checkpoint.As(tensor.Q8_0)); err == nil || !strings.Contains(err.Error(), "rwkv.Quantize") {
		t.Errorf("as q8_0: %v", err)
	}
}

// A vocabulary of byte pairs goes into the file and comes out of it.
func TestGGUFBytePairs(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		name, beside, pattern string
		ids                   int
	}{{"neox", "", "gpt-2", 50304}, {"llama", "llama", "llama-bpe", 448}, {"qwen", "qwen", "", 448}} {
		path := filepath.Join(dir, c.name+".safetensors")
		if c.beside != "" {
			json, err := os.ReadFile("../tokenizer/bpe/testdata/" + c.beside + ".tokenizer.json")
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, "tokenizer.json"), json, 0o666)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		made, err := Random(Config{Kind: RWKV7, VocabSize: c.ids, NumLayers: 1, NumHeads: 1, EmbedDim: 64}, tensor.BF16, 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := made.Save(path); err != nil {
			t.Fatal(err)
		}
		m, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		want, err := m.Tokenizer()
		if err != nil {
			t.Fatal(err)
		}
		for i := range 2 { // the second time the file's own is written again
			out := filepath.Join(t.TempDir(), "a.gguf")
			if err := m.Save(out); err != nil {
				t.Fatal(err)
			}
			if m, err = Open(out); err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			if c.pattern == "" { // two tokens of one spelling, which llama.cpp aborts on
				if model, _ := m.file.Value("tokenizer.ggml.model"); model != "none" {
					t.Errorf("%s: tokenizer %v", c.name, model)
				}
				break
			}
			tok, err := m.Tokenizer()
			if err != nil {
				t.Fatal(err)
			}
			const text = "Once upon a time,  \n\n   there's 1234 Ü e\u0301 <|endoftext|>猫 func(){\t\treturn}\r\n"
			a, _ := want.Encode(text)
			b, err := tok.Encode(text)
			if err != nil || !slices.Equal(a, b) || tok.Decode(b) != want.Decode(a) || tok.EndOfText() != want.EndOfText() || tok.VocabSize() != want.VocabSize() {
				t.Errorf("%s, time %d: ids %v, want %v; the end %d of %d (%v)", c.name, i, b, a, tok.EndOfText(), tok.VocabSize(), err)
			}
			f, err := checkpoint.Open(out)
			if err != nil {
				t.Fatal(err)
			}
			pre, _ := f.Value("tokenizer.ggml.pre")
			list, _ := f.Value("tokenizer.ggml.tokens")
			if tokens, _ := list.([]any); pre != c.pattern || len(tokens) != c.ids {
				t.Errorf("%s: pattern %v, %d tokens", c.name, pre, len(tokens))
			}
			f.Close()
		}
	}
}

// What is wrong with a tokenizer in a file is told by its key.
func TestGGUFTokenizerErrors(t *testing.T) {
	m, err := Random(Config{Kind: RWKV7, VocabSize: 5, NumLayers: 1, NumHeads: 1, EmbedDim: 64}, tensor.BF16, 1)
	if err != nil {
		t.Fatal(err)
	}
	list, err := m.ggufTensors("", 0)
	if err != nil {
		t.Fatal(err)
	}
	good := map[string]any{"model": "gpt2", "pre": "gpt-2", "tokens": []any{"a", "b", "ab", "<x>", "[PAD4]"}, "token_type": []any{1, 1, 1, 3, 5}, "merges": []any{"a b"}, "eos_token_id": 3}
	for _, c := range []struct {
		change map[string]any
		want   string // "" for a tokenizer
	}{
		{nil, ""},
		{map[string]any{"pre": "deepseek-v9"}, `"deepseek-v9" isn't supported`},
		{map[string]any{"tokens": []any{"a", "a", "ab", "<x>", ""}}, `tokens 0 and 1 are both "a"`},
		{map[string]any{"tokens": []any{1, 2}}, "tokens: element 0 is 1"},
		{map[string]any{"tokens": []any{}}, "tokens: 0 tokens for a model of 5 ids"},
		{map[string]any{"tokens": []any{"a", "b", "c", "d", "e", "f"}}, "tokens: 6 tokens for a model of 5 ids"},
		{map[string]any{"merges": []any{"a c"}}, "merge 0"},
		{map[string]any{"merges": []any{true}}, "merges: element 0"},
		{map[string]any{"eos_token_id": 9}, "eos_token_id is 9, want 0 to 4"},
		{map[string]any{"model": "rwkv", "tokens": []any{"<s>", "a", `\`, "c", "d"}}, "token 2"},
	} {
		values := m.ggufValues("a.gguf", list)
		all := maps.Clone(good)
		maps.Copy(all, c.change)
		for key, v := range all {
			values["tokenizer.ggml."+key] = v
		}
		path := filepath.Join(t.TempDir(), "a.gguf")
		if err := checkpoint.WriteDeferred(path, deferredOf(list), values); err != nil {
			t.Fatal(err)
		}
		r, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		tok, err := r.Tokenizer()
		if c.want != "" {
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("%v: error %v, want one with %q", c.change, err, c.want)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if ids, err := tok.Encode("abab<x>"); err != nil || !slices.Equal(ids, []int{2, 2, 3}) {
			t.Errorf("ids %v, %v", ids, err)
		}
	}
}

// Epsilons that aren't the usual ones are saved with the model.
func TestSaveKeepsEps(t *testing.T) {
	for _, kind := range []Kind{RWKV4, RWKV5, RWKV6, RWKV7} {
		c := Config{Kind: kind, VocabSize: 300, NumLayers: 2, NumHeads: 2, EmbedDim: 128, FFNDim: 256, NormEps: 0.25, HeadNormEps: 0.125}
		for _, ext := range []string{".pth", ".safetensors", ".gguf"} {
			if ext == ".gguf" {
				c.HeadNormEps = 0
				if kind != RWKV6 && kind != RWKV7 {
					continue
				}
			}
			m, err := Random(c, tensor.F32, 1)
			if err != nil {
				t.Fatal(err)
			}
			for _, format := range []tensor.DType{tensor.F32, tensor.Q8_0} {
				path := filepath.Join(t.TempDir(), "a"+ext)
				want := m
				if format == tensor.F32 {
					err = m.Save(path)
				} else if ext != ".pth" {
					if want, err = Quantize(m, format); err == nil {
						err = QuantizeTo(path, m, format)
					}
				} else {
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				r, err := Open(path)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := r.Compare(want, someIDs(20)); err != nil || got.KL > 1e-12 || r.config.NormEps != m.config.NormEps || r.config.HeadNormEps != m.config.HeadNormEps {
					t.Errorf("%s, %s, %v: epsilons %g and %g, KL %g, %v", kind, ext, format, r.config.NormEps, r.config.HeadNormEps, got.KL, err)
				}
				r.Close()
			}
		}
	}
	f, _ := smallFile(t, RWKV7, 1)
	f.values = map[string]any{"model_args": map[string]any{"norm_eps": "large"}}
	if _, err := f.open(t); err == nil || !strings.Contains(err.Error(), "norm_eps") {
		t.Errorf("norm_eps of text: %v", err)
	}
	f.values = map[string]any{"model_args": map[string]any{"norm_eps": 7.0}}
	if _, err := f.open(t); err == nil || !strings.Contains(err.Error(), "norm_eps = 7") {
		t.Errorf("norm_eps of 7: %v", err)
	}
}

// QuantizeTo writes what Quantize and Save do, to the byte, and holds one tensor at a time.
func TestQuantizeTo(t *testing.T) {
	dir := t.TempDir()
	rescaled, err := Random(Config{Kind: RWKV6, VocabSize: 300, NumLayers: 3, NumHeads: 2, EmbedDim: 128, FFNDim: 256, RescaleEvery: 1}, tensor.F32, 1)
	if err != nil {
		t.Fatal(err)
	}
	for name, m := range map[string]*Model{"causal": smallModel(t, Causal, tensor.BF16), "rwkv6": smallModel(t, RWKV6, tensor.F32), "rwkv7": smallModel(t, RWKV7, tensor.BF16), "rescaled": rescaled} {
		for _, ext := range []string{".gguf", ".safetensors"} {
			for _, opts := range [][]QuantizeOption{nil, {Calibrate(make([]int, 600))}} {
				q, err := Quantize(m, tensor.Q4_0, opts...)
				if err != nil {
					t.Fatal(err)
				}
				one, two := filepath.Join(dir, "one", "a"+ext), filepath.Join(dir, "two", "a"+ext)
				for _, path := range []string{one, two} {
					if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
						t.Fatal(err)
					}
				}
				err = QuantizeTo(one, m, tensor.Q4_0, opts...)
				err2 := q.Save(two)
				if ext == ".gguf" && name == "causal" {
					if err == nil || err2 == nil || err.Error() != strings.Replace(err2.Error(), two, one, 1) {
						t.Errorf("%v, and %v", err, err2)
					}
					continue
				}
				if err != nil || err2 != nil {
					t.Fatal(err, err2)
				}
				a, _ := os.ReadFile(one)
				b, _ := os.ReadFile(two)
				if !bytes.Equal(a, b) || len(a) == 0 {
					t.Errorf("%s%s: other bytes than Save's", name, ext)
				}
				r, err := Open(one, AsKind(m.config.Kind))
				if err != nil {
					t.Fatal(err)
				}
				if c, err := r.Compare(q, someIDs(60)); err != nil || c.KL > 1e-3 { // whatever activations are rounded to
					t.Errorf("%s%s: KL %g to Quantize's, %v", name, ext, c.KL, err)
				}
				r.Close()
			}
		}
	}
}

// Quantizing to a file takes the memory of a tensor, not of the model.
func TestQuantizeToMemory(t *testing.T) {
	m, err := Random(Config{Kind: RWKV7, VocabSize: 1000, NumLayers: 10, NumHeads: 4, EmbedDim: 256}, tensor.F32, 1)
	if err != nil {
		t.Fatal(err)
	}
	heap := func() int {
		var s runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&s)
		return int(s.HeapAlloc)
	}
	before, most := heap(), 0
	var last, total int64
	err = QuantizeTo(filepath.Join(t.TempDir(), "a.gguf"), m, tensor.Q8_0, QuantizeProgress(func(done, all int64) {
		last, total = done, all
		if done%3 == 0 {
			most = max(most, heap()-before)
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	if last != total || int(total) != m.NumParameters() {
		t.Errorf("progress ended at %d of %d", last, total)
	}
	if whole := m.NumParameters(); most > whole/4 {
		t.Errorf("%d bytes for a file of some %d", most, whole)
	}
	runtime.KeepAlive(m)
	for want, q := range map[string]func() error{
		"quantized already": func() error {
			q, err := Quantize(m, tensor.Q8_0)
			if err != nil {
				return err
			}
			return QuantizeTo("a.gguf", q, tensor.Q8_0)
		},
		"100 tokens":         func() error { return QuantizeTo("a.gguf", m, tensor.Q4_K, Calibrate(make([]int, 100))) },
		"0 tokens":           func() error { return QuantizeTo("a.gguf", m, tensor.Q4_K, Calibrate([]int{})) },
		"token 5000":         func() error { return QuantizeTo("a.gguf", m, tensor.Q4_K, Calibrate(slices.Repeat([]int{5000}, 600))) },
		"want one of":        func() error { return QuantizeTo("a.gguf", m, tensor.F16) },
		"can't tell":         func() error { return QuantizeTo("a.onnx", m, tensor.Q8_0) },
		"have no dtype q8_0": func() error { return QuantizeTo("a.pth", m, tensor.Q8_0) },
	} {
		if err := q(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
		for _, name := range []string{"a.gguf", "a.pth"} {
			if _, err := os.Stat(name); err == nil {
				t.Errorf("%s: %s was written", want, name)
				os.Remove(name)
			}
		}
	}
}
