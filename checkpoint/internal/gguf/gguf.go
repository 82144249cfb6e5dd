// Package gguf opens GGUF files, the format of llama.cpp (github.com/ggml-org/ggml, docs/gguf.md):
//
//	"GGUF", version, number of tensors, number of metadata entries
//	for each entry a key, a type and a value
//	for each tensor a name, dimensions with the fastest first, a type, an offset
//	padding, and the tensors' data, to whose beginning the offsets count
package gguf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/bits"
	"slices"

	"microrwkv/checkpoint/internal/store"
	"microrwkv/checkpoint/pickle"
)

// Alignment is where tensors begin in files that don't say otherwise, and in those that are written.
const Alignment = 32

// AlignmentKey is the metadata that says otherwise.
const AlignmentKey = "general.alignment"

// MaxDims and MaxName limit the dimensions of a tensor and the bytes of its name, as ggml does.
const (
	MaxDims = 4
	MaxName = 63
)

// Is reports whether a file begins as GGUF files do.
func Is(head []byte, _ int64) bool { return len(head) >= 4 && string(head[:4]) == "GGUF" }

// Open reads the metadata of a GGUF file, a *pickle.Dict, and its tensors, which are views of src.
// Integers are int64, or *big.Int beyond it, floats float64, arrays *Elements.
func Open(src *store.Source, _ bool) (metadata any, tensors *pickle.Dict, err error) {
	r := &reader{src: src, pos: 4}
	values, tensors, err := r.file()
	if err != nil {
		return nil, nil, fmt.Errorf("GGUF: %w", err)
	}
	return values, tensors, nil
}

// reader reads a file from front to back, in windows of it.
type reader struct {
	src    *store.Source
	pos    int64 // of the file
	window []byte
	err    error // the first
}

// windowSize is the bytes that are read at a time from files that aren't mapped.
const windowSize = 1 << 20

var errShort = errors.New("the file is cut short, or the lengths in it are wrong")

// take returns the next n bytes, nil after an error.
func (r *reader) take(n int64) []byte {
	if r.err == nil && (n < 0 || n > r.src.Size-r.pos) {
		r.err = errShort
	}
	if r.err != nil {
		return nil
	}
	if int64(len(r.window)) < n {
		if r.window, r.err = r.src.Bytes(r.pos, min(max(n, windowSize), r.src.Size-r.pos)); r.err != nil {
			return nil
		}
	}
	b := r.window[:n]
	r.window, r.pos = r.window[n:], r.pos+n
	return b
}

// left returns the bytes that are left.
func (r *reader) left() int64 { return r.src.Size - r.pos }

func (r *reader) uint32() uint32 {
	if b := r.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if b := r.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// count reads the number of things that take at least size bytes each.
func (r *reader) count(what string, size int64) int {
	n := r.uint64()
	if r.err == nil && n > uint64(r.left()/size) {
		r.err = fmt.Errorf("%d %s in a file of %d bytes: %w", n, what, r.src.Size, errShort)
	}
	if r.err != nil {
		return 0
	}
	return int(n)
}

func (r *reader) string() string {
	n := r.count("bytes of text", 1)
	return string(r.take(int64(n)))
}

// The least that a metadata entry and a tensor's description take.
const (
	minEntry = 8 + 4 + 1
	minInfo  = 8 + 4 + 8 + 4 + 8
)

func (r *reader) file() (*pickle.Dict, *pickle.Dict, error) {
	version := r.uint32()
	switch swapped := bits.ReverseBytes32(version); {
	case r.err != nil:
		return nil, nil, r.err
	case swapped >= 1 && swapped < 1<<16:
		return nil, nil, errors.New("a big-endian file, want a little-endian one")
	case version != 2 && version != 3:
		return nil, nil, fmt.Errorf("version %d, want 2 or 3", version)
	}
	tensors := r.count("tensors", minInfo)
	entries := r.count("metadata entries", minEntry)
	values, err := r.metadata(entries)
	if err != nil {
		return nil, nil, err
	}
	alignment, err := alignmentOf(values)
	if err != nil {
		return nil, nil, err
	}
	if n, ok := values.Get("split.count"); ok {
		if parts, ok := n.(int64); !ok || parts > 1 {
			return nil, nil, fmt.Errorf("split.count is %v: one of several files of a split model; join them by llama-gguf-split --merge", n)
		}
	}
	list, err := r.tensors(tensors, alignment)
	return values, list, err
}

// metadata reads the entries.
func (r *reader) metadata(entries int) (*pickle.Dict, error) {
	values := &pickle.Dict{}
	seen := make(map[string]bool)
	for range entries {
		key := r.string()
		kind := r.uint32()
		if r.err != nil {
			return nil, fmt.Errorf("metadata: %w", r.err)
		}
		if seen[key] {
			return nil, fmt.Errorf("two values of metadata %q", store.Clip(key))
		}
		seen[key] = true
		v := r.value(kind)
		if r.err != nil {
			return nil, fmt.Errorf("metadata %q: %w", store.Clip(key), r.err)
		}
		values.Keys, values.Values = append(values.Keys, key), append(values.Values, v)
	}
	return values, r.err
}

// value reads a value of a type.
func (r *reader) value(kind uint32) any {
	switch kind {
	case String:
		return r.string()
	case Array:
		return r.array()
	}
	size, ok := valueSizes[kind]
	if !ok {
		r.err = fmt.Errorf("unknown type %d of a value", kind)
		return nil
	}
	b := r.take(size)
	if b == nil {
		return nil
	}
	return number(kind, b)
}

// array reads an array, whose elements are no arrays.
func (r *reader) array() any {
	kind := r.uint32()
	size, fixed := valueSizes[kind]
	switch {
	case r.err != nil:
		return nil
	case kind == Array:
		r.err = errors.New("an array of arrays")
		return nil
	case kind == String:
		size = 8
	case !fixed:
		r.err = fmt.Errorf("an array of unknown type %d", kind)
		return nil
	}
	a := &Elements{kind: kind, n: r.count("elements", size)}
	if kind != String {
		a.data = append(a.data, r.take(int64(a.n)*size)...)
		return a
	}
	for range a.n {
		n := r.count("bytes of text", 1)
		text := r.take(int64(n))
		if r.err != nil {
			return nil
		}
		a.data = append(binary.LittleEndian.AppendUint64(a.data, uint64(n)), text...)
	}
	return a
}

// Elements is an array of metadata, a copy of the file's bytes: a vocabulary has tens of thousands of texts, which
// most who open a file don't ask for.
type Elements struct {
	kind uint32
	n    int
	data []byte
}

// List returns the elements.
func (a *Elements) List() pickle.List {
	list := make(pickle.List, a.n)
	if a.kind == String {
		all, at := string(a.data), 0
		for i := range list {
			n := int(binary.LittleEndian.Uint64(a.data[at:]))
			list[i] = all[at+8:][:n]
			at += 8 + n
		}
		return list
	}
	size := int(valueSizes[a.kind])
	for i := range list {
		list[i] = number(a.kind, a.data[i*size:])
	}
	return list
}

// number returns a value of fixed size.
func number(kind uint32, b []byte) any {
	switch kind {
	case Uint8:
		return int64(b[0])
	case Int8:
		return int64(int8(b[0]))
	case Bool:
		return b[0] != 0
	case Uint16:
		return int64(binary.LittleEndian.Uint16(b))
	case Int16:
		return int64(int16(binary.LittleEndian.Uint16(b)))
	case Uint32:
		return int64(binary.LittleEndian.Uint32(b))
	case Int32:
		return int64(int32(binary.LittleEndian.Uint32(b)))
	case Float32:
		return float64(math.Float32frombits(binary.LittleEndian.Uint32(b)))
	case Float64:
		return math.Float64frombits(binary.LittleEndian.Uint64(b))
	}
	n := binary.LittleEndian.Uint64(b)
	if kind == Uint64 && n > math.MaxInt64 {
		return new(big.Int).SetUint64(n)
	}
	return int64(n)
}

// alignmentOf returns where tensors begin: at multiples of it.
func alignmentOf(values *pickle.Dict) (int64, error) {
	v, ok := values.Get(AlignmentKey)
	if !ok {
		return Alignment, nil
	}
	n, ok := v.(int64)
	if !ok || n < 1 || n > 1<<31 || n&(n-1) != 0 {
		return 0, fmt.Errorf("%s is %.40q, want a power of two", AlignmentKey, fmt.Sprint(v))
	}
	return n, nil
}

// tensors reads the descriptions of the tensors and finds their data.
func (r *reader) tensors(count int, alignment int64) (*pickle.Dict, error) {
	type info struct {
		tensor *store.Tensor
		offset uint64
	}
	var infos []info
	seen := make(map[string]bool)
	for range count {
		t, offset, err := r.info()
		if err != nil {
			return nil, err
		}
		if seen[t.Rec.Name] {
			return nil, fmt.Errorf("two tensors named %q", t.Rec.Name)
		}
		seen[t.Rec.Name] = true
		infos = append(infos, info{t, offset})
	}
	if r.err != nil {
		return nil, r.err
	}
	start := (r.pos + alignment - 1) &^ (alignment - 1)
	out := &pickle.Dict{}
	var errs []error
	for _, in := range infos {
		rec := in.tensor.Rec
		have := r.src.Size - start
		switch {
		case in.offset%uint64(alignment) != 0:
			errs = append(errs, fmt.Errorf("tensor %q: its data begin at offset %d, want a multiple of %d", rec.Name, in.offset, alignment))
		case have < 0 || in.offset > uint64(have) || rec.Size > have-int64(in.offset):
			errs = append(errs, fmt.Errorf("tensor %q: %d bytes at offset %d, in %d bytes of data: the file may be cut short", rec.Name, rec.Size, in.offset, max(have, 0)))
		default:
			rec.Off = start + int64(in.offset)
		}
		if len(errs) >= maxWrong {
			break
		}
		out.Keys, out.Values = append(out.Keys, rec.Name), append(out.Values, in.tensor)
	}
	return out, errors.Join(errs...)
}

// maxWrong is how many tensors that are wrong are told.
const maxWrong = 20

// info reads the description of a tensor.
func (r *reader) info() (*store.Tensor, uint64, error) {
	name := store.Clip(r.string())
	ndim := r.uint32()
	if r.err == nil && (ndim < 1 || ndim > MaxDims) {
		return nil, 0, fmt.Errorf("tensor %q: %d dimensions, want 1 to %d", name, ndim, MaxDims)
	}
	dims := make([]uint64, min(ndim, MaxDims))
	for i := range dims {
		dims[i] = r.uint64()
	}
	id, offset := r.uint32(), r.uint64()
	if r.err != nil {
		return nil, 0, fmt.Errorf("the description of tensor %q: %w", name, r.err)
	}
	d, err := dtypeOf(id)
	if err != nil {
		return nil, 0, fmt.Errorf("tensor %q: %w", name, err)
	}
	shape := make([]int64, ndim)
	for i, n := range dims {
		if n == 0 || n > math.MaxInt64 {
			return nil, 0, fmt.Errorf("tensor %q: dimensions %d", name, dims)
		}
		shape[i] = int64(n)
	}
	numbers, _ := d.Block()
	if shape[0]%int64(numbers) != 0 {
		return nil, 0, fmt.Errorf("tensor %q: rows of %d numbers, not whole blocks of the %d of %v", name, shape[0], numbers, d)
	}
	slices.Reverse(shape)
	stride := store.RowMajor(shape)
	n, _, ok := store.Extent(shape, stride)
	if !ok || n/int64(numbers) > r.src.Size/store.Size(d) {
		return nil, 0, fmt.Errorf("tensor %q: shape %v of %v, in a file of %d bytes", name, shape, d, r.src.Size)
	}
	rec := &store.Record{Src: r.src, Key: name, Name: name, Size: store.Bytes(d, n), Swap: store.BigEndianHost}
	return &store.Tensor{Rec: rec, DType: d, Shape: shape, Stride: stride}, offset, nil
}
