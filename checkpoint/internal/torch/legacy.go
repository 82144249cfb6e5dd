package torch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/big"

	"microrwkv/checkpoint/internal/store"
	"microrwkv/checkpoint/pickle"
)

// Before PyTorch 1.6, torch.save wrote pickles one after another: a magic number, a protocol
// version, a description of the machine, the object and the list of storage keys; then each
// storage's number of elements (int64) and its elements, without padding.
var LegacyMagic, _ = new(big.Int).SetString("1950a86a20f9469cfc6c", 16)

const LegacyVersion = 1001

// IsLegacy reports whether a file begins with the magic number, pickled.
func IsLegacy(head []byte, _ int64) bool {
	v, _, err := decode(head[:min(len(head), 64)], false, nil)
	n, ok := v.(*big.Int)
	return err == nil && ok && n.Cmp(LegacyMagic) == 0
}

// legacy is what is known of a legacy file's storages.
type legacy struct {
	src     *store.Source
	records map[string]*store.Record
	size    map[string]int64 // of a storage's elements
	numel   map[string]int64
}

// OpenLegacy decodes the pickles of a legacy file; the storages stay where they are.
// The tensors are among the values of root.
func OpenLegacy(src *store.Source, opaque bool) (root any, tensors *pickle.Dict, err error) {
	l := &legacy{src: src, records: map[string]*store.Record{}, size: map[string]int64{}, numel: map[string]int64{}}
	data, err := l.pickles()
	if err != nil {
		return nil, nil, err
	}
	var pos int
	next := func(load func(*parser, []any) (any, error)) (v any, err error) {
		v, n, err := decode(data[pos:], opaque, load)
		pos += n
		return v, err
	}
	if _, err := next(nil); err != nil {
		return nil, nil, err
	}
	version, err := next(nil)
	if err != nil {
		return nil, nil, err
	}
	if version != any(int64(LegacyVersion)) {
		return nil, nil, errors.New("a legacy PyTorch file of an unknown version")
	}
	machine, err := next(nil)
	if err != nil {
		return nil, nil, err
	}
	if d, ok := machine.(*pickle.Dict); ok {
		if little, ok := d.Get("little_endian"); ok && little == any(false) {
			return nil, nil, errors.New("a legacy file from a big-endian machine: save it again with PyTorch 1.6 or newer")
		}
	}
	if root, err = next(l.storage); err != nil {
		return nil, nil, err
	}
	keys, err := next(nil)
	if err != nil {
		return nil, nil, err
	}
	list, ok := keys.(pickle.List)
	if !ok {
		return nil, nil, errors.New("a legacy PyTorch file without a list of storages")
	}
	return root, nil, l.locate(list, int64(pos))
}

// pickles returns the beginning of the file with all the pickles: all of it if it is in memory,
// else the first part, doubled until the last one is whole.
func (l *legacy) pickles() ([]byte, error) {
	for n := int64(1 << 20); ; n *= 2 {
		if l.src.Data != nil || n >= l.src.Size {
			return l.src.Bytes(0, l.src.Size)
		}
		data, err := l.src.Bytes(0, n)
		if err != nil {
			return nil, err
		}
		if countPickles(data) >= 5 {
			return data, nil
		}
	}
}

func countPickles(data []byte) int {
	for i := range 5 {
		n, err := pickle.Length(data)
		if err != nil {
			return i
		}
		data = data[n:]
	}
	return 5
}

// storage resolves ("storage", class, key, location, number of elements, view), where view is
// None or (view's key, offset, number of elements).
func (l *legacy) storage(p *parser, id []any) (any, error) {
	ref, key, err := storageID(id)
	if err != nil {
		return nil, err
	}
	rec := l.records[key]
	if rec == nil {
		rec = &store.Record{Src: l.src, Key: key, Name: key, Swap: store.BigEndianHost}
		rec.Err = fmt.Errorf("storage %q is not in the file", store.Clip(key))
		l.records[key], l.size[key], l.numel[key] = rec, ref.size(), ref.numel
	}
	if l.size[key] != ref.size() || l.numel[key] != ref.numel {
		return nil, fmt.Errorf("storage %q has two sizes", store.Clip(key))
	}
	ref.rec = rec
	if len(id) > 5 && id[5] != nil {
		view, ok := pickle.Items(id[5])
		if !ok || len(view) != 3 {
			return nil, errors.New("a storage's view that torch.save does not write")
		}
		offset, ok := pickle.Int(view[1])
		n, ok2 := pickle.Int(view[2])
		if !ok || !ok2 || offset < 0 || n < 0 || offset > ref.numel || n > ref.numel-offset {
			return nil, fmt.Errorf("a view outside of storage %q", store.Clip(key))
		}
		ref.offset, ref.numel = offset, n
	}
	return ref, nil
}

// locate finds the storages' elements, which begin at pos.
func (l *legacy) locate(keys pickle.List, pos int64) error {
	for i, k := range keys {
		key, ok := k.(string)
		if !ok {
			return errors.New("a storage key that is not a string")
		}
		rec := l.records[key]
		if rec == nil {
			return fmt.Errorf("storage %q is listed, and no tensor refers to it", store.Clip(key))
		}
		if rec.Err == nil {
			return fmt.Errorf("storage %q is listed twice", store.Clip(key))
		}
		if l.src.Size-pos < 8 {
			return fmt.Errorf("cut short: storage %d of %d is missing", i+1, len(keys))
		}
		b, err := l.src.Bytes(pos, 8)
		if err != nil {
			return err
		}
		n := binary.LittleEndian.Uint64(b)
		if n != uint64(l.numel[key]) {
			return fmt.Errorf("storage %q has %d elements, and %d are announced", store.Clip(key), n, l.numel[key])
		}
		pos += 8
		rec.Off, rec.Size, rec.Err = pos, l.numel[key]*l.size[key], nil
		if n > math.MaxInt64/16 || rec.Size > l.src.Size-pos {
			return fmt.Errorf("cut short: storage %d of %d should have %d bytes, %d are left", i+1, len(keys), rec.Size, l.src.Size-pos)
		}
		pos += rec.Size
	}
	return nil
}
