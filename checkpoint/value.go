package checkpoint

import (
	"math/big"

	"microrwkv/checkpoint/internal/pickle"
)

// Value returns what lies beside the tensors, found by following keys through nested dicts from
// the top of the file, and whether it is there; without keys, all of it. Integer keys are found by
// their digits. Of safetensors that is the metadata, whose JSON objects, arrays and numbers are
// read; in both, Value("model_args") is the same.
//
// The value is nil, a bool, int64, float64, string, []byte, complex128, *big.Int beyond int64,
// []any or map[string]any; numpy scalars are plain numbers, tuples and sets []any, tensors an Info,
// types a string such as "torch.float32". It must not be changed.
func (f *File) Value(keys ...string) (any, bool) {
	if f.root == nil {
		return nil, false
	}
	v, ok := lookup(f.root, keys)
	if !ok {
		return nil, false
	}
	p := plain{map[*pickle.Dict]map[string]any{}}
	return p.value(v), true
}

// plain turns decoded values into plain ones; what is shared stays shared.
type plain struct {
	dicts map[*pickle.Dict]map[string]any
}

func (p plain) value(v any) any {
	switch v := v.(type) {
	case *pickle.Dict:
		if m, ok := p.dicts[v]; ok {
			return m
		}
		m := make(map[string]any, len(v.Keys))
		p.dicts[v] = m
		for i, k := range v.Keys {
			m[keyText(k)] = p.value(v.Values[i])
		}
		return m
	case pickle.List:
		return p.list(v)
	case pickle.Tuple:
		return p.list(v)
	case *stored:
		return Info{"", v.dtype, ints(v.shape), ints(v.stride), v.rec.src.name + ":" + v.rec.key, v.offset, v.contiguous()}
	case DType:
		return "torch." + dtypes[v].torch
	case nil, bool, int64, float64, string, []byte, complex128, *big.Int:
		return v
	}
	return describe(v)
}

func (p plain) list(list []any) []any {
	out := make([]any, len(list))
	for i, x := range list {
		out[i] = p.value(x)
	}
	return out
}
