package checkpoint

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"microrwkv/checkpoint/internal/safetensors"
	"microrwkv/checkpoint/internal/store"
	"microrwkv/checkpoint/pickle"
	"microrwkv/tensor"
)

// Named is a tensor to write.
type Named struct {
	Name   string
	Tensor *tensor.Weight
}

// A WriteOption sets how a file is written.
type WriteOption func(*writeOptions)

type writeOptions struct {
	dtype    DType // 0: as they are
	progress func(done, total int64)
}

// As converts the float tensors to dtype, rounding to the nearest, ties to even; f64 is rounded to
// f32 first, as PyTorch does. A number too large for the type is an error. Other tensors stay. For 0 all
// stay, whatever options came before it.
func As(dtype tensor.DType) WriteOption {
	return func(o *writeOptions) { o.dtype = dtype }
}

// OnProgress calls f now and then with the bytes of tensors that are written, and of all.
func OnProgress(f func(done, total int64)) WriteOption {
	return func(o *writeOptions) { o.progress = f }
}

// WritePT writes what torch.load reads, weights_only=True included, in the zip format: if there
// are values a dict with the tensors under "model" and the values beside it, as training programs
// save them ("model_args", "config", "iter_num" …), else the state_dict alone. A value is nil, a
// bool, int, int64, float64, string, []byte, []any or map[string]any. Tensors that share all their
// elements are stored once, as tied weights are. A value may also be a *tensor.Weight, a Scalar or a
// *pickle.Dict, as an optimizer's state is made of. The file appears whole or not at all.
func WritePT(path string, tensors []Named, values map[string]any, opts ...WriteOption) error {
	values, beside := tensorsOf(values)
	return writeNamed(path, tensors, values, opts, func(w io.Writer, items []*item, values *pickle.Dict, count func(n int)) error {
		return writeZip(w, append(items, beside...), values, count)
	})
}

// WriteSafetensors writes a safetensors file. Its metadata has the values, strings as they are and
// others as JSON, and "format": "pt". Blocks of quantized weights are tensors of bytes there, and the
// metadata "quantization" has the format of each, by which Open reads them. Of tensors that share all their elements the first is
// stored, and the metadata maps the other names to its name. The file appears whole or not at all.
func WriteSafetensors(path string, tensors []Named, values map[string]any, opts ...WriteOption) error {
	return writeNamed(path, tensors, values, opts, writeSafe)
}

// Write is WritePT for a name that ends in .pt, .pth or .bin, WriteSafetensors for .safetensors, and
// WriteGGUF for .gguf.
func Write(path string, tensors []Named, values map[string]any, opts ...WriteOption) error {
	write, err := writerFor(path)
	if err != nil {
		return err
	}
	return writeNamed(path, tensors, values, opts, write)
}

// writerFor returns what writes the format that a name ends in.
func writerFor(path string) (writeFunc, error) {
	switch ext := strings.ToLower(filepath.Ext(path)); ext {
	case ".pt", ".pth", ".bin":
		return writeZip, nil
	case ".safetensors":
		return writeSafe, nil
	case ".gguf":
		return writeGGUF, nil
	default:
		return nil, fmt.Errorf("%s: can't tell the format from %q, want .pt, .pth, .bin, .safetensors or .gguf", path, ext)
	}
}

// Convert writes the tensors of f to another file, of the format that its name ends in: .pt, .pth,
// .bin, .safetensors or .gguf. What lies beside the tensors goes along (model_args, config …), except
// what holds tensors itself, as an optimizer's state does. A bare state_dict stays one.
func Convert(path string, f *File, opts ...WriteOption) error {
	write, err := writerFor(path)
	if err != nil {
		return err
	}
	var items []*item
	for _, name := range f.names {
		t := f.tensors[name]
		items = append(items, &item{name: name, dtype: t.DType, shape: t.Shape, from: t.DType, same: t.Identity(),
			bytes: func() ([]byte, error) {
				b, err := t.Packed()
				if err != nil {
					return nil, f.fail(name, err)
				}
				return b, nil
			}})
	}
	return writeItems(path, items, f.beside(), opts, write)
}

// beside returns the values that lie beside the tensors and are worth keeping: not what is made of
// tensors too, and nothing named "model", where the tensors go.
func (f *File) beside() *pickle.Dict {
	out := &pickle.Dict{}
	if f.root == nil || f.bare && !f.format.Metadata() {
		return out
	}
	for i, k := range f.root.Keys {
		name, ok := k.(string)
		if _, alias := f.tensors[name]; !ok || alias || name == "model" || f.format == Safetensors && (name == "format" || name == safetensors.BlocksKey) || hasTensors(f.root.Values[i]) {
			continue
		}
		if v, ok := portable(f.root.Values[i]); ok {
			out.Keys, out.Values = append(out.Keys, k), append(out.Values, v)
		}
	}
	return out
}

// item is one tensor to write.
type item struct {
	name  string
	dtype DType // to write
	shape []int64
	from  DType                  // of bytes
	bytes func() ([]byte, error) // elements in row-major order and this machine's byte order
	same  any                    // equal for items that share all their elements
	twin  *item                  // the first of those, nil for itself
	key   string                 // of its storage, in a zip
	value bool                   // it is among the values, not in the state_dict
}

// size returns the bytes to write.
func (it *item) size() int64 {
	n := int64(1)
	for _, d := range it.shape {
		n *= d
	}
	return store.Bytes(it.dtype, n)
}

func writeNamed(path string, tensors []Named, values map[string]any, opts []WriteOption, write writeFunc) error {
	var items []*item
	for _, n := range tensors {
		w := n.Tensor
		it := itemOf(n.Name, w)
		it.same = it
		if w.Len() > 0 && w.Contiguous() {
			it.same = [2]any{&w.Bytes()[0], fmt.Sprint(it.from, it.shape)}
		}
		items = append(items, it)
	}
	return writeItems(path, items, inOrder(values), opts, write)
}

// keyOrder puts what people look for first.
func keyOrder(values map[string]any) []string {
	var keys []string
	for k := range values {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b string) int {
		rank := func(s string) int { return slices.Index([]string{"config", "model_args"}, s) }
		if r := rank(b) - rank(a); r != 0 {
			return r
		}
		return strings.Compare(a, b)
	})
	return keys
}

// writeFunc writes a file of one format.
type writeFunc func(w io.Writer, items []*item, values *pickle.Dict, count func(n int)) error

func writeItems(path string, items []*item, values *pickle.Dict, opts []WriteOption, write writeFunc) error {
	o := &writeOptions{}
	for _, set := range opts {
		set(o)
	}
	names := map[string]bool{}
	first := map[any]*item{}
	var total, done int64
	for _, it := range items {
		if it.name == "" || names[it.name] {
			return fmt.Errorf("%s: two tensors named %q, or one without a name", path, it.name)
		}
		names[it.name] = true
		if o.dtype != 0 && store.IsWeight(it.from) {
			if store.Blocked(o.dtype) {
				return fmt.Errorf("%s: conversion to %v, which quantizes: see rwkv.Quantize", path, o.dtype)
			}
			it.dtype = o.dtype
		}
		if it.twin = first[it.same]; it.twin == nil {
			first[it.same] = it
			total += it.size()
		}
	}
	if _, ok := values.Get("model"); ok {
		return fmt.Errorf("%s: a value named \"model\", where the tensors go", path)
	}
	return writeFile(path, func(w io.Writer) error {
		return write(w, items, values, func(n int) {
			if done += int64(n); o.progress != nil {
				o.progress(done, total)
			}
		})
	})
}

// writeTo writes the elements, little-endian, and calls count as it goes.
func (it *item) writeTo(w io.Writer, count func(n int)) error {
	return store.Guard(func() error {
		b, err := it.bytes()
		if err != nil {
			return err
		}
		chunk := (1 << 18) / int(store.Size(it.from)) * int(store.Size(it.from)) // bytes of whole elements
		var out []byte                                                           // a part in another form
		for len(b) > 0 {
			part := b[:min(len(b), chunk)]
			b = b[len(part):]
			if it.dtype != it.from {
				if out, err = convertFloats(out[:0], part, it.from, it.dtype); err != nil {
					return &Error{"", it.name, err}
				}
				part = out
			}
			if store.BigEndianHost && store.Size(it.dtype) > 1 && !store.Blocked(it.dtype) {
				out = append(out[:0], part...)
				store.SwapBytes(out, it.dtype)
				part = out
			}
			if _, err := w.Write(part); err != nil {
				return err
			}
			count(len(part))
		}
		return nil
	})
}

// convertFloats appends the floats of b to dst in another type.
func convertFloats(dst, b []byte, from, to DType) ([]byte, error) {
	if store.Blocked(from) {
		numbers, size := from.Block()
		wide := tensor.NewWeight(from, b, len(b)/size*numbers).Float32().Weight()
		return convertFloats(dst, wide.Bytes(), F32, to)
	}
	for i := range len(b) / int(store.Size(from)) {
		wide := store.Float(b, i, from)
		x := float32(wide)
		inf := math.IsInf(float64(x), 0)
		switch to {
		case F32:
			dst = binary.NativeEndian.AppendUint32(dst, math.Float32bits(x))
		case BF16:
			h := tensor.RoundBF16(x)
			inf = inf || h&0x7fff == 0x7f80
			dst = binary.NativeEndian.AppendUint16(dst, h)
		case F16:
			h := tensor.RoundF16(x)
			inf = inf || h&0x7fff == 0x7c00
			dst = binary.NativeEndian.AppendUint16(dst, h)
		default:
			return nil, errors.New("not a type to convert to")
		}
		if inf && !math.IsInf(wide, 0) {
			return nil, fmt.Errorf("%v is too large for %v", wide, to)
		}
	}
	return dst, nil
}
