package main

import (
	"bytes"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"microrwkv/checkpoint"
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
