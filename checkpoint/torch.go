package checkpoint

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strings"

	"microrwkv/checkpoint/internal/pickle"
)

// record is the bytes of one PyTorch storage, or of a tensor of a safetensors file.
type record struct {
	src  *source
	key  string // as the pickle names it
	name string // of the zip's entry
	off  int64  // in src
	size int64  // bytes
	swap bool   // the elements' bytes are in the other order than this machine's
	crc  uint32
	sum  bool  // there is a crc
	err  error // why the record can't be used
}

// storageRef is a typed storage, or a part of one, as a pickle refers to it.
type storageRef struct {
	rec    *record
	dtype  DType // 0 for an untyped storage, whose elements are bytes
	offset int64 // first element in the record, in elements
	numel  int64
}

// size returns the bytes of an element.
func (s *storageRef) size() int64 {
	if s.dtype == 0 {
		return 1
	}
	return s.dtype.Size()
}

// stored is a tensor of a file: a strided window on a record.
type stored struct {
	rec    *record
	dtype  DType
	offset int64 // first element in the record, in elements
	shape  []int64
	stride []int64 // in elements
	err    error   // why the tensor can't be used
}

// PySetState ignores the attributes of a Tensor, which BUILD sets.
func (t *stored) PySetState(any) error { return nil }

// maxDims is the most dimensions that PyTorch's tensors have.
const maxDims = 64

// newStored returns a tensor; if something is wrong with it, err says so.
func newStored(s *storageRef, dtype DType, offset int64, shape, stride []int64) *stored {
	t := &stored{rec: s.rec, dtype: dtype, shape: shape, stride: stride}
	if dtype == 0 {
		t.err = errors.New("a tensor without a dtype")
		return t
	}
	if len(shape) != len(stride) {
		t.err = fmt.Errorf("shape %v with strides %v", shape, stride)
		return t
	}
	t.offset = offset
	if s.offset > 0 {
		t.offset += s.offset
	}
	n, last, ok := extent(shape, stride)
	if !ok || offset < 0 || t.offset < 0 || last > math.MaxInt64-t.offset {
		t.err = fmt.Errorf("shape %v, strides %v, offset %d make no sense", shape, stride, offset)
		return t
	}
	if n == 0 {
		return t
	}
	hi, bytes := bits.Mul64(uint64(offset+last), uint64(dtype.Size()))
	have := uint64(s.numel) * uint64(s.size()) // checked when s was made
	if hi != 0 || bytes > have {
		t.err = fmt.Errorf("shape %v, strides %v, offset %d need more than the %d bytes of storage %q", shape, stride, offset, have, s.rec.key)
	}
	return t
}

// extent returns the number of elements of a shape, and how many elements of its storage it spans,
// counted from its first one. It is not ok if they are negative or too many.
func extent(shape, stride []int64) (n, last int64, ok bool) {
	n, last = 1, 1
	for i, d := range shape {
		if d < 0 || stride[i] < 0 {
			return 0, 0, false
		}
		if d == 0 {
			n = 0
		}
	}
	if n == 0 {
		return 0, 0, true
	}
	for i, d := range shape {
		if n > math.MaxInt64/d || d > 1 && stride[i] > (math.MaxInt64-last)/(d-1) {
			return 0, 0, false
		}
		n *= d
		last += (d - 1) * stride[i]
	}
	return n, last, true
}

// numel returns the number of elements.
func (t *stored) numel() int64 {
	n, _, _ := extent(t.shape, t.stride)
	return n
}

// contiguous reports whether the elements follow each other in row-major order.
func (t *stored) contiguous() bool {
	want := int64(1)
	for i := len(t.shape) - 1; i >= 0; i-- {
		if t.shape[i] != 1 && t.stride[i] != want {
			return t.numel() == 0
		}
		want *= t.shape[i]
	}
	return true
}

// opaque is a value that is not looked into: a numpy array, a random generator's state.
type opaque string

// PySetState ignores the value's state.
func (opaque) PySetState(any) error { return nil }

// storageType is a class such as torch.FloatStorage.
type storageType struct {
	dtype DType // 0: untyped
}

// findClass is the closed table of what a checkpoint's pickle may refer to: everything else is an
// error that names it, and nothing is ever run.
func (p *parser) findClass(module, name string) (any, error) {
	if c, ok := classes[module+"."+name]; ok {
		return pickle.Func(func(args []any) (any, error) { return c(p, args) }), nil
	}
	full := clip(module + "." + name)
	switch {
	case module == "torch" || module == "torch.storage" || module == "torch.cuda":
		if d, ok := storageDType(name); ok {
			return storageType{d}, nil
		}
		if name == "UntypedStorage" || name == "_UntypedStorage" {
			return storageType{}, nil
		}
		if d, ok := torchDType(name); ok && module == "torch" {
			return d, nil
		}
	case module == "__torch__" || strings.HasPrefix(module, "__torch__."):
		return nil, fmt.Errorf("class %q: a TorchScript module, not a state_dict", full)
	case strings.HasPrefix(module, "torch.nn.modules"):
		return nil, fmt.Errorf("class %q: a whole pickled module, not its state_dict", full)
	}
	return nil, fmt.Errorf("class %q is not one that a checkpoint may hold (nothing of it was run)", full)
}

// A call is what a class or function of the table does. What it allocates is accounted for by
// parser.spend, since a pickle may call it again and again on the same arguments.
type call func(p *parser, args []any) (any, error)

// parser decodes one pickle of a file.
type parser struct {
	load func(p *parser, id []any) (any, error) // what a persistent id stands for
	left int64                                  // bytes that calls may still allocate
}

// decode decodes the pickle that data begins with, and returns its length.
func decode(data []byte, load func(p *parser, id []any) (any, error)) (v any, n int, err error) {
	p := &parser{load: load, left: pickle.MaxMemory(len(data))}
	return pickle.Decoder{FindClass: p.findClass, PersistentLoad: p.persistentLoad}.Decode(data)
}

func (p *parser) persistentLoad(id any) (any, error) {
	items, ok := pickle.Items(id)
	if !ok || p.load == nil {
		return nil, errors.New("a persistent id that torch.save does not write")
	}
	if err := p.spend(128); err != nil {
		return nil, err
	}
	return p.load(p, items)
}

// spend accounts for memory that a call allocates.
func (p *parser) spend(n int) error {
	if p.left -= int64(n); p.left < 0 {
		return errors.New("calls that take too much memory")
	}
	return nil
}

// classes is the table, by full name; storages and dtypes are found by findClass.
var classes = map[string]call{
	"torch._utils._rebuild_tensor":               rebuildTensor,
	"torch._utils._rebuild_tensor_v2":            rebuildTensor,
	"torch._utils._rebuild_tensor_v3":            rebuildTensorV3,
	"torch._utils._rebuild_parameter":            rebuildParameter,
	"torch._utils._rebuild_parameter_with_state": rebuildParameter,
	"torch._tensor._rebuild_from_type_v2":        rebuildFromType,
	"torch.Tensor":                               noInstance,
	"torch.nn.parameter.Parameter":               noInstance,
	"torch.nn.parameter.Buffer":                  noInstance,
	"torch.Size":                                 first,
	"torch.device":                               device,
	"torch.serialization._get_layout":            first,
	"collections.defaultdict":                    newDict,
	"collections.Counter":                        newDict,
	"argparse.Namespace":                         newObject,
	"types.SimpleNamespace":                      newObject,
	"pathlib.PosixPath":                          joinPath,
	"pathlib.WindowsPath":                        joinPath,
	"pathlib.PurePosixPath":                      joinPath,
	"pathlib.PureWindowsPath":                    joinPath,
	"_codecs.encode":                             codecsEncode,
	"numpy.dtype":                                numpyDType,
	"numpy.core.multiarray.scalar":               numpyScalar,
	"numpy._core.multiarray.scalar":              numpyScalar,
	"numpy.ndarray":                              numpyArray,
	"numpy.core.multiarray._reconstruct":         numpyArray,
	"numpy._core.multiarray._reconstruct":        numpyArray,
	"numpy.core.numeric._frombuffer":             numpyArray,
	"numpy._core.numeric._frombuffer":            numpyArray,
	"builtins.set":                               items,
	"__builtin__.set":                            items,
	"builtins.frozenset":                         items,
	"__builtin__.frozenset":                      items,
	"builtins.bytearray":                         codecsEncode,
	"__builtin__.bytearray":                      codecsEncode,
	"builtins.complex":                           newComplex,
	"__builtin__.complex":                        newComplex,
	"builtins.int":                               first,
	"builtins.float":                             first,
	"builtins.list":                              items,
	"builtins.dict":                              newDict,
	"__builtin__.int":                            first,
	"__builtin__.float":                          first,
	"__builtin__.list":                           items,
	"__builtin__.dict":                           newDict,
}

var errArgs = errors.New("wrong arguments")

// rebuildTensor makes a tensor of (storage, offset, size, stride, …); the rest is whether it
// requires a gradient, its hooks and, seldom, {"conj": True} or {"neg": True}.
func rebuildTensor(p *parser, args []any) (any, error) {
	return rebuild(p, args, 6, func(s *storageRef) DType { return s.dtype })
}

// rebuildTensorV3 is for types without a storage class of their own: the dtype is argument 6.
func rebuildTensorV3(p *parser, args []any) (any, error) {
	return rebuild(p, args, 7, func(*storageRef) DType {
		if len(args) < 7 {
			return 0
		}
		d, _ := args[6].(DType)
		return d
	})
}

func rebuild(p *parser, args []any, metadata int, dtype func(*storageRef) DType) (any, error) {
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
	shape, err := pickle.Ints(args[2], maxDims)
	if err != nil {
		return nil, fmt.Errorf("a tensor's shape: %w", err)
	}
	stride, err := pickle.Ints(args[3], maxDims)
	if err != nil {
		return nil, fmt.Errorf("a tensor's strides: %w", err)
	}
	t := newStored(s, dtype(s), offset, shape, stride)
	if len(args) > metadata && pickle.Len(args[metadata]) > 0 {
		t.err = errors.New("a conjugated or negated view")
	}
	if t.err != nil { // its text has the shape
		if err := p.spend(1024 + 64*(len(shape)+len(stride))); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// rebuildParameter makes an nn.Parameter of (data, …): its data.
func rebuildParameter(p *parser, args []any) (any, error) {
	if len(args) > 0 {
		if t, ok := args[0].(*stored); ok {
			return t, nil
		}
	}
	return nil, fmt.Errorf("a parameter: %w", errArgs)
}

// rebuildFromType makes a tensor of (function, class, arguments, attributes), as PyTorch writes
// tensors that have attributes.
func rebuildFromType(p *parser, args []any) (any, error) {
	if len(args) >= 3 {
		f, ok := args[0].(pickle.Class)
		list, ok2 := pickle.Items(args[2])
		if ok && ok2 {
			v, err := f.Call(list...)
			if t, ok := v.(*stored); ok || err != nil {
				return t, err
			}
		}
	}
	return nil, fmt.Errorf("a tensor with attributes: %w", errArgs)
}

// newDict is the call of a dict, OrderedDict excepted, or of its kin in collections.
func newDict(p *parser, args []any) (any, error) {
	n := 0
	if len(args) > 0 {
		n = pickle.Len(args[0])
	}
	if err := p.spend(256 + 96*n); err != nil {
		return nil, err
	}
	return pickle.NewDict(args)
}

// newObject is the call of a class whose objects are their attributes.
func newObject(p *parser, args []any) (any, error) {
	if err := p.spend(256); err != nil {
		return nil, err
	}
	return pickle.NewObject(args)
}

func noInstance(*parser, []any) (any, error) {
	return nil, errors.New("a tensor that torch.save did not write")
}

// first is a call whose value is its argument.
func first(p *parser, args []any) (any, error) {
	if len(args) == 0 {
		return int64(0), nil
	}
	return args[0], nil
}

// items is the call of a collection.
func items(p *parser, args []any) (any, error) {
	if err := p.spend(64); err != nil {
		return nil, err
	}
	if len(args) == 0 {
		return pickle.NewList(), nil
	}
	if _, ok := pickle.Items(args[0]); !ok {
		return nil, fmt.Errorf("a collection: %w", errArgs)
	}
	return args[0], nil
}

// device is torch.device("cuda", 0), as text.
func device(p *parser, args []any) (any, error) {
	if err := p.spend(64); err != nil {
		return nil, err
	}
	if len(args) > 0 {
		if s, ok := args[0].(string); ok && len(s) < 32 {
			if len(args) > 1 {
				if n, ok := pickle.Int(args[1]); ok {
					s = fmt.Sprintf("%s:%d", s, n)
				}
			}
			return s, nil
		}
	}
	return nil, fmt.Errorf("torch.device: %w", errArgs)
}

func joinPath(p *parser, args []any) (any, error) {
	if err := p.spend(16 * len(args)); err != nil {
		return nil, err
	}
	parts := make([]string, len(args))
	size := 0
	for i, a := range args {
		s, ok := a.(string)
		if size += len(s) + 1; !ok {
			return nil, fmt.Errorf("a path: %w", errArgs)
		}
		parts[i] = s
	}
	if err := p.spend(2 * size); err != nil {
		return nil, err
	}
	return strings.Replace(strings.Join(parts, "/"), "//", "/", 1), nil
}

func newComplex(p *parser, args []any) (any, error) {
	if len(args) == 2 {
		re, ok := args[0].(float64)
		im, ok2 := args[1].(float64)
		if ok && ok2 {
			return complex(re, im), nil
		}
	}
	return nil, fmt.Errorf("complex: %w", errArgs)
}
