package rwkv

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"microrwkv/checkpoint"
	"microrwkv/tensor"
)

const goldenData = "testdata/golden/"

// mustFail fails unless err names all of want.
func mustFail(t *testing.T, what string, err error, want ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: no error, want one that names %q", what, want)
		return
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%s: error %q doesn't name %q", what, err, w)
		}
	}
}

// What looks like a model and isn't is refused by name.
func TestRefusals(t *testing.T) {
	files := 0
	for _, dir := range []string{"rwkv4/", "rwkv7x/"} {
		var cases []struct {
			File, State string
			Name        []string `json:"error_should_name"`
		}
		readJSON(t, goldenData+dir+"refuse.json", &cases)
		for _, c := range cases {
			files++
			var opts []OpenOption
			if c.State != "" {
				opts = append(opts, InitialState(goldenData+dir+c.State))
			}
			_, err := Open(goldenData+dir+c.File, opts...)
			mustFail(t, c.File, err, c.Name...)
		}
	}
	if files == 0 {
		t.Error("no cases")
	}
	for name, what := range map[string]string{
		"blocks.0.att.qq.weight": "4a", "blocks.1.tiny_q.weight": "4b", "blocks.0.ffn.aa.weight": "GLU", "head_q.weight": "head_q",
		"pos_emb_x": "position", "blocks.0.ffnPre.key.weight": "FFN", "blocks.0.att.gate_w1": "6a", "blocks.0.att.time_maa_rkvw_w1": "6b",
		"blocks.0.qkv.q.weight": "7b", "blocks.0.ffn.enn.weight": "8", "blocks.0.att.key.lora_A": "LoRA", "blocks.1.ffn.value.disha": "DiSHA",
	} {
		f, _ := smallFile(t, RWKV6, 1)
		f.put(name, tensor.New(2, 2).Weight())
		f.refused(t, name, what, "want")
	}
}

// A companion that doesn't fit the model is an error that says why.
func TestCompanionErrors(t *testing.T) {
	const model = goldenData + "rwkv7x/plain.pth"
	write := func(tensors map[string]*tensor.Weight) string {
		path := filepath.Join(t.TempDir(), "companion.safetensors")
		var list []checkpoint.Named
		for name, w := range tensors {
			list = append(list, checkpoint.Named{Name: name, Tensor: w})
		}
		if err := checkpoint.Write(path, list, nil); err != nil {
			t.Fatal(err)
		}
		return path
	}
	w := func(shape ...int) *tensor.Weight { return tensor.New(shape...).Weight() }
	for _, c := range []struct {
		name string
		opt  OpenOption
		want []string
	}{
		{"no file", LoRA("none.pth", 1), []string{"none.pth"}},
		{"no alpha", LoRA(goldenData+"rwkv7x/plain.lora.pth", 0), []string{"plain.lora.pth", "alpha = 0"}},
		{"LoRA as Bone", Bone(goldenData + "rwkv7x/plain.lora.pth"), []string{"plain.lora.pth", ".disha"}},
		{"LoRA as state", InitialState(goldenData + "rwkv7x/plain.lora.pth"), []string{"plain.lora.pth", "blocks.0.att.time_state", "lora_A"}},
		{"model as LoRA", LoRA(model, 1), []string{"plain.pth", "not a LoRA"}},
		{"half a LoRA", LoRA(write(map[string]*tensor.Weight{"blocks.0.att.key.lora_A": w(4, 128)}), 1), []string{"blocks.0.att.key.lora_B"}},
		{"other half", LoRA(write(map[string]*tensor.Weight{"blocks.0.att.key.lora_B": w(128, 4)}), 1), []string{"blocks.0.att.key.lora_A"}},
		{"wider LoRA", LoRA(write(map[string]*tensor.Weight{"blocks.0.att.key.lora_A": w(4, 64), "blocks.0.att.key.lora_B": w(128, 4)}), 1), []string{"blocks.0.att.key", "[4 64]", "[128 128]"}},
		{"ranks", LoRA(write(map[string]*tensor.Weight{"blocks.0.att.key.lora_A": w(4, 128), "blocks.0.att.key.lora_B": w(128, 5)}), 1), []string{"[4 128]", "[128 5]"}},
		{"deeper LoRA", LoRA(write(map[string]*tensor.Weight{"blocks.9.att.key.lora_A": w(4, 128), "blocks.9.att.key.lora_B": w(128, 4)}), 1), []string{"blocks.9.att.key"}},
		{"bat", Bone(write(map[string]*tensor.Weight{"blocks.0.att.key.disha": w(2, 4, 128)})), []string{"bat", "[2 4 128]"}},
		{"wide Bone", Bone(write(map[string]*tensor.Weight{"blocks.0.att.key.disha": w(4, 127)})), []string{"[4 127]", "[r 128]"}},
		{"other tensor", Bone(write(map[string]*tensor.Weight{"blocks.0.att.key.disha": w(4, 128), "emb.weight": w(7, 128)})), []string{"emb.weight", "[7 128]"}},
		{"state's shape", InitialState(write(map[string]*tensor.Weight{"blocks.0.att.time_state": w(4, 32, 32), "blocks.1.att.time_state": w(2, 64, 64)})), []string{"[4 32 32]", "[2 64 64]"}},
		{"a block more", InitialState(write(map[string]*tensor.Weight{"blocks.0.att.time_state": w(2, 64, 64), "blocks.1.att.time_state": w(2, 64, 64), "blocks.2.att.time_state": w(2, 64, 64)})), []string{"blocks.2.att.time_state"}},
	} {
		m, err := Open(model, c.opt)
		if err == nil {
			m.Close()
		}
		mustFail(t, c.name, err, c.want...)
	}
	_, err := Open(goldenData+"rwkv4/base.pth", InitialState(goldenData+"rwkv7x/plain.state.pth"))
	mustFail(t, "state for RWKV-4", err, "plain.state.pth", "rwkv4")
}

// Companions merge in their order, and what Save writes is the merged model.
func TestCompanionsMerge(t *testing.T) {
	const dir = goldenData + "rwkv7x/"
	open := func(path string, opts ...OpenOption) *Model {
		m, err := Open(path, opts...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { m.Close() })
		return m
	}
	lora, bone, state := LoRA(dir+"plain.lora.pth", 32), Bone(dir+"plain.bone.pth"), InitialState(dir+"plain.state.pth")
	m := open(dir+"plain.pth", lora, bone, state)
	again := open(dir+"plain.pth", bone, state, lora)
	if fmt.Sprint(m.Fingerprint()) == fmt.Sprint(open(dir+"plain.pth", lora, state).Fingerprint()) || fmt.Sprint(m.Fingerprint()) == fmt.Sprint(open(dir+"plain.pth", lora, bone).Fingerprint()) {
		t.Error("a companion doesn't count")
	}
	ids := []int{1, 2, 3, 4, 5}
	logits := func(m *Model) []float32 {
		l, err := m.LastLogits(ids)
		if err != nil {
			t.Fatal(err)
		}
		return l[0].Data()
	}
	near(t, "the other order", logits(again), logits(m)) // whole tensors are in the LoRA alone
	for _, name := range []string{"m.pth", "m.safetensors"} {
		path := filepath.Join(t.TempDir(), name)
		if err := m.Save(path); err != nil {
			t.Fatal(err)
		}
		saved := open(path)
		if fmt.Sprint(saved.Fingerprint()) != fmt.Sprint(m.Fingerprint()) || !slices.Equal(logits(saved), logits(m)) {
			t.Errorf("%s: another model", name)
		}
	}
	rounded := open(dir+"plain.pth", lora, WeightsAs(tensor.BF16))
	for _, w := range rounded.Tensors() {
		if len(w.Tensor.Shape()) == 2 && w.Tensor.DType() != tensor.BF16 {
			t.Errorf("%s is %v", w.Name, w.Tensor.DType())
		}
	}
}

// Every sequence starts from the tuned state, and after a Reset again.
func TestInitialStateAndReset(t *testing.T) {
	for _, k := range []Kind{RWKV4, RWKV5, RWKV6, RWKV7} {
		c := smallConfig(k)
		c.InitialState = k != RWKV4 // whose running maximum doesn't begin at zero either
		m, err := Random(c, tensor.F32, 3)
		if err != nil {
			t.Fatal(err)
		}
		s := m.NewState()
		want := must(t, s, 1, 2, 3)
		s.Reset()
		if got := must(t, s, 1, 2, 3); !slices.Equal(got, want) {
			t.Errorf("%s: a state isn't what it was after Reset", k)
		}
	}
}

// A tuned state of one sequence has the bits that it has when all begin with it, also saved before the first
// token, and leaves other sequences alone.
func TestTunedState(t *testing.T) {
	for model, state := range map[string]string{"rwkv7x/plain.pth": "rwkv7x/plain.state.pth", "rwkv5/v52.pth": "rwkv5/v52.state.pth"} {
		m, err := Open(goldenData + model)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		all, err := Open(goldenData+model, InitialState(goldenData+state))
		if err != nil {
			t.Fatal(err)
		}
		defer all.Close()
		want, plain := must(t, all.NewState(), 1, 2, 3), must(t, m.NewState(), 1, 2, 3)
		s, err := m.TunedState(goldenData + state)
		if err != nil {
			t.Fatal(err)
		}
		again := m.NewState()
		if err := again.UnmarshalBinary(saved(t, s)); err != nil {
			t.Fatal(err)
		}
		for what, s := range map[string]*State{"tuned": s.Clone(), "saved": again} {
			if got := must(t, s, 1, 2, 3); !slices.Equal(got, want) || slices.Equal(got, plain) {
				t.Errorf("%s, %s: other logits", model, what)
			}
		}
		if got := must(t, m.NewState(), 1, 2, 3); !slices.Equal(got, plain) {
			t.Errorf("%s: the model has changed", model)
		}
		_, err = m.TunedState(goldenData + "rwkv7x/plain.lora.pth")
		mustFail(t, "LoRA as state", err, "plain.lora.pth", "time_state")
	}
	m := small(t)
	_, err := m.TunedState(goldenData + "rwkv7x/short.state.pth")
	mustFail(t, "another model's", err, "short.state.pth", "time_state")
	_, err = m.TunedState("nothing.pth")
	mustFail(t, "no file", err, "nothing.pth")
}

// copyFolder copies a golden model into a folder.
func copyFolder(t *testing.T, name string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(goldenData+name)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Folders with what doesn't fit in them.
func TestFolders(t *testing.T) {
	_, err := Open(t.TempDir())
	mustFail(t, "empty folder", err, "no weights", "model.safetensors")
	dir := copyFolder(t, "rwkv7x/hfold")
	if err := os.Remove(filepath.Join(dir, "model-00002-of-00002.safetensors")); err != nil {
		t.Fatal(err)
	}
	_, err = Open(dir)
	mustFail(t, "a shard missing", err, "model-00002-of-00002.safetensors")
	if err := os.Remove(filepath.Join(dir, "model.safetensors.index.json")); err != nil {
		t.Fatal(err)
	}
	_, err = Open(dir)
	mustFail(t, "half a model", err, "model-00001-of-00002.safetensors", "ln_out.weight")

	dir = copyFolder(t, "rwkv7x/hf")
	if err := os.Rename(filepath.Join(dir, "model.safetensors"), filepath.Join(dir, "any.st")); err != nil {
		t.Fatal(err)
	}
	m, err := Open(dir) // the only file of weights
	if err != nil {
		t.Fatal(err)
	}
	m.Close()
	if err := os.WriteFile(filepath.Join(dir, "b.pth"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = Open(dir)
	mustFail(t, "two files", err, "any.st, b.pth")
}

// The tensors win over a config.json that contradicts them, and a warning says so; what they don't tell
// is taken from it.
func TestFolderConfig(t *testing.T) {
	logits := func(dir string) ([]float32, []string, Config) {
		m, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		l, err := m.LastLogits([]int{1, 2, 3})
		if err != nil {
			t.Fatal(err)
		}
		return l[0].Data(), m.Warnings(), m.Config()
	}
	for _, name := range []string{"rwkv4/hf", "rwkv5/hf", "rwkv6/hf", "rwkv7x/hf"} {
		dir := copyFolder(t, name)
		path := filepath.Join(dir, "config.json")
		want, warnings, _ := logits(dir)
		if len(warnings) > 0 {
			t.Errorf("%s: warnings %q", name, warnings)
		}
		set := func(key string, v any) {
			values := map[string]any{}
			readJSON(t, path, &values)
			values[key] = v
			text, err := json.Marshal(values)
			if err == nil {
				err = os.WriteFile(path, text, 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		keys := []string{"hidden_size", "num_hidden_layers", "vocab_size", "intermediate_size"}
		for _, key := range keys {
			set(key, 77)
		}
		set("model_type", "llama")
		set("num_heads", 77) // wrong in published files
		got, warnings, _ := logits(dir)
		if !slices.Equal(got, want) {
			t.Errorf("%s: a config.json of other sizes changes the model", name)
		}
		for _, key := range append(keys, "model_type") {
			if !slices.ContainsFunc(warnings, func(w string) bool { return strings.Contains(w, key) && strings.Contains(w, "config.json") }) {
				t.Errorf("%s: no warning names %s: %q", name, key, warnings)
			}
		}
		set("layer_norm_epsilon", 0.5)
		set("norm_eps", 0.5)
		got, _, c := logits(dir)
		if slices.Equal(got, want) || c.NormEps != 0.5 {
			t.Errorf("%s: the eps of config.json isn't used: %v", name, c)
		}
		if err := os.WriteFile(path, []byte("{"), 0o644); err != nil {
			t.Fatal(err)
		}
		if got, warnings, _ = logits(dir); !slices.Equal(got, want) || len(warnings) != 1 {
			t.Errorf("%s: a broken config.json: %q", name, warnings)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if got, warnings, _ = logits(dir); !slices.Equal(got, want) || len(warnings) > 0 {
			t.Errorf("%s: without config.json: %q", name, warnings)
		}
	}
}

// A head that is the embedding, as a config.json can say.
func TestFolderTied(t *testing.T) {
	dir := copyFolder(t, "rwkv5/hf")
	path := filepath.Join(dir, "model.safetensors")
	f, err := checkpoint.Open(path, checkpoint.Unmapped())
	if err != nil {
		t.Fatal(err)
	}
	var list []checkpoint.Named
	for _, name := range f.Names() {
		if name != "head.weight" {
			w, err := f.Tensor(name)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, checkpoint.Named{Name: name, Tensor: w})
		}
	}
	if err := checkpoint.Write(path, list, nil); err != nil {
		t.Fatal(err)
	}
	f.Close()
	_, err = Open(dir)
	mustFail(t, "no head", err, "head.weight")
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(`{"model_type":"rwkv5","tie_word_embeddings":true}`), 0o644); err != nil {
		t.Fatal(err)
	}
	m, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if !equal(m.net.head, m.net.emb.Weight) || len(m.Warnings()) > 0 {
		t.Errorf("the head isn't the embedding; warnings %q", m.Warnings())
	}
}

// Every layout is told apart, and its tensors are known by their official names.
func TestLayouts(t *testing.T) {
	for path, want := range map[string][3]string{
		"rwkv7x/hf":             {"Hugging Face (RWKV-7)", "model.layers.0.attn.w_lora.lora.2.bias", "blocks.0.att.w0"},
		"rwkv7x/hfold":          {"Hugging Face (RWKV-7)", "model.layers.1.attn.x_x", "blocks.1.att.x_r (row 0), blocks.1.att.x_w (row 1)"},
		"rwkv7x/st.safetensors": {"web-rwkv (RWKV-7)", "blocks.0.att.g2", "blocks.0.att.g2"},
		"rwkv6/st.safetensors":  {"web-rwkv (RWKV-6)", "blocks.0.att.time_mix_w1", "blocks.0.att.time_maa_w1"},
		"rwkv6/hf":              {"Hugging Face (RWKV-4 to 6)", "rwkv.blocks.1.attention.time_maa_w2", "blocks.1.att.time_maa_w2"},
		"rwkv5/hf":              {"Hugging Face (RWKV-4 to 6)", "rwkv.blocks.1.feed_forward.time_mix_receptance", "blocks.1.ffn.time_mix_r"},
		"rwkv5/v50.pth":         {"official", "blocks.0.att.time_first", "blocks.0.att.time_first"},
		"rwkv7/base.pth":        {"official", "head.weight", "head.weight"},
		"causal/base.pt":        {"", "lm_head.weight", ""},
	} {
		file, err := ModelFile(goldenData + path)
		if err != nil {
			t.Fatal(err)
		}
		f, err := checkpoint.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		l, err := LayoutOf(f)
		if err != nil || l.Name != want[0] || !strings.HasPrefix(l.Official(want[1]), want[2]) {
			t.Errorf("%s: layout %q, %s is %q; error %v", path, l.Name, want[1], l.Official(want[1]), err)
		}
		f.Close()
	}
}

// Models of web-rwkv's layout made of official ones: widths that are square, and RWKV-5, whose decay and
// bonus of a head are widened.
func TestWebLayout(t *testing.T) {
	turn := func(w *tensor.Weight) *tensor.Weight { return storedTensor{row: -1, turned: true}.of(w) }
	for _, k := range []Kind{RWKV5, RWKV6, RWKV7} {
		for seed := range uint64(6) {
			rng := rand.New(rand.NewPCG(seed, 11))
			c := Config{Kind: k, VocabSize: 9, NumLayers: 2, NumHeads: 2, EmbedDim: 2 * (1 + rng.IntN(20)), FFNDim: 11}
			if k == RWKV5 {
				c.Version = [...]string{"5.0", "5.1", "5.2"}[seed%3]
			}
			m, err := Random(c, tensor.F32, seed)
			if err != nil {
				t.Fatal(err)
			}
			f := &file{tensors: map[string]*tensor.Weight{}}
			for _, w := range m.Tensors() {
				name, x := w.Name, w.Tensor
				short := last(name, 1)
				for _, end := range slices.Concat(narrow6, narrow7) {
					if k != RWKV5 && "."+short == end {
						x = turn(x)
					}
				}
				if k == RWKV5 && (short == "time_decay" || short == "time_faaaa") {
					a := c.EmbedDim
					wide := tensor.New(c.NumHeads, a/c.NumHeads)
					(&change{n: a}).apply(wide.Data(), x.Float32().Data())
					x = wide.Weight()
				}
				name = strings.ReplaceAll(name, "time_faaaa", "time_first")
				if k == RWKV6 {
					name = strings.ReplaceAll(name, "time_maa", "time_mix")
				}
				f.put(name, x)
			}
			got, err := f.open(t)
			if err != nil {
				t.Fatal(fmt.Errorf("%s/%d: %w", k, seed, err))
			}
			want, err := m.Forward([]int{1, 2, 3, 4})
			if err != nil {
				t.Fatal(err)
			}
			logits, err := got.Forward([]int{1, 2, 3, 4})
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(logits.Data(), want.Data()) {
				t.Errorf("%s/%d: another model", k, seed)
			}
			got.Close()
		}
	}
}
