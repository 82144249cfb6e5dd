package rwkv

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"microrwkv/checkpoint"
	"microrwkv/tensor"
)

const found = "testdata/found/"

// TestFound opens files of kinds that people have, or says what they are.
func TestFound(t *testing.T) {
	same, err := Open("testdata/golden/microrwkv/mini.pt")
	if err != nil {
		t.Fatal(err)
	}
	defer same.Close()
	for _, c := range []struct {
		file string
		opts []OpenOption
		want string // the words of the error, "" for a model
	}{
		{"class_as_key.ckpt", nil, "EarlyStopping --opaque"},
		{"class_as_key.ckpt", []OpenOption{Opaque()}, ""},
		{"enum_beside.pt", nil, "AttnMaskType nothing run --opaque"},
		{"enum_beside.pt", []OpenOption{Opaque()}, ""},
		{"optimizer_object.pt", nil, "torch.optim.sgd.SGD --opaque"},
		{"optimizer_object.pt", []OpenOption{Opaque()}, ""},
		{"type_beside.pt", nil, ""},
		{"net_key.pt", nil, ""},
		{"net_key.pt", []OpenOption{Key("net")}, ""},
		{"one_extra.pt", nil, "no place"},
		{"module_legacy.pt", nil, "mymod.Net whole pickled module"},
		{"rwkv_lora.pth", nil, "LoRA"},
		{"rwkv_cpp.bin", nil, "rwkv.cpp"},
		{"tuple_keys.pt", nil, "known kind"},
	} {
		m, err := Open(found+c.file, c.opts...)
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", c.file, err)
				continue
			}
			if !slices.Equal(must(t, m.NewState(), 3, 1, 4), must(t, same.NewState(), 3, 1, 4)) {
				t.Errorf("%s: other logits", c.file)
			}
			m.Close()
			continue
		}
		if err == nil {
			t.Errorf("%s opens", c.file)
			m.Close()
			continue
		}
		for _, w := range strings.Fields(c.want) {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q doesn't say %q", c.file, err, w)
			}
		}
	}
}

// TestWrapped finds models whose names begin with a wrapper's, and says which key has one among others.
func TestWrapped(t *testing.T) {
	m, err := Random(smallConfig(RWKV7), tensor.F32, 1)
	if err != nil {
		t.Fatal(err)
	}
	write := func(prefixes ...string) string {
		path := filepath.Join(t.TempDir(), "m.safetensors")
		var list []checkpoint.Named
		for _, p := range prefixes {
			for _, x := range m.Tensors() {
				list = append(list, checkpoint.Named{Name: strings.ReplaceAll(p, "*", x.Name), Tensor: x.Tensor})
			}
		}
		if err := checkpoint.Write(path, list, nil); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, prefix := range []string{"model.*", "net.module.*", "_fsdp_wrapped_module.model._orig_mod.*", "module.*", "*"} {
		got, err := Open(write(prefix))
		if err != nil {
			t.Errorf("%s: %v", prefix, err)
			continue
		}
		if fingerprint(t, got) != fingerprint(t, m) {
			t.Errorf("%s: another model", prefix)
		}
		got.Close()
	}
	_, err = Open(write("model.*", "ema.*"))
	if err == nil || !strings.Contains(err.Error(), "--key model or --key ema") && !strings.Contains(err.Error(), "--key ema or --key model") {
		t.Errorf("two models: %v", err)
	}
}

// TestDescribeTellsWhatOpenWould compares the two over files with one fault each.
func TestDescribeTellsWhatOpenWould(t *testing.T) {
	m, err := Random(smallConfig(RWKV7), tensor.F32, 1)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(list []checkpoint.Named) []checkpoint.Named{
		"whole":   func(list []checkpoint.Named) []checkpoint.Named { return list },
		"missing": func(list []checkpoint.Named) []checkpoint.Named { return slices.Delete(list, 3, 4) },
		"extra": func(list []checkpoint.Named) []checkpoint.Named {
			return append(list, checkpoint.Named{Name: "blocks.0.ffn.more", Tensor: tensor.New(3).Weight()})
		},
		"misshapen": func(list []checkpoint.Named) []checkpoint.Named {
			list[len(list)-1].Tensor = tensor.New(3).Weight()
			return list
		},
	} {
		path := filepath.Join(t.TempDir(), "m.pt")
		if err := checkpoint.Write(path, change(m.Tensors()), nil); err != nil {
			t.Fatal(err)
		}
		f, err := checkpoint.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		c, told := Describe(f)
		opened, err := Open(path)
		if err == nil {
			opened.Close()
		}
		if (name == "whole") != (err == nil) || (err == nil) != (told == nil) || err != nil && err.Error() != told.Error() || c.Kind != RWKV7 {
			t.Errorf("%s: kind %q, described: %v, opened: %v", name, c.Kind, told, err)
		}
	}
}

// TestJoinOnce tells damage once that two checks see.
func TestJoinOnce(t *testing.T) {
	a, b, c := errors.New("a"), errors.New("b"), errors.New("c")
	for _, x := range []struct {
		a, b error
		want string
	}{
		{nil, a, "a"}, {a, nil, "a"}, {a, errors.New("a"), "a"}, {errors.Join(a, b), errors.Join(errors.New("b"), c), "a\nb\nc"},
	} {
		if got := joinOnce(x.a, x.b); got.Error() != x.want {
			t.Errorf("%v and %v: %v", x.a, x.b, got)
		}
	}
	if joinOnce(nil, nil) != nil {
		t.Error("an error of nothing")
	}
}
