package checkpoint

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"microrwkv/tensor"
)

// modelsBusiness are the hostile files whose weights and pickle are sound: what is wrong, the
// values of model_args or a tensor too many, is for the model to find.
var modelsBusiness = map[string]bool{"extra_tensor.pt": true, "bad_args.pt": true, "neg_args.pt": true, "huge_args.pt": true, "args_type.pt": true}

// load does what a model does: take all tensors that it has a place for, verify.
func load(f *File, like *File) error {
	var errs []error
	for _, name := range like.Names() {
		want, _ := like.Shape(name)
		t, err := f.Tensor(name)
		if err == nil && !slices.Equal(t.Shape(), want) {
			err = fmt.Errorf("%s: tensor %q: shape %v, want %v", f.name, name, t.Shape(), want)
		}
		errs = append(errs, err)
	}
	return errors.Join(append(errs, f.Verify(nil))...)
}

// TestHostile opens the files that must be refused: the error names the file and the words, and no
// more memory is taken than the file's size accounts for.
func TestHostile(t *testing.T) {
	like, err := Open("testdata/formats/zip_f32.pt")
	if err != nil {
		t.Fatal(err)
	}
	defer like.Close()
	var cases []struct {
		File  string
		Words []string `json:"error_should_name"`
		Note  string
	}
	readJSON(t, "testdata/hostile/cases.json", &cases)
	for _, c := range cases {
		t.Run(c.File, func(t *testing.T) {
			path := filepath.Join("testdata/hostile", c.File)
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			var got error
			spent := allocated(func() {
				f, err := Open(path)
				if err != nil {
					got = err
					return
				}
				got = load(f, like)
				f.Close()
			})
			if limit := 1<<20 + 16*info.Size(); spent > limit {
				t.Errorf("%d bytes allocated for a file of %d", spent, info.Size())
			}
			if modelsBusiness[c.File] {
				if got != nil {
					t.Errorf("error %v, want none from this package", got)
				}
				return
			}
			if got == nil {
				t.Fatalf("no error: %s", c.Note)
			}
			for _, word := range append(c.Words, c.File) {
				if !strings.Contains(got.Error(), word) {
					t.Errorf("error %q doesn't name %q", got, word)
				}
			}
		})
	}
}

// allocated returns the bytes that f allocates, freed ones included.
func allocated(f func()) int64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return int64(after.TotalAlloc - before.TotalAlloc)
}

// TestTruncated cuts files of every format at every place: an error, and no fault.
func TestTruncated(t *testing.T) {
	for _, file := range []string{"torch/zip_protocol5.pt", "torch/zip64.pt", "torch/legacy_protocol2.pt", "torch/legacy_protocol5.pt", "torch/plain.safetensors"} {
		b, err := os.ReadFile("testdata/" + file)
		if err != nil {
			t.Fatal(err)
		}
		for n := range len(b) {
			f, err := OpenBytes(file, b[:n:n])
			if err == nil {
				err = f.Verify(nil)
			}
			if err == nil {
				t.Errorf("%s: no error when cut to %d of %d bytes", file, n, len(b))
			}
		}
	}
}

// TestFlipped turns over each bit of a file's first and last kilobytes: whatever comes of it, it is
// no panic, and for a zip never other weights than before.
func TestFlipped(t *testing.T) {
	for _, file := range []string{"torch/zip_protocol2.pt", "torch/legacy_protocol2.pt", "torch/plain.safetensors"} {
		b, err := os.ReadFile("testdata/" + file)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string][]byte{}
		f, err := OpenBytes(file, bytes.Clone(b))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range f.Names() {
			x, err := f.tensors[name].Packed()
			if err != nil {
				t.Fatal(err)
			}
			want[name] = x
		}
		for bit := range 8 * len(b) {
			b[bit/8] ^= 1 << (bit % 8)
			if f, err := OpenBytes(file, b); err == nil && f.Verify(nil) == nil && f.format == Zip {
				for _, name := range f.Names() {
					if x, err := f.tensors[name].Packed(); err != nil || !bytes.Equal(x, want[name]) {
						t.Errorf("%s: bit %d turned over changed %s unnoticed", file, bit, name)
					}
				}
			}
			b[bit/8] ^= 1 << (bit % 8)
		}
	}
}

// TestNotCheckpoints names what else a file may be.
func TestNotCheckpoints(t *testing.T) {
	tar := make([]byte, 1024)
	copy(tar[257:], "ustar\x0000")
	for _, c := range []struct{ name, data, want string }{
		{"page", "\n <!DOCTYPE HTML><html>", "HTML"},
		{"another page", "<!-- cached --><html><body>", "HTML"},
		{"pointer", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "LFS"},
		{"long header", "\xff\xff\xff\xff\x00\x00\x00\x00{\"a\":", "safetensors"},
		{"text", "Not Found", "text"},
		{"json", `{"metadata": {}}`, "weight_map"},
		{"another json", `{"error": "not found"}`, "weight_map"},
		{"gzip", "\x1f\x8b\x08\x00", "gzip"},
		{"gguf", "GGUF\x03\x00\x00\x00", "GGUF"},
		{"npy", "\x93NUMPY\x01\x00", "numpy"},
		{"tar", string(tar), "tar"},
		{"lone pickle", "\x80\x02}q\x00.", "pickle"},
		{"binary", "\x00\x01\x02\x03", "not a PyTorch or safetensors"},
		{"empty zip", "PK\x05\x06" + strings.Repeat("\x00", 18), "data.pkl"},
	} {
		_, err := OpenBytes(c.name, []byte(c.data))
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.name) {
			t.Errorf("%s: error %v, want one with %q", c.name, err, c.want)
		}
	}
}

// TestNotFiles opens what can't be a checkpoint by its kind.
func TestNotFiles(t *testing.T) {
	dir := t.TempDir()
	for path, want := range map[string]string{
		dir: "directory", filepath.Join(dir, "none.pt"): "none.pt", os.DevNull: "regular",
	} {
		if runtime.GOOS == "windows" && path == os.DevNull {
			continue
		}
		if _, err := Open(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", path, err, want)
		}
	}
	if os.Getuid() > 0 { // root may read everything
		path := filepath.Join(dir, "secret.pt")
		if err := os.WriteFile(path, []byte("x"), 0); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path); !errors.Is(err, os.ErrPermission) {
			t.Errorf("unreadable: error %v", err)
		}
	}
	link := filepath.Join(dir, "link.pt")
	target, err := filepath.Abs("testdata/torch/small.pt")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, link); err != nil {
		t.Skip(err)
	}
	f, err := Open(link)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	loop := filepath.Join(dir, "loop.pt")
	if err := os.Symlink(loop, loop); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(loop); err == nil {
		t.Error("a link to itself was opened")
	}
}

// TestShrunk cuts a mapped file short, which would end the program with SIGBUS at the next read.
func TestShrunk(t *testing.T) {
	b, err := os.ReadFile("testdata/formats/with_optimizer.pt")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "shrinks.pt")
	if err := os.WriteFile(path, b, 0o666); err != nil {
		t.Fatal(err)
	}
	for _, opts := range [][]Option{nil, {Unmapped()}} {
		f, err := Open(path, opts...)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, 100); err != nil {
			t.Skip(err) // Windows keeps mapped files as they are
		}
		if err := f.Verify(nil); err == nil || !strings.Contains(err.Error(), "shrinks.pt") {
			t.Errorf("Verify: error %v", err)
		}
		f.Close()
		if err := os.WriteFile(path, b, 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

// TestGuard makes an error of a fault, and of nothing else.
func TestGuard(t *testing.T) {
	path := filepath.Join(t.TempDir(), "shrinks.safetensors")
	if err := WriteSafetensors(path, []Named{{"w", tensor.New(1 << 18).Weight()}}, nil); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, err := f.Tensor("w")
	if err != nil {
		t.Fatal(err)
	}
	read := func() error {
		if n := bytes.Count(w.Bytes(), []byte{0}); n != 4<<18 {
			t.Errorf("%d zeros", n)
		}
		return io.ErrUnexpectedEOF
	}
	if err := f.Guard(read); err != io.ErrUnexpectedEOF {
		t.Errorf("error %v, want that of read", err)
	}
	func() {
		defer func() {
			if r := recover(); r != "mine" {
				t.Errorf("a panic of read is %v", r)
			}
		}()
		f.Guard(func() error { panic("mine") })
	}()
	if err := os.Truncate(path, 8192); err != nil {
		t.Skip(err) // Windows keeps mapped files as they are
	}
	if f.sources[0].Data == nil {
		t.Skip("the file isn't mapped here")
	}
	if err := f.Guard(read); !errors.Is(err, ErrFileChanged) || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v, want ErrFileChanged of %s", err, path)
	}
}

// TestShards refuses indexes that lead elsewhere, or to what is not there, and names all of that.
func TestShards(t *testing.T) {
	dir := t.TempDir()
	shard, err := os.ReadFile("testdata/torch/model-00001-of-00002.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	many := `{"weight_map": {`
	for i := range maxShards + 1 {
		many += fmt.Sprintf("\"%d\": \"%d\",", i, i)
	}
	for name, data := range map[string][]byte{
		"s.safetensors": shard, "copy.safetensors": shard, "lfs.safetensors": []byte("version https://git-lfs.github.com/spec/v1\n"),
		"short.safetensors": shard[:len(shard)-1], "index.json": []byte(`{"weight_map": {"a": "index.json"}}`),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	for index, want := range map[string][]string{
		`{"weight_map": {"a": "../../etc/passwd"}}`:                                     {"beside"},
		`{"weight_map": {"a": "/etc/passwd"}}`:                                          {"beside"},
		`{"weight_map": {"a": ".."}}`:                                                   {"beside"},
		`{"weight_map": {"a": ""}}`:                                                     {"beside"},
		`{"weight_map": {"a": "."}}`:                                                    {"directory"},
		`{"weight_map": {"a": "none.safetensors", "b": "no.pt", "c": "s.safetensors"}}`: {"none.safetensors", "no.pt"},
		`{"weight_map": {"a": "s.safetensors", "zz": "s.safetensors"}}`:                 {"zz", "no such tensor"},
		`{"weight_map": {"a": "lfs.safetensors", "b": "short.safetensors"}}`:            {"LFS", "short.safetensors", "cut short"},
		`{"weight_map": {"a": 1}}`:                                                      {"index"},
		`{"weight_map": {"a": "s.safetensors"}`:                                         {"index"},
		`{"weight_map": {}}`:                                                            {"weight_map"},
		`{"metadata": {}, "weight_map": {"a": "model.safetensors.index.json"}}`:         {"model.safetensors.index.json", "an index in an index"},
		`{"weight_map": {"a": "index.json"}}`:                                           {"an index in an index"},
		many + `"x": "x"}}`:                                                             {"1002 files"},
	} {
		path := filepath.Join(dir, "model.safetensors.index.json")
		if err := os.WriteFile(path, []byte(index), 0o666); err != nil {
			t.Fatal(err)
		}
		_, err := Open(path)
		for _, word := range append(want, "model.safetensors.index.json") {
			if err == nil || !strings.Contains(err.Error(), word) {
				t.Errorf("%.100s: error %v, want one with %q", index, err, word)
			}
		}
		if _, err := OpenBytes("embedded.json", []byte(index)); err == nil {
			t.Errorf("%s: an index in memory was followed", index)
		}
	}
	// A tensor that two shards have is the one of the shard that the index names.
	path := filepath.Join(dir, "model.safetensors.index.json")
	if err := os.WriteFile(path, []byte(`{"weight_map": {"a": "s.safetensors", "b": "copy.safetensors"}}`), 0o666); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if a, _ := f.Info("a"); !strings.HasSuffix(a.Storage, "s.safetensors:a") || len(f.Names()) != 2 {
		t.Errorf("%v, and a is %+v", f.Names(), a)
	}
}

// safe makes a safetensors file of a header and n bytes of data.
func safe(header string, n int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), make([]byte, n)...)
}

// TestHostileSafetensors refuses headers that don't fit the data, or that are not what the
// specification says.
func TestHostileSafetensors(t *testing.T) {
	for _, c := range []struct {
		header string
		n      int
		want   string
	}{
		{`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 8, ""},
		{`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 7, "cut short"},
		{`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 9, "9 bytes"},
		{`{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}`, 8, "8 bytes for shape"},
		{`{"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}`, 8, "shape [-2]"},
		{`{"a":{"dtype":"F32","shape":[4611686018427387905,2],"data_offsets":[0,8]}}`, 8, "shape"},
		{`{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}`, 8, "data_offsets"},
		{`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0]}}`, 8, "data_offsets"},
		{`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,18446744073709551615]}}`, 8, "data_offsets"},
		{`{"a":{"dtype":"F4","shape":[2],"data_offsets":[0,8]}}`, 8, "F4"},
		{`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 4, "it begins at"},
		{`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}`, 12, "it begins at"},
		{`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}`, 8, "two entries"},
		{`{"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}}`, 4, `"a"`},
		{`{"a":1}`, 0, `"a"`},
		{`{"a":{"dtype":"F32","data_offsets":[0,4]}}`, 4, "no shape"},
		{`{"a":{"dtype":"F32","shape":null,"data_offsets":[0,4]}}`, 4, "no shape"},
		{"{\"\xff\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "UTF-8"},
		{`{"a":{"dtype":"F4","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}`, 4, `"b": 4 bytes for shape [2]`},
		{`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}`, 4, "header"},
		{`{} x`, 0, "header"},
		{`{"__metadata__":{"a":1}}`, 0, "__metadata__"},
		{`{"a":{"dtype":"U8","shape":[` + strings.Repeat("1,", 100) + `1],"data_offsets":[0,1]}}`, 1, "dimensions"},
		{strings.Repeat(`{"a":`, 100000), 0, "header"},
	} {
		f, err := OpenBytes("x.safetensors", safe(c.header, c.n))
		if c.want == "" {
			if err != nil || f.Verify(nil) != nil {
				t.Errorf("%.80s: %v", c.header, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.80s: error %v, want one with %q", c.header, err, c.want)
		}
	}
}
