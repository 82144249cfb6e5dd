package checkpoint

import (
	"encoding/binary"
	"math"
	"strconv"

	"microrwkv/checkpoint/pickle"
	"microrwkv/tensor"
)

// Scalar is a value to write as a tensor of float32 without dimensions.
type Scalar float32

// tensorsOf returns values with the tensors in them as items, and those items.
func tensorsOf(values map[string]any) (map[string]any, []*item) {
	var items []*item
	out := make(map[string]any, len(values))
	for _, k := range keyOrder(values) {
		out[k] = besideModel(values[k], &items)
	}
	return out, items
}

func besideModel(v any, items *[]*item) any {
	switch v := v.(type) {
	case *tensor.Weight:
		it := itemOf("", v)
		it.value = true
		*items = append(*items, it)
		return it
	case Scalar:
		b := binary.NativeEndian.AppendUint32(nil, math.Float32bits(float32(v)))
		it := &item{dtype: F32, from: F32, value: true, bytes: func() ([]byte, error) { return b, nil }}
		*items = append(*items, it)
		return it
	case map[string]any:
		out := make(map[string]any, len(v))
		for _, k := range keyOrder(v) {
			out[k] = besideModel(v[k], items)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = besideModel(x, items)
		}
		return out
	case *pickle.Dict:
		out := &pickle.Dict{Keys: v.Keys, Values: make([]any, len(v.Values))}
		for i, x := range v.Values {
			out.Values[i] = besideModel(x, items)
		}
		return out
	}
	return v
}

// itemOf returns a weight to write.
func itemOf(name string, w *tensor.Weight) *item {
	it := &item{name: name, dtype: w.DType(), from: w.DType(), bytes: func() ([]byte, error) { return w.Packed().Bytes(), nil }}
	for _, d := range w.Shape() {
		it.shape = append(it.shape, int64(d))
	}
	return it
}

// setKeys numbers the storages of a zip.
func setKeys(items []*item) {
	keys := 0
	for _, it := range items {
		if it.twin != nil {
			it.key = it.twin.key
			continue
		}
		it.key = strconv.Itoa(keys)
		keys++
	}
}
