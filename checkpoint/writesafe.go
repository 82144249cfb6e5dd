package checkpoint

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"microrwkv/checkpoint/internal/safetensors"
	"microrwkv/checkpoint/internal/store"
	"microrwkv/checkpoint/pickle"
)

// writeSafe writes a safetensors file, blocks of quantized weights as bytes whose format the metadata
// tells. As its own writer does, it orders tensors by falling
// alignment and then by name, so that all are aligned.
func writeSafe(w io.Writer, items []*item, values *pickle.Dict, count func(n int)) error {
	metadata := map[string]string{"format": "pt"}
	for i, k := range values.Keys {
		s, err := metadataText(values.Values[i])
		if err != nil {
			return fmt.Errorf("value %q: %w", keyText(k), err)
		}
		metadata[keyText(k)] = s
	}
	var stored []*item
	for _, it := range items {
		if it.twin == nil {
			stored = append(stored, it)
			continue
		}
		if _, taken := metadata[it.name]; taken {
			return fmt.Errorf("tensor %q: a value has the same name", it.name)
		}
		metadata[it.name] = it.twin.name
	}
	blocks := map[string]string{}
	for _, it := range stored {
		if store.Blocked(it.dtype) {
			blocks[it.name] = it.dtype.String()
		}
	}
	if len(blocks) > 0 {
		text, err := json.Marshal(blocks)
		if err != nil {
			return err
		}
		metadata[safetensors.BlocksKey] = string(text)
	}
	slices.SortStableFunc(stored, func(a, b *item) int {
		if c := safeAlignment(b) - safeAlignment(a); c != 0 {
			return c
		}
		return strings.Compare(a.name, b.name)
	})
	header := []byte(`{"__metadata__":`)
	text, err := json.Marshal(metadata)
	if err != nil {
		return err
	}
	header = append(header, text...)
	var off int64
	for _, it := range stored {
		if it.name == "__metadata__" {
			return errors.New(`a tensor named "__metadata__"`)
		}
		dtype, shape := it.dtype, append([]int64{}, it.shape...)
		if store.Blocked(dtype) { // as bytes
			shape[len(shape)-1] = store.Bytes(dtype, shape[len(shape)-1])
			dtype = Uint8
		}
		if store.DTypes[dtype].Safe == "" {
			return fmt.Errorf("tensor %q: safetensors has no dtype %v", it.name, it.dtype)
		}
		name, err := json.Marshal(it.name)
		if err != nil {
			return err
		}
		entry, err := json.Marshal(map[string]any{
			"dtype": store.DTypes[dtype].Safe, "shape": shape, "data_offsets": []int64{off, off + it.size()},
		})
		if err != nil {
			return err
		}
		header = append(append(append(append(header, ','), name...), ':'), entry...)
		off += it.size()
	}
	header = append(header, '}')
	for len(header)%8 != 0 {
		header = append(header, ' ')
	}
	if len(header) > safetensors.MaxHeader {
		return fmt.Errorf("a header of %d bytes, want at most %d", len(header), safetensors.MaxHeader)
	}
	if _, err := w.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(header)))); err != nil {
		return err
	}
	if _, err := w.Write(header); err != nil {
		return err
	}
	for _, it := range stored {
		if err := it.writeTo(w, count); err != nil {
			return err
		}
	}
	return nil
}

// safeAlignment returns where an item's elements must begin.
func safeAlignment(it *item) int {
	if store.Blocked(it.dtype) {
		return 1
	}
	return int(store.Size(it.dtype))
}

// metadataText turns a value into text, so that parseText gives it back.
func metadataText(v any) (string, error) {
	if s, ok := v.(string); ok && safetensors.ParseText(s) == any(s) {
		return s, nil
	}
	b, err := appendJSON(nil, v)
	return string(b), err
}

// appendJSON appends a value as JSON. A float64 has a point or an exponent, so that it stays one;
// what JSON has no number for is "inf", "-inf" or "nan".
func appendJSON(b []byte, v any) ([]byte, error) {
	if len(b) > maxPickle {
		return nil, errors.New("values that take too much memory")
	}
	switch v := v.(type) {
	case nil:
		return append(b, "null"...), nil
	case bool:
		return strconv.AppendBool(b, v), nil
	case int:
		return strconv.AppendInt(b, int64(v), 10), nil
	case int64:
		return strconv.AppendInt(b, v, 10), nil
	case *big.Int:
		return v.Append(b, 10), nil
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return strconv.AppendQuote(b, strings.ToLower(strings.TrimPrefix(fmt.Sprint(v), "+"))), nil
		}
		s := strconv.FormatFloat(v, 'g', -1, 64)
		if !strings.ContainsAny(s, ".e") {
			s += ".0"
		}
		return append(b, s...), nil
	case string:
		s, err := json.Marshal(v)
		return append(b, s...), err
	case DType:
		return strconv.AppendQuote(b, describe(v)), nil
	case pickle.List:
		return appendList(b, v)
	case pickle.Tuple:
		return appendList(b, v)
	case []any:
		return appendList(b, v)
	case *pickle.Dict:
		return appendObject(b, v)
	case map[string]any:
		d := &pickle.Dict{}
		for _, k := range keyOrder(v) {
			d.Keys, d.Values = append(d.Keys, k), append(d.Values, v[k])
		}
		return appendObject(b, d)
	}
	return nil, fmt.Errorf("a %T can't be written", v)
}

func appendList(b []byte, list []any) ([]byte, error) {
	b = append(b, '[')
	for i, x := range list {
		if i > 0 {
			b = append(b, ',')
		}
		var err error
		if b, err = appendJSON(b, x); err != nil {
			return nil, err
		}
	}
	return append(b, ']'), nil
}

func appendObject(b []byte, d *pickle.Dict) ([]byte, error) {
	b = append(b, '{')
	for i, k := range d.Keys {
		if i > 0 {
			b = append(b, ',')
		}
		key, err := json.Marshal(keyText(k))
		if err != nil {
			return nil, err
		}
		b = append(append(b, key...), ':')
		if b, err = appendJSON(b, d.Values[i]); err != nil {
			return nil, err
		}
	}
	return append(b, '}'), nil
}
