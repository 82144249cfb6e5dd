// Package torch opens what torch.save writes, zip archives and legacy files: which classes a pickle
// may name, and what tensors it makes of the archive's records.
package torch

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"path"
	"strings"

	"microrwkv/checkpoint/internal/store"
	"microrwkv/checkpoint/pickle"
)

// archive is a zip file that torch.save wrote, or that a stranger did.
type archive struct {
	src     *store.Source
	prefix  string // of the names of its entries
	entries map[string]*zip.File
	records map[string]*store.Record // by storage key
	summed  bool                     // there are checksums: torch.serialization.set_crc32_options
	swap    bool
}

// IsZip reports whether a file begins like a zip archive.
func IsZip(head []byte, _ int64) bool {
	return bytes.HasPrefix(head, []byte("PK\x03\x04")) || bytes.HasPrefix(head, []byte("PK\x05\x06")) // an empty one
}

// OpenZip decodes the pickle of a zip archive; the storages stay where they are.
// The tensors are among the values of root.
func OpenZip(src *store.Source, opaque bool) (root any, tensors *pickle.Dict, err error) {
	r, err := zip.NewReader(src, src.Size)
	if err != nil {
		return nil, nil, fmt.Errorf("not a whole zip archive, it may be cut short: %w", err)
	}
	a := &archive{src: src, entries: map[string]*zip.File{}, records: map[string]*store.Record{}}
	main := ""
	for _, f := range r.File {
		if _, ok := a.entries[f.Name]; ok {
			return nil, nil, fmt.Errorf("two zip entries %q", store.Clip(f.Name))
		}
		a.entries[f.Name] = f
		if dir, base := path.Split(f.Name); base == "data.pkl" && strings.Count(dir, "/") <= 1 {
			if main != "" {
				return nil, nil, fmt.Errorf("two zip entries %q and %q", store.Clip(main), store.Clip(f.Name))
			}
			main, a.prefix = f.Name, dir
		}
	}
	if a.isTorchScript() {
		return nil, nil, errors.New("a TorchScript archive, not a checkpoint: save the state_dict with torch.save")
	}
	if main == "" {
		return nil, nil, errors.New("a zip archive without data.pkl, not a PyTorch checkpoint")
	}
	a.summed = a.entries[main].CRC32 != 0
	if err := a.byteOrder(); err != nil {
		return nil, nil, err
	}
	data, err := a.read(main)
	if err != nil {
		return nil, nil, err
	}
	root, _, err = decode(data, opaque, a.storage)
	return root, nil, err
}

func (a *archive) isTorchScript() bool {
	if _, ok := a.entries[a.prefix+"constants.pkl"]; ok {
		return true
	}
	for name := range a.entries {
		if _, rest, ok := strings.Cut(name, "/"); ok && strings.HasPrefix(rest, "code/") {
			return true
		}
	}
	return false
}

// byteOrder reads the record that PyTorch writes since 2.1; files without it come from
// little-endian machines, as nearly all do.
func (a *archive) byteOrder() error {
	name := a.prefix + "byteorder"
	if _, ok := a.entries[name]; !ok {
		a.swap = store.BigEndianHost
		return nil
	}
	b, err := a.read(name)
	if err != nil {
		return err
	}
	switch string(b) {
	case "little":
		a.swap = store.BigEndianHost
	case "big":
		a.swap = !store.BigEndianHost
	default:
		return fmt.Errorf("byteorder %q, want little or big", store.Clip(string(b)))
	}
	return nil
}

// locateEntry finds the bytes of an entry.
func locateEntry(src *store.Source, f *zip.File) (off, size int64, err error) {
	if f.Method != zip.Store || f.CompressedSize64 != f.UncompressedSize64 {
		return 0, 0, errors.New("compressed: PyTorch stores its records as they are")
	}
	if f.Flags&1 != 0 {
		return 0, 0, errors.New("encrypted")
	}
	off, err = f.DataOffset()
	if err != nil {
		return 0, 0, fmt.Errorf("its header in the archive is damaged: %w", err)
	}
	// An offset beyond the file's end leaves less than nothing, and a size of 2^63 or more is below 0.
	if size = int64(f.UncompressedSize64); size < 0 || size > src.Size-off {
		return 0, 0, fmt.Errorf("%d bytes at %d in a file of %d", f.UncompressedSize64, off, src.Size)
	}
	return off, size, nil
}

// read returns the bytes of an entry, and checks them.
func (a *archive) read(name string) ([]byte, error) {
	f := a.entries[name]
	off, size, err := locateEntry(a.src, f)
	if err != nil {
		return nil, fmt.Errorf("record %q: %w", store.Clip(name), err)
	}
	b, err := a.src.Bytes(off, size)
	if err != nil {
		return nil, fmt.Errorf("record %q: %w", store.Clip(name), err)
	}
	if a.summed && crc32.ChecksumIEEE(b) != f.CRC32 {
		return nil, fmt.Errorf("record %q: %w", store.Clip(name), store.ErrChecksum)
	}
	return b, nil
}

// storage resolves ("storage", class, key, location, number of elements).
func (a *archive) storage(p *parser, id []any) (any, error) {
	ref, key, err := storageID(id)
	if err != nil {
		return nil, err
	}
	rec := a.records[key]
	if rec == nil {
		rec = a.record(key)
		a.records[key] = rec
	}
	rec.Declared = max(rec.Declared, ref.numel*ref.size())
	ref.rec = rec
	return ref, nil
}

// record returns the record of a storage, which is found when it is needed.
func (a *archive) record(key string) *store.Record {
	rec := &store.Record{Src: a.src, Key: key, Name: a.prefix + "data/" + key, Swap: a.swap, Sum: a.summed}
	f, ok := a.entries[rec.Name]
	if !ok {
		rec.Err = fmt.Errorf("storage %q: no record %q in the archive", store.Clip(key), store.Clip(rec.Name))
		return rec
	}
	rec.CRC = f.CRC32
	rec.Find = func() (off, size int64, err error) { return locateEntry(a.src, f) }
	return rec
}
