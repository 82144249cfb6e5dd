package rwkv

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"microrwkv/checkpoint"
	"microrwkv/tensor"
)

// smallConfig returns the smallest config of a kind that has one of everything.
func smallConfig(k Kind) Config {
	c := Config{Kind: k, BlockSize: 9, VocabSize: 13, NumLayers: 2, NumHeads: 2, EmbedDim: 24, Bias: true}
	switch k {
	case Reference, Causal:
		c.NumExperts, c.NumActiveExperts, c.ExpertDim = 3, 2, 7 // S = 8
	case RWKV4, RWKV5, RWKV6, RWKV7:
		c = Config{Kind: k, VocabSize: 13, NumLayers: 2, NumHeads: 2, EmbedDim: 128, FFNDim: 30}
	}
	return c
}

// file is a checkpoint in the making.
type file struct {
	names   []string
	tensors map[string]*tensor.Weight
	values  map[string]any // nil for a bare state_dict
	pt      bool           // written by WritePT: values of any type, but slow
}

// smallFile returns the file of a small random model, and that model.
func smallFile(t testing.TB, k Kind, seed uint64) (*file, *Model) {
	t.Helper()
	m := wildModel(t, smallConfig(k), rand.New(rand.NewPCG(seed, 0)))
	f := &file{tensors: map[string]*tensor.Weight{}}
	for _, w := range m.tensors {
		f.put(w.name, w.Weight)
	}
	return f, m
}

func (f *file) put(name string, w *tensor.Weight) {
	if f.tensors[name] == nil {
		f.names = append(f.names, name)
	}
	f.tensors[name] = w
}

func (f *file) clone() *file {
	return &file{names: slices.Clone(f.names), tensors: maps.Clone(f.tensors), values: f.values, pt: f.pt}
}

func (f *file) remove(name string) {
	f.names = slices.DeleteFunc(slices.Clone(f.names), func(n string) bool { return n == name })
	delete(f.tensors, name)
}

// args gives the file the model_args of a small model.
func (f *file) args(k Kind) map[string]any {
	c := smallConfig(k)
	args := map[string]any{
		"block_size": c.BlockSize, "vocab_size": c.VocabSize, "n_layer": c.NumLayers, "n_head": c.NumHeads,
		"n_embd": c.EmbedDim, "dropout": 0.1, "bias": c.Bias,
	}
	if k != X051a {
		args["num_experts"], args["num_active_experts"], args["expert_dim"], args["dim"] = c.NumExperts, c.NumActiveExperts, c.ExpertDim, c.EmbedDim
	}
	f.values = map[string]any{"model_args": args}
	return args
}

// open writes the file and opens it.
func (f *file) open(t testing.TB, opts ...OpenOption) (*Model, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.pt")
	if !f.pt {
		c, err := checkpoint.OpenBytes(path, f.safetensors(t))
		if err != nil {
			t.Fatal(err)
		}
		return load(c, newOpenOptions(opts))
	}
	var named []checkpoint.Named
	for _, n := range f.names {
		named = append(named, checkpoint.Named{Name: n, Tensor: f.tensors[n]})
	}
	if err := checkpoint.WritePT(path, named, f.values); err != nil {
		t.Fatal(err)
	}
	m, err := Open(path, opts...)
	if err == nil {
		t.Cleanup(func() { m.Close() })
	} else if !strings.Contains(err.Error(), path) {
		t.Errorf("error %q doesn't name the file", err)
	}
	return m, err
}

// safetensors returns the file in that format: the length of a header in JSON, the header, the
// numbers.
func (f *file) safetensors(t testing.TB) []byte {
	t.Helper()
	header := map[string]any{}
	if f.values != nil {
		metadata := map[string]string{}
		for key, v := range f.values {
			text, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			metadata[key] = string(text)
		}
		header["__metadata__"] = metadata
	}
	var data []byte
	for _, n := range f.names {
		w := f.tensors[n]
		from := len(data)
		data = append(data, w.Bytes()...)
		header[n] = map[string]any{"dtype": strings.ToUpper(w.DType().String()), "shape": w.Shape(), "data_offsets": []int{from, len(data)}}
	}
	text, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	return slices.Concat(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text, data)
}

// refused fails unless opening the file gives an error that names all of want.
func (f *file) refused(t testing.TB, want ...string) {
	t.Helper()
	_, err := f.open(t)
	if err == nil {
		t.Errorf("no error, want one that names %q", want)
		return
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q doesn't name %q", err, w)
		}
	}
}

// sameModel fails unless the file opens and computes what m does.
func (f *file) sameModel(t testing.TB, m *Model, opts ...OpenOption) {
	t.Helper()
	got, err := f.open(t, opts...)
	if err != nil {
		t.Error(err)
		return
	}
	a, b := got.config, m.config
	a.Dim, a.ExpertDim, a.Dropout, b.Dim, b.ExpertDim, b.Dropout = 0, 0, 0, 0, 0, 0 // which shapes can't tell
	if a != b {
		t.Errorf("config %+v, want %+v", a, b)
		return
	}
	ids := []int{1, 0, 12, 5, 5, 7}
	x, err := got.Forward(ids)
	if err != nil {
		t.Error(err)
		return
	}
	want, err := m.Forward(ids)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(x.Data(), want.Data()) {
		t.Error("other logits")
	}
}

// Every tensor counts: without it, or in another shape, the error names it; one more is named too.
func TestOpenNamesEveryTensor(t *testing.T) {
	slow(t)
	for _, k := range allKinds {
		for _, bare := range []bool{true, false} {
			if !bare && !limited(k) {
				continue // they have no model_args
			}
			t.Run(fmt.Sprintf("%s/bare=%v", k, bare), func(t *testing.T) {
				whole, m := smallFile(t, k, 3)
				for _, name := range whole.names {
					if strings.HasPrefix(name, "blocks.0.att.v") && len(name) == len("blocks.0.att.v0") {
						continue // not used
					}
					f := whole.clone()
					if !bare {
						f.args(k)
					}
					f.remove(name)
					f.refused(t, name)

					w := whole.tensors[name]
					f.put(name, tensor.New(w.Dim(0), w.Len()/w.Dim(0)+1).Weight())
					if tells := regexp.MustCompile(`wte|emb|fc\.weight|att\.[wavg]1$|time_decay_w1$`); tells.MatchString(name) {
						f.refused(t) // its shape is what others are measured by
					} else {
						f.refused(t, name)
					}
				}
				f := whole.clone()
				f.put("transformer.h.1.tmix.time_maa_w", tensor.New(3).Weight())
				f.refused(t, "transformer.h.1.tmix.time_maa_w", "no place")
				f.remove("transformer.h.1.tmix.time_maa_w")
				if k != Causal {
					f.sameModel(t, m)
				}
			})
		}
	}
}

// Names under any prefixes, without model_args: all sizes come from the shapes.
func TestOpenBareStateDicts(t *testing.T) {
	for _, k := range allKinds {
		for seed, prefix := range []string{"", "_orig_mod.", "module.", "module._orig_mod.", "_orig_mod.module.", "module.module."} {
			t.Run(fmt.Sprintf("%s/%s", k, prefix), func(t *testing.T) {
				plain, m := smallFile(t, k, uint64(seed))
				f := &file{tensors: map[string]*tensor.Weight{}}
				for _, n := range plain.names {
					f.put(prefix+n, plain.tensors[n])
				}
				f.sameModel(t, m, AsKind(k))
			})
		}
	}
	f, _ := smallFile(t, X051a, 1)
	f.put("module.transformer.wpe.weight", f.tensors["transformer.wpe.weight"])
	f.refused(t, "module.transformer.wpe.weight", `"transformer.wpe.weight"`)
}

// The head is the embedding, under one name or both.
func TestOpenTiedHead(t *testing.T) {
	for _, k := range []Kind{Reference, X051a} {
		t.Run(string(k), func(t *testing.T) {
			f, m := smallFile(t, k, 1)
			w := f.tensors[tiedEmbedding]
			f.put(tiedHead, w)
			f.sameModel(t, m)

			copied := tensor.FromSlice(slices.Clone(w.Float32().Data()), w.Shape()...)
			f.put(tiedHead, copied.Weight().Convert(w.DType()))
			f.sameModel(t, m)
			copied.Data()[w.Len()-1] += 1
			f.put(tiedHead, copied.Weight().Convert(w.DType()))
			f.refused(t, tiedHead, tiedEmbedding, "differs")
			f.put(tiedHead, tensor.New(14, 24).Weight())
			f.refused(t, tiedHead, "[14 24]", "[13 24]")

			f.put(tiedHead, w)
			f.remove(tiedEmbedding)
			f.sameModel(t, m)
			f.args(k)
			f.sameModel(t, m)
			f.remove(tiedHead)
			f.refused(t, tiedEmbedding)
		})
	}
}

// model_args that contradict the shapes, or make no sense, are named with both numbers.
func TestOpenModelArgs(t *testing.T) {
	for _, k := range []Kind{Reference, X051a} {
		t.Run(string(k), func(t *testing.T) {
			f, m := smallFile(t, k, 2)
			f.args(k)
			f.sameModel(t, m)
			f.pt = true
			f.args(k)["expert_dim"] = 50 // S is 8 all the same
			f.sameModel(t, m)
			delete(f.args(k), "bias")
			f.sameModel(t, m)
			for name, v := range f.args(k) {
				n, ok := v.(int)
				if !ok || name == "expert_dim" || name == "dim" {
					continue
				}
				f.pt = name == "n_layer" // the others in JSON, which is faster
				f.args(k)[name] = n + 1
				f.refused(t, "model_args", name, fmt.Sprint(n), fmt.Sprint(n+1))
				f.args(k)[name] = float64(n) // a number is a number
				f.sameModel(t, m)
				for _, bad := range []any{0, -1, float64(1 << 40), 1.5, "4", true, []any{1}} {
					f.args(k)[name] = bad
					f.refused(t, "model_args", name)
				}
			}
			f.pt = true
			f.args(k)["dropout"] = "none"
			f.refused(t, "model_args", "dropout")
			f.args(k)["bias"] = 1
			f.refused(t, "model_args", "bias")
			f.args(k)["bias"] = false
			f.refused(t, "transformer.ln_f.bias", "transformer.h.1.tmix.key.bias", "no place")
			f.args(k)
			f.values["model_args"] = 5
			f.refused(t, "model_args")
		})
	}
}

// variant tells the kinds of MicroRWKV apart, and the caller's word counts more.
func TestOpenVariant(t *testing.T) {
	for _, c := range []struct {
		variant any
		opts    []OpenOption
		want    Kind // "" for an error
	}{
		{nil, nil, Reference},
		{"reference", nil, Reference},
		{"causal", nil, Causal},
		{"causal", []OpenOption{AsKind(Reference)}, Reference},
		{"reference", []OpenOption{AsKind(Causal)}, Causal},
		{"causal", []OpenOption{AsKind(X051a)}, ""},
		{"Causal", nil, ""},
		{"x051a", nil, ""},
		{7, nil, ""},
	} {
		f, m := smallFile(t, Reference, 2)
		if c.want == Causal {
			f, m = smallFile(t, Causal, 2)
		}
		f.pt = true
		f.args(Reference)
		f.values["variant"] = c.variant
		if c.want != "" {
			f.sameModel(t, m, c.opts...)
		} else if _, err := f.open(t, c.opts...); err == nil {
			t.Errorf("variant %v: no error", c.variant)
		} else if name, ok := c.variant.(string); ok && len(c.opts) == 0 && !strings.Contains(err.Error(), name) {
			t.Errorf("variant %v: error %q doesn't name it", c.variant, err)
		}
	}
	f, m := smallFile(t, X051a, 2)
	f.args(X051a)
	f.sameModel(t, m)
}

// Names and numbers that promise a lot allocate nothing.
func TestOpenRefusesManyLayers(t *testing.T) {
	for _, name := range []string{"transformer.h.16000000.tmix.time_decay", "transformer.h.0.moe.experts.16000000.weight", "transformer.h.99999999999999999999.tmix.time_decay"} {
		f, _ := smallFile(t, Reference, 1)
		f.put(name, tensor.New(2, 1).Weight())
		f.refused(t, name)
	}
	f, _ := smallFile(t, Reference, 1)
	for _, n := range slices.Clone(f.names) {
		if strings.Contains(n, ".moe.") {
			f.remove(n)
		}
	}
	args := f.args(Reference)
	args["num_experts"], args["num_active_experts"] = 1<<24, 1<<24
	f.refused(t, "transformer.h.0.moe.gate.weight", "transformer.h.0.moe.fc.weight", "transformer.h.0.moe.experts.0.weight")
}

// Weights of any precision are those of the file, and can be converted.
func TestOpenConverts(t *testing.T) {
	for _, k := range allKinds {
		for _, dtype := range []tensor.DType{tensor.F32, tensor.BF16, tensor.F16} {
			f, m := smallFile(t, k, 3)
			got, err := f.open(t, AsKind(k), WeightsAs(dtype))
			if err != nil {
				t.Fatal(err)
			}
			for i, w := range m.tensors {
				want := w.Weight
				if len(want.Shape()) == 2 {
					want = want.Convert(dtype)
				}
				if !slices.Equal(got.tensors[i].Float32().Data(), want.Float32().Data()) {
					t.Errorf("%s as %v: %s differs", k, dtype, w.name)
				}
			}
		}
	}
	f, _ := smallFile(t, X051a, 1)
	f.remove("transformer.wpe.weight")
	if _, err := f.open(t); !errors.Is(err, checkpoint.ErrNotFound) {
		t.Errorf("error %v isn't ErrNotFound", err)
	}
}

// A file with several faults: all of them are in the error, whether names, shapes or numbers.
func TestOpenTellsAllAtOnce(t *testing.T) {
	f, _ := smallFile(t, Causal, 5)
	f.values = map[string]any{"variant": "causal"}
	f.pt = true
	const nan, wrong, gone = "transformer.h.1.cmix.key.weight", "transformer.h.0.tmix.key.weight", "transformer.h.1.tmix.ln_x.bias"
	w := tensor.New(f.tensors[nan].Shape()...)
	w.Data()[3] = float32(math.NaN())
	f.put(nan, w.Weight())
	f.put(wrong, tensor.New(3, 5).Weight())
	f.remove(gone)
	f.refused(t, nan, "NaN", wrong, "[3 5]", "[24 24]", gone, "no such tensor")
}

func TestOpenKey(t *testing.T) {
	f, m := smallFile(t, X051a, 6)
	f.args(X051a)
	f.pt = true
	f.sameModel(t, m, Key("model"))
	if _, err := f.open(t, Key("ema")); err == nil || !strings.Contains(err.Error(), `"ema"`) {
		t.Errorf("key of no dict: error %v", err)
	}
}
