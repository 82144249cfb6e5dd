package torch

import (
	"errors"
	"fmt"

	"microrwkv/checkpoint/internal/store"
	"microrwkv/checkpoint/pickle"
)

var errArgs = errors.New("wrong arguments")

// rebuildTensor makes a tensor of (storage, offset, size, stride, …); the rest is whether it
// requires a gradient, its hooks and, seldom, {"conj": True} or {"neg": True}.
func rebuildTensor(p *parser, args []any) (any, error) {
	return rebuild(p, args, 6, func(s *storageRef) store.DType { return s.dtype })
}

// rebuildTensorV3 is for types without a storage class of their own: the dtype is argument 6.
func rebuildTensorV3(p *parser, args []any) (any, error) {
	return rebuild(p, args, 7, func(*storageRef) store.DType {
		if len(args) < 7 {
			return 0
		}
		d, _ := args[6].(store.DType)
		return d
	})
}

func rebuild(p *parser, args []any, metadata int, dtype func(*storageRef) store.DType) (any, error) {
	if len(args) < 4 {
		return nil, fmt.Errorf("a tensor: %w", errArgs)
	}
	if err := p.spend(256 + 16*(pickle.Len(args[2])+pickle.Len(args[3]))); err != nil {
		return nil, err
	}
	s, ok := args[0].(*storageRef)
	offset, ok2 := pickle.Int(args[1])
	if !ok || !ok2 {
		return nil, fmt.Errorf("a tensor: %w", errArgs)
	}
	shape, err := pickle.Ints(args[2], store.MaxDims)
	if err != nil {
		return nil, fmt.Errorf("a tensor's shape: %w", err)
	}
	stride, err := pickle.Ints(args[3], store.MaxDims)
	if err != nil {
		return nil, fmt.Errorf("a tensor's strides: %w", err)
	}
	t := newStored(s, dtype(s), offset, shape, stride)
	if len(args) > metadata && pickle.Len(args[metadata]) > 0 {
		t.Special = "a conjugated or negated view"
	}
	if t.Err != nil { // its text has the shape
		if err := p.spend(1024 + 64*(len(shape)+len(stride))); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// rebuildParameter makes an nn.Parameter of (data, …): its data.
func rebuildParameter(p *parser, args []any) (any, error) {
	if len(args) > 0 {
		if t, ok := args[0].(*store.Tensor); ok {
			return t, nil
		}
	}
	return nil, fmt.Errorf("a parameter: %w", errArgs)
}

// rebuildQuantized makes a quantized tensor of (storage, offset, size, stride, parameters, …): its
// elements are integers, whose scale is not kept.
func rebuildQuantized(p *parser, args []any) (any, error) {
	v, err := rebuildTensor(p, args[:min(len(args), 4)])
	if err != nil {
		return nil, err
	}
	v.(*store.Tensor).Special = "a quantized tensor"
	return v, nil
}

// rebuildSparse makes a sparse tensor of (layout, (indices, …, values, size, …)).
func rebuildSparse(p *parser, args []any) (any, error) {
	if len(args) == 2 {
		if parts, ok := pickle.Items(args[1]); ok && len(parts) > 2 {
			at := len(parts) - 1 // of the size: COO has a bool after it
			if _, last := parts[at].(bool); last {
				at--
			}
			if values, ok := parts[at-1].(*store.Tensor); ok {
				return describeOnly(p, "a sparse tensor", values.DType, parts[at])
			}
		}
	}
	return nil, fmt.Errorf("a sparse tensor: %w", errArgs)
}

// rebuildMeta makes a tensor without elements of (dtype, size, stride, requires_grad).
func rebuildMeta(p *parser, args []any) (any, error) {
	if len(args) > 2 {
		if d, ok := args[0].(store.DType); ok {
			return describeOnly(p, "a tensor on the meta device, without elements", d, args[1])
		}
	}
	return nil, fmt.Errorf("a meta tensor: %w", errArgs)
}

// rebuildNested makes a nested tensor of (buffer, sizes, strides, offsets), told by the buffer.
func rebuildNested(p *parser, args []any) (any, error) {
	if len(args) == 4 {
		if t, ok := args[0].(*store.Tensor); ok {
			if err := p.spend(256); err != nil {
				return nil, err
			}
			nested := *t
			nested.Special = "a nested tensor"
			return &nested, nil
		}
	}
	return nil, fmt.Errorf("a nested tensor: %w", errArgs)
}

// describeOnly returns a tensor that has a dtype and a shape, and nothing that can be read.
func describeOnly(p *parser, special string, dtype store.DType, size any) (any, error) {
	if err := p.spend(1024 + 64*pickle.Len(size)); err != nil {
		return nil, err
	}
	shape, err := pickle.Ints(size, store.MaxDims)
	if err != nil {
		return nil, fmt.Errorf("a tensor's shape: %w", err)
	}
	stride := store.RowMajor(shape)
	if _, _, ok := store.Extent(shape, stride); !ok || dtype == 0 {
		return nil, fmt.Errorf("%s of shape %v", special, shape)
	}
	return &store.Tensor{Rec: store.NoRecord, DType: dtype, Shape: shape, Stride: stride, Special: special}, nil
}

// rebuildFromType makes a tensor of (function, class, arguments, attributes), as PyTorch writes
// tensors that have attributes.
func rebuildFromType(p *parser, args []any) (any, error) {
	if len(args) >= 3 {
		f, ok := args[0].(pickle.Class)
		list, ok2 := pickle.Items(args[2])
		if ok && ok2 {
			v, err := f.Call(list...)
			if t, ok := v.(*store.Tensor); ok || err != nil {
				return t, err
			}
		}
	}
	return nil, fmt.Errorf("a tensor with attributes: %w", errArgs)
}
