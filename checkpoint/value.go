package checkpoint

import (
	"encoding/binary"
	"math/big"
	"slices"

	"microrwkv/checkpoint/internal/pickle"
)

// Value returns what lies beside the tensors, found by following keys through nested dicts from
// the top of the file, and whether it is there; without keys, all of it. Integer keys are found by
// their digits. Of safetensors that is the metadata, whose JSON objects, arrays and numbers are
// read; in both, Value("model_args") is the same.
//
// The value is nil, a bool, int64, float64, string, []byte, complex128, *big.Int beyond int64,
// []any or map[string]any; numpy scalars are plain numbers, tuples and sets []any, a
// tensor without dimensions its number, other tensors an Info, types a string such as "torch.float32". It must not be changed.
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
		for i, k := range v.Keys {
			m[keyText(k)] = plain(v.Values[i])
		}
		return m
	case pickle.List:
		return plainList(v)
	case pickle.Tuple:
		return plainList(v)
	case *stored:
		if x := v.scalar(); x != nil {
			return x
		}
		return Info{"", v.dtype, ints(v.shape), ints(v.stride), v.rec.src.name + ":" + v.rec.key, int(v.offset), v.contiguous()}
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

// scalar returns the number that a tensor without dimensions holds, nil if it is another or can't
// be read.
func (t *stored) scalar() any {
	if len(t.shape) > 0 || t.dtype.Size() > 8 {
		return nil
	}
	var b []byte
	err := guard(func() (err error) {
		b, err = t.packed()
		return err
	})
	if err != nil {
		return nil
	}
	switch t.dtype {
	case F32, BF16, F16, F64:
		return float(b, 0, t.dtype)
	case Int64:
		return int64(binary.NativeEndian.Uint64(b))
	case Int32:
		return int64(int32(binary.NativeEndian.Uint32(b)))
	case Bool:
		return b[0] != 0
	}
	return nil
}

// portable reports whether a value can be written beside other tensors: it is made of plain ones.
func portable(v any) bool {
	bad := func(x any) bool { return !portable(x) }
	switch v := v.(type) {
	case nil, bool, int64, float64, string, *big.Int, DType:
		return true
	case pickle.List:
		return !slices.ContainsFunc(v, bad)
	case pickle.Tuple:
		return !slices.ContainsFunc(v, bad)
	case *pickle.Dict:
		return !slices.ContainsFunc(v.Keys, bad) && !slices.ContainsFunc(v.Values, bad)
	}
	return false
}
