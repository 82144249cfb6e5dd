// Package safetensors opens safetensors files.
package safetensors

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"microrwkv/checkpoint/internal/store"
	"microrwkv/checkpoint/pickle"
	"microrwkv/tensor"
)

// maxWrong is how many tensors that are wrong are told.
const maxWrong = 20

// MaxHeader is the most bytes of a safetensors header, by its specification.
const MaxHeader = 100_000_000

// Is reports whether a file begins like safetensors: the header's length, and "{".
func Is(head []byte, size int64) bool {
	return len(head) > 8 && head[8] == '{' && binary.LittleEndian.Uint64(head) <= MaxHeader
}

// safeEntry is a tensor of the header.
type safeEntry struct {
	DType   string   `json:"dtype"`
	Shape   []int64  `json:"shape"`
	Offsets []uint64 `json:"data_offsets"`
}

// Open reads the header of a safetensors file: the values of its metadata, a *pickle.Dict,
// and its tensors.
func Open(src *store.Source, _ bool) (metadata any, tensors *pickle.Dict, err error) {
	b, err := src.Bytes(0, min(8, src.Size))
	if err != nil || len(b) < 8 {
		return nil, nil, errors.New("safetensors: cut short")
	}
	n := binary.LittleEndian.Uint64(b)
	if n > MaxHeader || int64(n) > src.Size-8 {
		return nil, nil, fmt.Errorf("safetensors: a header of %d bytes in a file of %d", n, src.Size)
	}
	if b, err = src.Bytes(8, int64(n)); err != nil {
		return nil, nil, err
	}
	names, entries, texts, err := parseSafeHeader(b)
	if err != nil {
		return nil, nil, fmt.Errorf("safetensors: %w", err)
	}
	tensors, err = locateSafe(src, names, entries, 8+int64(n))
	if err != nil {
		return nil, nil, fmt.Errorf("safetensors: %w", err)
	}
	if err := addAliases(tensors, texts); err != nil {
		return nil, nil, fmt.Errorf("safetensors: %w", err)
	}
	if err := findBlocks(tensors, texts); err != nil {
		return nil, nil, fmt.Errorf("safetensors: %w", err)
	}
	return metadataValues(texts), tensors, nil
}

// BlocksKey is the metadata that has, as a JSON object, the formats of tensors of bytes that are blocks of
// quantized weights.
const BlocksKey = "quantization"

// findBlocks makes tensors of bytes the quantized weights that they are.
func findBlocks(d *pickle.Dict, metadata map[string]string) error {
	formats := map[string]string{}
	if json.Unmarshal([]byte(metadata[BlocksKey]), &formats) != nil {
		return nil // another program's
	}
	for i, k := range d.Keys {
		t := d.Values[i].(*store.Tensor)
		format, ok := formats[k.(string)]
		if !ok || t.DType != tensor.Uint8 {
			continue // as it is, or named already by the tensor that it is tied to
		}
		dtype, ok := blocksOf(format)
		n := len(t.Shape)
		if !ok || n == 0 || t.Shape[n-1]%store.Size(dtype) != 0 {
			return fmt.Errorf("tensor %q: %v bytes of blocks of %q", store.Clip(k.(string)), t.Shape, store.Clip(format))
		}
		numbers, size := dtype.Block()
		if rows := t.Shape[n-1] / int64(size); rows > math.MaxInt64/int64(numbers) {
			return fmt.Errorf("tensor %q: shape %v", store.Clip(k.(string)), t.Shape)
		}
		t.DType, t.Shape = dtype, slices.Clone(t.Shape)
		t.Shape[n-1] = t.Shape[n-1] / int64(size) * int64(numbers)
		t.Stride = store.RowMajor(t.Shape)
	}
	return nil
}

// blocksOf returns the format of blocks of that name.
func blocksOf(name string) (store.DType, bool) {
	for d := tensor.F32; int(d) < len(store.DTypes); d++ {
		if store.Blocked(d) && d.String() == name {
			return d, true
		}
	}
	return 0, false
}

// parseSafeHeader reads the header's JSON; names may occur once.
func parseSafeHeader(b []byte) (names []string, entries map[string]safeEntry, metadata map[string]string, err error) {
	if !utf8.Valid(b) {
		return nil, nil, nil, errors.New("the header is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(b))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, nil, nil, errors.New("the header is not a JSON object")
	}
	entries = map[string]safeEntry{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, nil, nil, fmt.Errorf("the header: %w", err)
		}
		name, _ := t.(string)
		_, twice := entries[name]
		if name == "__metadata__" {
			twice = metadata != nil
			err = d.Decode(&metadata)
		} else {
			var e safeEntry
			err = d.Decode(&e)
			entries[name] = e
			names = append(names, name)
		}
		if err != nil {
			return nil, nil, nil, fmt.Errorf("the header's entry %q: %w", store.Clip(name), store.ClipError(err))
		}
		if twice {
			return nil, nil, nil, fmt.Errorf("the header has two entries %q", store.Clip(name))
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, nil, nil, fmt.Errorf("the header: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, nil, nil, errors.New("the header goes on after its end")
	}
	return names, entries, metadata, nil
}

// locateSafe turns the header's entries into tensors, in the order of their bytes, which must
// follow each other without gaps to the file's end. It reports all that are wrong.
func locateSafe(src *store.Source, names []string, entries map[string]safeEntry, start int64) (*pickle.Dict, error) {
	var errs []error
	fail := func(name, format string, args ...any) {
		if len(errs) < maxWrong {
			errs = append(errs, fmt.Errorf("tensor %q: "+format, append([]any{store.Clip(name)}, args...)...))
		}
	}
	have := uint64(src.Size - start)
	out := &pickle.Dict{}
	for _, name := range names {
		e := entries[name]
		dtype, ok := store.SafeDType(e.DType)
		if !ok {
			fail(name, "unknown dtype %q", store.Clip(e.DType))
			continue
		}
		if e.Shape == nil || len(e.Shape) > store.MaxDims {
			fail(name, "%d dimensions, or no shape", len(e.Shape))
			continue
		}
		if len(e.Offsets) != 2 || e.Offsets[0] > e.Offsets[1] || e.Offsets[1] > have {
			fail(name, "data_offsets %v in %d bytes of data: the file may be cut short", e.Offsets[:min(3, len(e.Offsets))], have)
			continue
		}
		stride := store.RowMajor(e.Shape)
		n, _, ok := store.Extent(e.Shape, stride)
		size := int64(e.Offsets[1] - e.Offsets[0])
		if !ok || n > math.MaxInt64/store.Size(dtype) || n*store.Size(dtype) != size {
			fail(name, "%d bytes for shape %v of %v", size, e.Shape, dtype)
			continue
		}
		rec := &store.Record{Src: src, Key: name, Name: name, Off: start + int64(e.Offsets[0]), Size: size, Swap: store.BigEndianHost}
		out.Values = append(out.Values, &store.Tensor{Rec: rec, DType: dtype, Shape: e.Shape, Stride: stride})
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	slices.SortStableFunc(out.Values, func(a, b any) int {
		x, y := a.(*store.Tensor).Rec, b.(*store.Tensor).Rec
		return cmp.Or(cmp.Compare(x.Off, y.Off), cmp.Compare(x.Size, y.Size))
	})
	end := start
	for _, v := range out.Values {
		rec := v.(*store.Tensor).Rec
		if rec.Off != end {
			fail(rec.Name, "it begins at byte %d of the data, and the one before ends at %d", rec.Off-start, end-start)
		}
		end = rec.Off + rec.Size
		out.Keys = append(out.Keys, rec.Name)
	}
	if end != src.Size {
		errs = append(errs, fmt.Errorf("%d bytes of data, and tensors for %d", have, end-start))
	}
	return out, errors.Join(errs...)
}

// addAliases adds the names of tied tensors, which the metadata maps to the name that is stored,
// as safetensors' own save_model writes it.
func addAliases(d *pickle.Dict, metadata map[string]string) error {
	stored := make(map[string]any, len(d.Keys))
	for i, k := range d.Keys {
		stored[k.(string)] = d.Values[i]
	}
	var names []string
	for name, of := range metadata {
		if _, taken := stored[name]; !taken && stored[of] != nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		d.Keys = append(d.Keys, name)
		d.Values = append(d.Values, stored[metadata[name]])
	}
	return nil
}

// metadataValues turns safetensors metadata, which is strings, into values: what is JSON is
// read, as WriteSafetensors writes it, other text stays.
func metadataValues(m map[string]string) *pickle.Dict {
	d := &pickle.Dict{}
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		d.Keys = append(d.Keys, k)
		d.Values = append(d.Values, ParseText(m[k]))
	}
	return d
}

// ParseText returns the value of a text of metadata: what it is as JSON, or else the text.
func ParseText(s string) any {
	d := json.NewDecoder(strings.NewReader(s))
	d.UseNumber()
	v, err := parseJSON(d, 0)
	if err != nil {
		return s
	}
	if _, err := d.Token(); err != io.EOF {
		return s
	}
	return v
}

// parseJSON reads one value, and keeps the order of an object's keys.
func parseJSON(d *json.Decoder, depth int) (any, error) {
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	if depth > 100 {
		return nil, errors.New("nested too deep")
	}
	switch t := t.(type) {
	case json.Number:
		if n, err := t.Int64(); err == nil {
			return n, nil
		}
		return t.Float64()
	case json.Delim:
		object := &pickle.Dict{}
		list := pickle.List{}
		for d.More() {
			if t == '{' {
				k, err := d.Token()
				if err != nil {
					return nil, err
				}
				object.Keys = append(object.Keys, k)
			}
			v, err := parseJSON(d, depth+1)
			if err != nil {
				return nil, err
			}
			object.Values = append(object.Values, v)
			list = append(list, v)
		}
		if _, err := d.Token(); err != nil {
			return nil, err
		}
		if t == '{' {
			return object, nil
		}
		return list, nil
	}
	return t, nil
}
