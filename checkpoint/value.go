package checkpoint

import (
	"math/big"

	"microrwkv/checkpoint/internal/gguf"
	"microrwkv/checkpoint/internal/store"
	"microrwkv/checkpoint/pickle"
)

// Value returns what lies beside the tensors, found by following keys through nested dicts from
// the top of the file, and whether it is there; without keys, all of it. Keys that aren't strings are
// found as Python writes them: 3, None, (0, 'a'). Of safetensors that is the metadata, whose JSON objects, arrays and numbers are
// read; in both, Value("model_args") is the same.
//
// The value is nil, a bool, int64, float64, string, []byte, complex128, *big.Int beyond int64,
// []any or map[string]any; numpy scalars are plain numbers, tuples and sets []any, a tensor without
// dimensions its number, other tensors an Info, types a string such as "torch.float32", and what is
// not looked into a string such as "a numpy.ndarray". It must not be changed.
func (f *File) Value(keys ...string) (any, bool) {
	if f.root == nil {
		return nil, false
	}
	v, ok := lookup(f.root, keys)
	if !ok {
		return nil, false
	}
	return plain(v), true
}

// plain turns a decoded value into a plain one.
func plain(v any) any {
	switch v := v.(type) {
	case *pickle.Dict:
		m := make(map[string]any, len(v.Keys))
		for i, k := range keyTexts(v) {
			m[k] = plain(v.Values[i])
		}
		return m
	case pickle.List:
		return plainList(v)
	case pickle.Tuple:
		return plainList(v)
	case *gguf.Elements:
		return []any(v.List())
	case *store.Tensor:
		if x := v.Scalar(); x != nil {
			return x
		}
		return infoOf("", v)
	case DType:
		return describe(v)
	case nil, bool, int64, float64, string, []byte, complex128, *big.Int:
		return v
	}
	return describe(v)
}

func plainList(list []any) []any {
	out := make([]any, len(list))
	for i, x := range list {
		out[i] = plain(x)
	}
	return out
}

// portable returns what can be written of a value beside other tensors: dicts lose the entries that
// can't, lists are written whole or not at all.
func portable(v any) (any, bool) {
	switch v := v.(type) {
	case nil, bool, int64, float64, string, *big.Int, DType:
		return v, true
	case *store.Tensor:
		x := v.Scalar()
		return x, x != nil
	case *gguf.Elements:
		return v.List(), true
	case pickle.List:
		list, ok := portableList(v)
		return pickle.List(list), ok
	case pickle.Tuple:
		list, ok := portableList(v)
		return pickle.Tuple(list), ok
	case *pickle.Dict:
		d := &pickle.Dict{}
		for i, k := range v.Keys {
			k, ok := portable(k)
			x, ok2 := portable(v.Values[i])
			if ok && ok2 {
				d.Keys, d.Values = append(d.Keys, k), append(d.Values, x)
			}
		}
		return d, true
	}
	return nil, false
}

func portableList(list []any) ([]any, bool) {
	out := make([]any, len(list))
	for i, v := range list {
		var ok bool
		if out[i], ok = portable(v); !ok {
			return nil, false
		}
	}
	return out, true
}
