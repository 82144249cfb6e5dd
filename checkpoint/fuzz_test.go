package checkpoint

import (
	"archive/zip"
	"bytes"
	"hash/crc32"
	"os"
	"path/filepath"
	"runtime/metrics"
	"strings"
	"testing"

	"microrwkv/checkpoint/internal/store"
	"microrwkv/checkpoint/pickle"
)

// exercise opens a file in memory and does all that can be done with it. What that allocates is
// bounded by the file's size, whatever is in it.
func exercise(t *testing.T, data []byte) {
	t.Helper()
	before := allocatedBytes()
	var texts int
	f, err := OpenBytes("fuzz", data)
	if err != nil {
		texts = len(err.Error())
	} else {
		if err := f.Verify(nil); err != nil {
			texts = len(err.Error()) / maxErrors
		}
		room := 4*len(data) + 1<<20 // of elements that are copied
		for _, name := range f.Names() {
			info, ok := f.Info(name)
			if !ok || len(info.Shape) != len(info.Strides) {
				t.Fatalf("%q: %+v, %v", name, info, ok)
			}
			if f.tensors[name].Check() != nil {
				continue
			}
			if room -= info.Len() * int(store.Size(info.DType)); room < 0 {
				break
			}
			x, err := f.Tensor(name)
			if err == nil && x.Len() != info.Len() {
				t.Fatalf("%q: %v for %+v", name, x, info)
			}
		}
		f.Value()
		f.Close()
	}
	if texts > 4096 {
		t.Errorf("an error text of %d bytes", texts)
	}
	n := int64(len(data))
	if spent, limit := allocatedBytes()-before, 2*pickle.MaxMemory(len(data))+maxNames+256*n; spent > limit {
		t.Errorf("%d bytes allocated for a file of %d, want at most %d", spent, n, limit)
	}
}

func allocatedBytes() int64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return int64(s[0].Value.Uint64())
}

// seeds adds the small files that match, cut to most bytes, to a corpus.
func seeds(f *testing.F, patterns ...string) {
	for _, p := range patterns {
		files, err := filepath.Glob("testdata/" + p)
		if err != nil {
			f.Fatal(err)
		}
		for _, path := range files {
			b, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b[:min(len(b), 8<<10)])
		}
	}
}

// FuzzZip mutates whole archives.
func FuzzZip(f *testing.F) {
	seeds(f, "torch/zip*.pt", "torch/values_protocol*.pt", "torch/[bcnopsu]*.pt", "hostile/n*.pt", "hostile/t*.pt", "hostile/whole_module.pt")
	f.Fuzz(func(t *testing.T, data []byte) {
		exercise(t, data)
	})
}

// FuzzLegacy mutates legacy files.
func FuzzLegacy(f *testing.F) {
	seeds(f, "torch/*legacy*.pt*", "hostile/legacy_truncated0.pt")
	f.Fuzz(func(t *testing.T, data []byte) {
		exercise(t, data)
	})
}

// FuzzSafetensors mutates safetensors headers, and the data after them.
func FuzzSafetensors(f *testing.F) {
	seeds(f, "torch/*.safetensors")
	f.Fuzz(func(t *testing.T, data []byte) {
		exercise(t, data)
	})
}

// FuzzPickle puts pickles into a sound archive, which gets them past its checksum, to mutate what
// torch.save says of tensors.
func FuzzPickle(f *testing.F) {
	files, err := filepath.Glob("testdata/torch/*.p*")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range append(files, "testdata/hostile/os_system.pt", "testdata/hostile/huge_storage.pt") {
		r, err := zip.OpenReader(path)
		if err != nil {
			continue // a legacy file
		}
		for _, e := range r.File {
			if !strings.HasSuffix(e.Name, "/data.pkl") {
				continue
			}
			file, err := e.Open()
			if err != nil {
				f.Fatal(err)
			}
			var b bytes.Buffer
			if _, err := b.ReadFrom(file); err != nil {
				continue // no_crc.pt
			}
			f.Add(b.Bytes())
		}
		r.Close()
	}
	storage := make([]byte, 256)
	f.Fuzz(func(t *testing.T, data []byte) {
		var b bytes.Buffer
		z := zip.NewWriter(&b)
		for i, name := range []string{"data.pkl", "data/0", "data/1", "data/2"} {
			content := [][]byte{data, storage, storage[:60], storage[:28]}[i]
			w, err := z.CreateRaw(&zip.FileHeader{Name: "a/" + name, CRC32: crc32.ChecksumIEEE(content), CompressedSize64: uint64(len(content)), UncompressedSize64: uint64(len(content))})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(content); err != nil {
				t.Fatal(err)
			}
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		exercise(t, b.Bytes())
	})
}
