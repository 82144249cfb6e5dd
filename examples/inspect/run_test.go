package main

import (
	"bytes"
	"encoding/json"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"microrwkv/checkpoint"
	"microrwkv/rwkv"
	"microrwkv/tensor"
)

// write writes a checkpoint of two tensors, one of them under two names.
func write(t *testing.T, values map[string]any) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.pt")
	a, b := tensor.New(2, 3).Weight(), tensor.FromBits(tensor.BF16, []uint16{1, 2}, 2)
	if err := checkpoint.WritePT(path, []checkpoint.Named{{Name: "a", Tensor: a}, {Name: "b", Tensor: b}, {Name: "c", Tensor: a}}, values); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestForeign inspects a model that is none of ours.
func TestForeign(t *testing.T) {
	path := write(t, map[string]any{"model_args": map[string]any{"lr": math.Inf(1), "n": 3}, "iter_num": 7})
	var out bytes.Buffer
	if err := run(path, &settings{json: true}, &out); err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	if r.Kind != "unknown" || r.Problem == "" || r.Parameters != 8 || r.DTypes["f32"] != 2 || r.DTypes["bf16"] != 1 || len(r.Tensors) != 3 {
		t.Errorf("%+v", r)
	}
	if c := r.Tensors[2]; c.Name != "c" || c.Tied != "a" || !slices.Equal(c.Shape, []int{2, 3}) {
		t.Errorf("%+v, want c, tied to a", c)
	}
	if m, ok := r.Config.(map[string]any); !ok || m["lr"] != "+Inf" || m["n"] != 3.0 {
		t.Errorf("config %v", r.Config)
	}
	out.Reset()
	if err := run(path, &settings{}, &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"parameters  8\n", "bf16: 1 tensors", "a  f32  [2 3]\n", "tied to a", "iter_num, model"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
}

// TestOurs inspects models of this project.
func TestOurs(t *testing.T) {
	for path, want := range map[string]rwkv.Kind{
		"../../checkpoint/testdata/formats/zip_f32.pt": rwkv.Reference, "../../checkpoint/testdata/formats/ddp_compiled.pt": rwkv.Reference,
	} {
		var out bytes.Buffer
		if err := run(path, &settings{json: true}, &out); err != nil {
			t.Fatal(err)
		}
		var r report
		if err := json.Unmarshal(out.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		if c, ok := r.Config.(map[string]any); r.Kind != want || !ok || c["n_embd"] != 16.0 || r.Parameters != 13910 || r.Problem != "" {
			t.Errorf("%s: %+v", path, r)
		}
	}
}

// TestDamaged tells what is wrong, unless asked not to look.
func TestDamaged(t *testing.T) {
	const path = "../../checkpoint/testdata/hostile/nan.pt"
	var out bytes.Buffer
	if err := run(path, &settings{}, &out); err == nil || !strings.Contains(err.Error(), "transformer.ln_f.weight") || out.Len() > 0 {
		t.Errorf("error %v, and %q", err, out.String())
	}
	if err := run(path, &settings{skipChecks: true}, &out); err != nil {
		t.Error(err)
	}
}
