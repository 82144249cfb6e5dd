package checkpoint

import (
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"microrwkv/checkpoint/internal/torch"
	"microrwkv/checkpoint/pickle"
)

// TestSpecial lists tensors that have no plain elements, and gives the weights beside them.
func TestSpecial(t *testing.T) {
	for _, file := range []string{"zip_special.pt", "legacy_special.pt"} {
		f, err := Open("testdata/torch/" + file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"a", "b"} {
			if _, err := f.Tensor(name); err != nil {
				t.Error(err)
			}
		}
		if err := f.Verify(nil); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		for _, c := range []struct {
			name  string
			dtype DType
			shape []int
			want  string
		}{
			{"coo", F32, []int{3, 3}, "a sparse tensor"},
			{"csr", F32, []int{3, 3}, "a sparse tensor"},
			{"bsr", F32, []int{4, 4}, "a sparse tensor"},
			{"meta", F32, []int{3, 4}, "meta device"},
			{"quantized", QUint8, []int{4}, "a quantized tensor"},
			{"per_channel", QInt8, []int{2, 4}, "a quantized tensor"},
			{"nested", F32, []int{5}, "a nested tensor"},
			{"conj", Complex64, []int{2}, "conjugated"},
			{"neg", F32, []int{2}, "negated"},
		} {
			info, ok := f.Info(c.name)
			if !ok || info.DType != c.dtype || !slices.Equal(info.Shape, c.shape) {
				t.Errorf("%s: %s is %+v, %v, want %v %v", file, c.name, info, ok, c.dtype, c.shape)
			}
			if info.Storage == "" && info.SameData(info) {
				t.Errorf("%s: %s, without elements, is tied", file, c.name)
			}
			_, err := f.Tensor(c.name)
			for _, err := range []error{err, f.Verify(nil, c.name)} {
				if err == nil || !strings.Contains(err.Error(), c.want) && !strings.Contains(err.Error(), "dtype") || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), c.name) {
					t.Errorf("%s: error %v, want one with %q", c.name, err, c.want)
				}
			}
		}
		err = Convert(filepath.Join(t.TempDir(), "out.pt"), f)
		if err == nil || !strings.Contains(err.Error(), "sparse") {
			t.Errorf("Convert: error %v, want one that names the first of them", err)
		}
		f.Close()
	}
}

// TestElsewhere finds weights that lie where no convention has them.
func TestElsewhere(t *testing.T) {
	f, err := Open("testdata/torch/elsewhere.pt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got := f.Names(); !slices.Equal(got, []string{"net.a", "net.b", "ema.a", "ema.b"}) || f.Bare() {
		t.Errorf("names %v, bare %v", got, f.Bare())
	}
	for _, c := range []struct {
		file string
		key  []string
		want []string
	}{
		{"elsewhere.pt", []string{"ema"}, []string{"a", "b"}},
		{"in_list.pt", []string{"1", "net"}, []string{"a", "b"}},
		{"lists.pt", []string{"model", "layers", "1"}, []string{"w"}},
		{"lists.pt", []string{"model", "pair"}, []string{"0", "1"}},
	} {
		f, err := Open("testdata/torch/"+c.file, Key(c.key...))
		if err != nil {
			t.Error(err)
			continue
		}
		if got := f.Names(); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v has %v, want %v", c.file, c.key, got, c.want)
		}
		f.Close()
	}
	for _, c := range []struct {
		file string
		key  []string
		want string
	}{
		{"in_list.pt", nil, "a list"},
		{"in_list.pt", []string{"0"}, `under "0"`},
		{"in_list.pt", []string{"2"}, `under "2"`},
		{"elsewhere.pt", []string{"epoch"}, `"ema"`},
	} {
		if _, err := Open("testdata/torch/"+c.file, Key(c.key...)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", c.file, err, c.want)
		}
	}
}

// TestTypes keeps types and constants as texts.
func TestTypes(t *testing.T) {
	f, err := Open("testdata/torch/types.pt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for key, want := range map[string]any{
		"complex64": complex(1, 2), "qscheme": "a torch.per_tensor_affine", "int4": "a torch.int4", "float8": "torch.float8_e4m3fn",
	} {
		if got, ok := f.Value(key); !ok || got != want {
			t.Errorf("Value(%q) = %v, %v, want %v", key, got, ok, want)
		}
	}
	if got, ok := f.Value("types", "10"); !ok || got != "a numpy.float32" {
		t.Errorf("a numpy type is %v, %v", got, ok)
	}
	if _, ok := f.Value("types", "11"); ok {
		t.Error("a list has an element after its end")
	}
}

// TestBeside converts what can be written of the values beside the tensors, and leaves out the rest
// alone.
func TestBeside(t *testing.T) {
	f, err := Open("testdata/torch/more_protocol4.pt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out := filepath.Join(t.TempDir(), "out.pt")
	if err := Convert(out, f); err != nil {
		t.Fatal(err)
	}
	g, err := Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	for _, key := range []string{"version", "bigs", "deep", "deque", "default_str", "text", "big_endian", "path"} {
		want, _ := f.Value(key)
		if got, ok := g.Value(key); !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("Value(%q) = %#v, %v, want %#v", key, got, ok, want)
		}
	}
	for _, key := range []string{"array", "generator", "date", "longdouble"} {
		if v, ok := g.Value(key); ok {
			t.Errorf("Value(%q) = %v, want it left out", key, v)
		}
	}
	array := torch.Opaque("numpy.ndarray")
	in := &pickle.Dict{
		Keys:   []any{"lr", "mean", pickle.Tuple{array}, "betas", "means"},
		Values: []any{0.5, array, 1, pickle.Tuple{0.9, &pickle.Dict{Keys: []any{"x"}, Values: []any{array}}}, pickle.List{int64(1), array}},
	}
	want := &pickle.Dict{Keys: []any{"lr", "betas"}, Values: []any{0.5, pickle.Tuple{0.9, &pickle.Dict{}}}}
	if got, ok := portable(in); !ok || !reflect.DeepEqual(got, want) {
		t.Errorf("portable = %v, %v, want %v", got, ok, want)
	}
}
