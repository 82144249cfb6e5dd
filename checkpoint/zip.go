package checkpoint

import (
	"archive/zip"
	"errors"
	"fmt"
	"hash/crc32"
	"path"
	"strings"

	"microrwkv/checkpoint/internal/pickle"
)

// archive is a zip file that torch.save wrote, or that a stranger did.
type archive struct {
	src     *source
	prefix  string // of the names of its entries
	entries map[string]*zip.File
	records map[string]*record // by storage key
	summed  bool               // there are checksums: torch.serialization.set_crc32_options
	swap    bool
}

// openZip decodes the pickle of a zip archive; the storages stay where they are.
func openZip(src *source) (root any, err error) {
	r, err := zip.NewReader(src, src.size)
	if err != nil {
		return nil, fmt.Errorf("not a whole zip archive, it may be cut short: %w", err)
	}
	a := &archive{src: src, entries: map[string]*zip.File{}, records: map[string]*record{}}
	main := ""
	for _, f := range r.File {
		if _, ok := a.entries[f.Name]; ok {
			return nil, fmt.Errorf("two zip entries %q", clip(f.Name))
		}
		a.entries[f.Name] = f
		if dir, base := path.Split(f.Name); base == "data.pkl" && strings.Count(dir, "/") <= 1 {
			if main != "" {
				return nil, fmt.Errorf("two zip entries %q and %q", clip(main), clip(f.Name))
			}
			main, a.prefix = f.Name, dir
		}
	}
	if a.isTorchScript() {
		return nil, errors.New("a TorchScript archive, not a checkpoint: save the state_dict with torch.save")
	}
	if main == "" {
		return nil, errors.New("a zip archive without data.pkl, not a PyTorch checkpoint")
	}
	a.summed = a.entries[main].CRC32 != 0
	if err := a.byteOrder(); err != nil {
		return nil, err
	}
	data, err := a.read(main)
	if err != nil {
		return nil, err
	}
	root, _, err = decode(data, a.storage)
	return root, err
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
		a.swap = bigEndianHost
		return nil
	}
	b, err := a.read(name)
	if err != nil {
		return err
	}
	switch string(b) {
	case "little":
		a.swap = bigEndianHost
	case "big":
		a.swap = !bigEndianHost
	default:
		return fmt.Errorf("byteorder %q, want little or big", clip(string(b)))
	}
	return nil
}

// locateEntry finds the bytes of an entry.
func locateEntry(src *source, f *zip.File) (off, size int64, err error) {
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
	if size = int64(f.UncompressedSize64); size < 0 || off > src.size || size > src.size-off {
		return 0, 0, fmt.Errorf("%d bytes at %d in a file of %d", f.UncompressedSize64, off, src.size)
	}
	return off, size, nil
}

// read returns the bytes of an entry, and checks them.
func (a *archive) read(name string) ([]byte, error) {
	f := a.entries[name]
	off, size, err := locateEntry(a.src, f)
	if err != nil {
		return nil, fmt.Errorf("record %q: %w", clip(name), err)
	}
	b, err := a.src.bytes(off, size)
	if err != nil {
		return nil, fmt.Errorf("record %q: %w", clip(name), err)
	}
	if a.summed && crc32.ChecksumIEEE(b) != f.CRC32 {
		return nil, fmt.Errorf("record %q: %w", clip(name), errChecksum)
	}
	return b, nil
}

var errChecksum = errors.New("damaged: its CRC-32 does not match")

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
	rec.declared = max(rec.declared, ref.numel*ref.size())
	ref.rec = rec
	return ref, nil
}

// record returns the record of a storage, which is found when it is needed.
func (a *archive) record(key string) *record {
	rec := &record{src: a.src, key: key, name: a.prefix + "data/" + key, swap: a.swap, sum: a.summed}
	f, ok := a.entries[rec.name]
	if !ok {
		rec.err = fmt.Errorf("storage %q: no record %q in the archive", clip(key), clip(rec.name))
		return rec
	}
	rec.crc, rec.entry = f.CRC32, f
	return rec
}

// storageID reads a persistent id: what all formats have in common.
func storageID(id []any) (ref *storageRef, key string, err error) {
	bad := errors.New("a persistent id that torch.save does not write")
	if len(id) < 5 || id[0] != any("storage") {
		return nil, "", bad
	}
	class, ok := id[1].(storageType)
	key, ok2 := id[2].(string)
	n, ok3 := pickle.Int(id[4])
	if !ok || !ok2 || !ok3 || len(key) > 256 {
		return nil, "", bad
	}
	ref = &storageRef{dtype: class.dtype, numel: n}
	if n < 0 || n > (1<<62)/ref.size() {
		return nil, "", fmt.Errorf("storage %q of %d elements", clip(key), n)
	}
	return ref, key, nil
}
