package main

import (
	"bytes"
	"flag"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"microrwkv/checkpoint"
	"microrwkv/examples/internal/cli"
	"microrwkv/rwkv"
)

// TestConvert goes through all formats and back in bfloat16.
func TestConvert(t *testing.T) {
	dir := t.TempDir()
	st, pt := filepath.Join(dir, "a.safetensors"), filepath.Join(dir, "b.pt")
	const in = "../../checkpoint/testdata/formats/legacy_bf16.pt"
	if err := convert(in, st, "f32", "", false, false); err != nil {
		t.Fatal(err)
	}
	if err := convert(st, pt, "bf16", "", false, false); err != nil {
		t.Fatal(err)
	}
	f, err := checkpoint.Open(in)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	g, err := checkpoint.Open(pt)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	for _, name := range f.Names() {
		x, err := f.Tensor(name)
		if err != nil {
			t.Fatal(err)
		}
		y, err := g.Tensor(name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(x.Bytes(), y.Bytes()) || !slices.Equal(x.Shape(), y.Shape()) {
			t.Errorf("%s differs", name)
		}
	}
	if v, _ := g.Value("model_args", "n_layer"); v != int64(2) {
		t.Errorf("model_args are lost: %v", v)
	}
}

func TestErrors(t *testing.T) {
	const in = "../../checkpoint/testdata/formats/zip_f32.pt"
	for _, c := range []struct{ in, out, dtype, want string }{
		{in, "x.pt", "f8", "--dtype"},
		{in, filepath.Join(t.TempDir(), "x.gguf"), "", ".gguf"},
		{"none.pt", "x.pt", "", "none.pt"},
		{"../../checkpoint/testdata/hostile/nan.pt", "x.pt", "", "transformer.ln_f.weight"},
	} {
		if err := convert(c.in, c.out, c.dtype, "", false, false); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: error %v", c, err)
		}
	}
}

// A folder, and a model that something is merged into, become one file with the official names.
func TestMerge(t *testing.T) {
	const golden = "../../rwkv/testdata/golden/rwkv7x/"
	out := filepath.Join(t.TempDir(), "m.pth")
	open := func(path string, opts ...rwkv.OpenOption) *rwkv.Model {
		m, err := rwkv.Open(path, opts...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { m.Close() })
		return m
	}
	if err := convert(golden+"hfold", out, "", "", false, false); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(open(out).Fingerprint()) != fmt.Sprint(open(golden+"hfold").Fingerprint()) {
		t.Error("a folder becomes another model")
	}

	fs := flag.NewFlagSet("convert", flag.ContinueOnError)
	var companions cli.CompanionFlags
	companions.Register(fs)
	if err := fs.Parse([]string{"--lora", golden + "plain.lora.pth", "--lora_alpha", "32", "--bone", golden + "plain.bone.pth", "--state", golden + "plain.state.pth"}); err != nil {
		t.Fatal(err)
	}
	if err := convertWith(&companions, golden+"plain.pth", out, "", "", false, false); err != nil {
		t.Fatal(err)
	}
	want := open(golden+"plain.pth", rwkv.LoRA(golden+"plain.lora.pth", 32), rwkv.Bone(golden+"plain.bone.pth"), rwkv.InitialState(golden+"plain.state.pth"))
	if fmt.Sprint(open(out).Fingerprint()) != fmt.Sprint(want.Fingerprint()) {
		t.Error("what is merged isn't what is opened with the same files")
	}

	for _, args := range [][]string{{"--lora", "a"}, {"--lora", "a", "--lora", "b", "--lora", "c", "--lora_alpha", "1", "--lora_alpha", "2"}, {"--lora_alpha", "1"}} {
		fs, companions := flag.NewFlagSet("convert", flag.ContinueOnError), cli.CompanionFlags{}
		companions.Register(fs)
		if err := fs.Parse(args); err != nil {
			t.Fatal(err)
		}
		if _, err := companions.Options(); err == nil || !strings.Contains(err.Error(), "lora_alpha") {
			t.Errorf("%v: error %v", args, err)
		}
	}
}

// Models go to GGUF and back: what is official has the same weights again.
func TestGGUF(t *testing.T) {
	dir := t.TempDir()
	there, back := filepath.Join(dir, "a.gguf"), filepath.Join(dir, "b.safetensors")
	const in = "../../rwkv/testdata/golden/rwkv7/base.pth"
	if err := convert(in, there, "", "", false, false); err != nil {
		t.Fatal(err)
	}
	if err := convert(there, back, "", "", false, false); err != nil {
		t.Fatal(err)
	}
	f, err := rwkv.Open(in)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	g, err := rwkv.Open(back)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	weights := map[string][]float32{}
	for _, n := range g.Tensors() {
		weights[n.Name] = n.Tensor.Float32().Data()
	}
	for _, n := range f.Tensors() {
		if strings.HasPrefix(n.Name, "blocks.0.att.v") && n.Name != "blocks.0.att.value.weight" {
			continue // not used, and in GGUF as large as those of a
		}
		if !slices.Equal(weights[n.Name], n.Tensor.Float32().Data()) {
			t.Errorf("%s differs", n.Name)
		}
	}
	half := filepath.Join(dir, "half.gguf")
	if err := convert(in, half, "bf16", "", false, false); err != nil {
		t.Fatal(err)
	}
	h, err := checkpoint.Open(half)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	for name, want := range map[string]checkpoint.DType{"blk.0.time_mix_key.weight": checkpoint.BF16, "blk.0.time_mix_k_k.weight": checkpoint.F32, "blk.0.attn_norm.bias": checkpoint.F32} {
		if info, _ := h.Info(name); info.DType != want {
			t.Errorf("%s is %v, want %v", name, info.DType, want)
		}
	}
}
