package checkpoint

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"microrwkv/tensor"
)

// Tensors that are made when they are written give the same file as those that are there, one at a time
// and in the file's order.
func TestWriteDeferred(t *testing.T) {
	x := tensor.New(3, 64)
	for i := range x.Data() {
		x.Data()[i] = float32(i%17) - 8
	}
	dir := t.TempDir()
	want := []Named{{"a", x.Weight().Convert(Q8_0)}, {"b", x.Weight().Convert(F16)}, {"c", x.Weight()}}
	values := map[string]any{"k": 7}
	for _, ext := range []string{".gguf", ".safetensors", ".pt"} {
		if ext == ".pt" {
			want = want[1:]
		}
		var order []string
		deferred := func(name string, w *tensor.Weight) func() (*tensor.Weight, error) {
			return func() (*tensor.Weight, error) {
				order = append(order, name)
				return w, nil
			}
		}
		list := []Deferred{{"a", Q8_0, []int{3, 64}, deferred("a", x.Weight().Convert(Q8_0))}, {"b", F16, []int{3, 64}, deferred("b", x.Weight())}, {"c", F32, []int{3, 64}, deferred("c", x.Weight())}}
		if ext == ".pt" {
			list = list[1:]
		}
		one, two := filepath.Join(dir, "one"+ext), filepath.Join(dir, "two"+ext)
		var done, total int64
		if err := WriteDeferred(one, list, values, OnProgress(func(d, n int64) { done, total = d, n })); err != nil {
			t.Fatal(err)
		}
		if err := Write(two, want, values); err != nil {
			t.Fatal(err)
		}
		a, _ := os.ReadFile(one)
		b, _ := os.ReadFile(two)
		if !bytes.Equal(a, b) || len(a) == 0 || done != total || total == 0 {
			t.Errorf("%s: %d bytes, want %d; %d of %d done", ext, len(a), len(b), done, total)
		}
		if ext == ".gguf" && !slices.Equal(order, []string{"a", "b", "c"}) {
			t.Errorf("made in the order %v", order)
		}
	}
	failing := errors.New("no such luck")
	for want, d := range map[string]Deferred{
		"no such luck": {"a", F32, []int{3, 64}, func() (*tensor.Weight, error) { return nil, failing }},
		`"a"`:          {"a", F32, []int{3, 32}, func() (*tensor.Weight, error) { return x.Weight(), nil }},
		"want q8_0":    {"a", Q8_0, []int{3, 64}, func() (*tensor.Weight, error) { return x.Weight(), nil }},
		"too large":    {"a", F16, []int{1}, func() (*tensor.Weight, error) { return tensor.FromSlice([]float32{1e6}, 1).Weight(), nil }},
		"format from":  {},
	} {
		path := filepath.Join(dir, "bad.gguf")
		if want == "format from" {
			path = filepath.Join(dir, "bad.txt")
		}
		err := WriteDeferred(path, []Deferred{d}, nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s: half a file stays", want)
		}
	}
	if got := Converted(As(F16), OnProgress(nil), As(BF16)); got != BF16 || Converted() != 0 || Converted(As(F16), As(0)) != 0 {
		t.Errorf("Converted: %v", got)
	}
}
