package checkpoint

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"slices"

	"microrwkv/checkpoint/internal/gguf"
	"microrwkv/checkpoint/pickle"
)

// WriteGGUF writes a GGUF file, version 3: the values are its metadata, general.architecture among them if
// llama.cpp is to read it. An integer is written as uint32, or int32, uint64, int64 if it must be, a
// float64 as float32 if it is one; a list has elements of one type. Names have at most 63 bytes, and
// tensors four dimensions. Tensors that share their elements are written once each. The file appears whole or not
// at all.
func WriteGGUF(path string, tensors []Named, values map[string]any, opts ...WriteOption) error {
	return writeNamed(path, tensors, values, opts, writeGGUF)
}

// writeGGUF writes a GGUF file.
func writeGGUF(w io.Writer, items []*item, values *pickle.Dict, count func(n int)) error {
	var entries []byte
	n := 0
	for i, k := range values.Keys {
		key := keyText(k)
		if key == gguf.AlignmentKey { // that of the file that it was in
			continue
		}
		var err error
		if entries, err = appendGGUFValue(append(entries, ggufString(key)...), values.Values[i]); err != nil {
			return fmt.Errorf("value %q: %w", key, err)
		}
		n++
	}
	head := []byte("GGUF")
	head = binary.LittleEndian.AppendUint32(head, 3)
	head = binary.LittleEndian.AppendUint64(head, uint64(len(items)))
	head = binary.LittleEndian.AppendUint64(head, uint64(n))
	head = append(head, entries...)
	offset := int64(0)
	for _, it := range items {
		id, ok := gguf.TypeID(it.dtype)
		if !ok {
			return fmt.Errorf("tensor %q: GGUF has no weights of dtype %v", it.name, it.dtype)
		}
		dims := slices.Clone(it.shape)
		if len(dims) == 0 {
			dims = []int64{1}
		}
		if len(it.name) > gguf.MaxName || len(dims) > gguf.MaxDims || slices.Contains(dims, 0) {
			return fmt.Errorf("tensor %q: shape %v, want a name of at most %d bytes and at most %d dimensions, none of 0", it.name, it.shape, gguf.MaxName, gguf.MaxDims)
		}
		slices.Reverse(dims)
		head = append(head, ggufString(it.name)...)
		head = binary.LittleEndian.AppendUint32(head, uint32(len(dims)))
		for _, d := range dims {
			head = binary.LittleEndian.AppendUint64(head, uint64(d))
		}
		head = binary.LittleEndian.AppendUint32(head, id)
		head = binary.LittleEndian.AppendUint64(head, uint64(offset))
		offset += it.size() + ggufPadding(it.size())
	}
	head = append(head, make([]byte, ggufPadding(int64(len(head))))...)
	if _, err := w.Write(head); err != nil {
		return err
	}
	for _, it := range items {
		if err := it.writeTo(w, count); err != nil {
			return err
		}
		if _, err := w.Write(make([]byte, ggufPadding(it.size()))); err != nil {
			return err
		}
	}
	return nil
}

// ggufPadding returns the bytes from n to the next place where a tensor may begin.
func ggufPadding(n int64) int64 { return -n & (gguf.Alignment - 1) }

func ggufString(s string) []byte {
	return append(binary.LittleEndian.AppendUint64(nil, uint64(len(s))), s...)
}

// appendGGUFValue appends the type of a value and the value.
func appendGGUFValue(b []byte, v any) ([]byte, error) {
	list, ok := v.([]any)
	if l, isList := v.(pickle.List); isList {
		list, ok = l, true
	}
	if !ok {
		kind, err := ggufKind(v)
		if err != nil {
			return nil, err
		}
		return appendGGUFNumber(binary.LittleEndian.AppendUint32(b, kind), kind, v), nil
	}
	kind := gguf.Int32 // as most programs have integers
	if !ggufFits(list) {
		for i, x := range list {
			k, err := ggufKind(x)
			if err == nil && i > 0 {
				k, err = ggufCommon(kind, k)
			}
			if err != nil {
				return nil, err
			}
			kind = k
		}
	}
	b = binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(b, gguf.Array), kind)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(list)))
	for _, x := range list {
		b = appendGGUFNumber(b, kind, x)
	}
	return b, nil
}

// ggufFits reports whether all elements are integers that an int32 holds.
func ggufFits(list []any) bool {
	return !slices.ContainsFunc(list, func(v any) bool {
		n, ok := ggufInt(v)
		return !ok || n != int64(int32(n))
	})
}

func ggufInt(v any) (int64, bool) {
	switch n := v.(type) {
	case int:
		return int64(n), true
	case int64:
		return n, true
	}
	return 0, false
}

// ggufKind returns the type that a value is written as.
func ggufKind(v any) (uint32, error) {
	switch v := v.(type) {
	case bool:
		return gguf.Bool, nil
	case string:
		return gguf.String, nil
	case float64:
		if x := float64(float32(v)); x == v || math.IsNaN(v) {
			return gguf.Float32, nil
		}
		return gguf.Float64, nil
	case *big.Int:
		if v.IsUint64() {
			return gguf.Uint64, nil
		}
	}
	n, ok := ggufInt(v)
	switch {
	case !ok:
		return 0, fmt.Errorf("a %T can't be written", v)
	case n >= 0 && n <= math.MaxUint32:
		return gguf.Uint32, nil
	case n == int64(int32(n)):
		return gguf.Int32, nil
	case n > 0:
		return gguf.Uint64, nil
	}
	return gguf.Int64, nil
}

// ggufCommon returns a type that holds the values of two.
func ggufCommon(a, b uint32) (uint32, error) {
	isInt := func(k uint32) bool { return k == gguf.Uint32 || k == gguf.Int32 || k == gguf.Int64 || k == gguf.Uint64 }
	isFloat := func(k uint32) bool { return k == gguf.Float32 || k == gguf.Float64 }
	switch {
	case a == b:
		return a, nil
	case isInt(a) && isInt(b) && (a == gguf.Uint64 || b == gguf.Uint64):
		return gguf.Uint64, nil
	case isInt(a) && isInt(b):
		return gguf.Int64, nil
	case isFloat(a) && isFloat(b):
		return gguf.Float64, nil
	}
	return 0, errors.New("a list of elements of several types can't be written")
}

// appendGGUFNumber appends a value, or text, in a type that holds it.
func appendGGUFNumber(b []byte, kind uint32, v any) []byte {
	n, _ := ggufInt(v)
	if big, ok := v.(*big.Int); ok {
		n = int64(big.Uint64())
	}
	x, _ := v.(float64)
	switch kind {
	case gguf.Bool:
		if v == true {
			return append(b, 1)
		}
		return append(b, 0)
	case gguf.String:
		return append(b, ggufString(v.(string))...)
	case gguf.Float32:
		return binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(x)))
	case gguf.Float64:
		return binary.LittleEndian.AppendUint64(b, math.Float64bits(x))
	case gguf.Uint32, gguf.Int32:
		return binary.LittleEndian.AppendUint32(b, uint32(n))
	}
	return binary.LittleEndian.AppendUint64(b, uint64(n))
}
