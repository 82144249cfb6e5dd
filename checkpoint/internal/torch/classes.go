package torch

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"microrwkv/checkpoint/internal/store"
	"microrwkv/checkpoint/pickle"
)

// Opaque is a value that is not looked into: a numpy array, a random generator's state.
type Opaque string

// PySetState ignores the value's state, as the others do what it is filled with.
func (Opaque) PySetState(any) error { return nil }

// Set ignores an entry.
func (Opaque) Set(key, value any) {}

// Append ignores an element.
func (Opaque) Append(any) {}

// Add ignores an element.
func (Opaque) Add(any) {}

// Class is a class that the table doesn't know, in a file that is opened in spite of that. What a call
// of it makes is opaque.
type Class string

// Call returns an opaque value.
func (c Class) Call(...any) (any, error) { return Opaque(c), nil }

// PyNew returns an opaque value.
func (c Class) PyNew(...any) (any, error) { return Opaque(c), nil }

// findClass is the closed table of what a checkpoint's pickle may refer to: everything else is an
// error that names it, and nothing is ever run.
func (p *parser) findClass(module, name string) (any, error) {
	full := module + "." + name
	if module == "__builtin__" { // Python 2's name, which protocol 2 writes
		full = "builtins." + name
	}
	if c, ok := classes[full]; ok {
		return pickle.Func(func(args []any) (any, error) { return c(p, args) }), nil
	}
	if slices.Contains(constants, full) {
		return Opaque(full), nil
	}
	full = store.Clip(module + "." + name)
	switch {
	case tensorModules[module] && isTensorType(name):
		return Opaque(full), nil
	case module == "torch" || module == "torch.storage" || module == "torch.cuda":
		if d, ok := store.StorageDType(name); ok {
			return storageType{d}, nil
		}
		if name == "UntypedStorage" || name == "_UntypedStorage" {
			return storageType{}, nil
		}
		if d, ok := store.TorchDType(name); ok && module == "torch" {
			return d, nil
		}
	case module == "__torch__" || strings.HasPrefix(module, "__torch__."):
		return nil, fmt.Errorf("class %q: a TorchScript module, not a state_dict", full)
	case strings.HasPrefix(module, "torch.nn.modules"):
		return nil, fmt.Errorf("class %q: a whole pickled module, not its state_dict", full)
	}
	if p.opaque {
		return Class(full), nil
	}
	return nil, fmt.Errorf("class %q is not one that a checkpoint may hold (nothing of it was run); --opaque, in Go checkpoint.Opaque, reads the weights and leaves such values out", full)
}

// A call is what a class or function of the table does. What it allocates is accounted for by
// parser.spend, since a pickle may call it again and again on the same arguments.
type call func(p *parser, args []any) (any, error)

// parser decodes one pickle of a file.
type parser struct {
	load   func(p *parser, id []any) (any, error) // what a persistent id stands for
	left   int64                                  // bytes that calls may still allocate
	opaque bool                                   // classes that the table doesn't know are left out
}

// decode decodes the pickle that data begins with, and returns its length.
func decode(data []byte, opaque bool, load func(p *parser, id []any) (any, error)) (v any, n int, err error) {
	p := &parser{load: load, left: pickle.MaxMemory(len(data)), opaque: opaque}
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

// spendEntries accounts for a dict with the entries of the first argument.
func (p *parser) spendEntries(args []any) error {
	n := 0
	if len(args) > 0 {
		n = pickle.Len(args[0])
	}
	return p.spend(256 + 96*n)
}

// classes is the table, by full name; storages and dtypes are found by findClass.
var classes = map[string]call{
	"torch._utils._rebuild_tensor":                           rebuildTensor,
	"torch._utils._rebuild_tensor_v2":                        rebuildTensor,
	"torch._utils._rebuild_tensor_v3":                        rebuildTensorV3,
	"torch._utils._rebuild_parameter":                        rebuildParameter,
	"torch._utils._rebuild_parameter_with_state":             rebuildParameter,
	"torch._utils._rebuild_device_tensor_from_cpu_tensor":    rebuildParameter,
	"torch._utils._rebuild_qtensor":                          rebuildQuantized,
	"torch._utils._rebuild_sparse_tensor":                    rebuildSparse,
	"torch._utils._rebuild_meta_tensor_no_storage":           rebuildMeta,
	"torch._utils._rebuild_nested_tensor":                    rebuildNested,
	"torch._tensor._rebuild_from_type_v2":                    rebuildFromType,
	"torch.Tensor":                                           noInstance,
	"torch.nn.parameter.Parameter":                           noInstance,
	"torch.nn.parameter.Buffer":                              noInstance,
	"torch.Size":                                             first,
	"torch.device":                                           device,
	"torch.serialization._get_layout":                        first,
	"torch.torch_version.TorchVersion":                       first,
	"torch._C.Generator":                                     unread("torch.Generator"),
	"collections.OrderedDict":                                newOrderedDict,
	"collections.defaultdict":                                newDict,
	"collections.Counter":                                    newDict,
	"collections.deque":                                      newList,
	"argparse.Namespace":                                     newObject,
	"types.SimpleNamespace":                                  newObject,
	"pathlib._local.PosixPath":                               joinPath, // Python 3.13
	"pathlib.PosixPath":                                      joinPath,
	"pathlib._local.WindowsPath":                             joinPath, // Python 3.13
	"pathlib.WindowsPath":                                    joinPath,
	"pathlib._local.PurePosixPath":                           joinPath, // Python 3.13
	"pathlib.PurePosixPath":                                  joinPath,
	"pathlib._local.PureWindowsPath":                         joinPath, // Python 3.13
	"pathlib.PureWindowsPath":                                joinPath,
	"_codecs.encode":                                         codecsEncode,
	"numpy.dtype":                                            numpyDType,
	"numpy.core.multiarray.scalar":                           numpyScalar,
	"numpy._core.multiarray.scalar":                          numpyScalar,
	"numpy.ndarray":                                          unread("numpy.ndarray"),
	"numpy.core.multiarray._reconstruct":                     unread("numpy.ndarray"),
	"numpy._core.multiarray._reconstruct":                    unread("numpy.ndarray"),
	"numpy.core.numeric._frombuffer":                         unread("numpy.ndarray"),
	"numpy._core.numeric._frombuffer":                        unread("numpy.ndarray"),
	"numpy.random._pickle.__randomstate_ctor":                unread("numpy.random.RandomState"),
	"numpy.random._pickle.__generator_ctor":                  unread("numpy.random.Generator"),
	"numpy.random._pickle.__bit_generator_ctor":              unread("numpy.random.BitGenerator"),
	"numpy.random._mt19937.MT19937":                          unread("numpy.random.MT19937"),
	"numpy.random._pcg64.PCG64":                              unread("numpy.random.PCG64"),
	"numpy.random.bit_generator.SeedSequence":                unread("numpy.random.SeedSequence"),
	"numpy.random.bit_generator.__pyx_unpickle_SeedSequence": unread("numpy.random.SeedSequence"),
	"builtins.set":                                           items,
	"builtins.frozenset":                                     items,
	"builtins.list":                                          items,
	"builtins.tuple":                                         items,
	"builtins.dict":                                          newDict,
	"builtins.bytearray":                                     codecsEncode,
	"builtins.bytes":                                         codecsEncode,
	"builtins.complex":                                       newComplex,
	"builtins.int":                                           first,
	"builtins.long":                                          first,
	"builtins.float":                                         first,
	"builtins.bool":                                          first,
	"builtins.str":                                           first,
	"builtins.unicode":                                       first,
	"builtins.range":                                         unread("range"),
	"builtins.xrange":                                        unread("range"),
	"builtins.slice":                                         unread("slice"),
	"builtins.type":                                          unread("type"),
	"datetime.datetime":                                      unread("datetime.datetime"),
	"datetime.date":                                          unread("datetime.date"),
	"datetime.time":                                          unread("datetime.time"),
	"datetime.timedelta":                                     unread("datetime.timedelta"),
	"datetime.timezone":                                      unread("datetime.timezone"),
}

// constants are what is only ever a value, by full name, dtypes of tensors excepted.
var constants = []string{
	"torch.per_tensor_affine", "torch.per_tensor_symmetric", "torch.per_channel_affine", "torch.per_channel_symmetric",
	"torch.per_channel_affine_float_qparams",
	"torch._utils.torch.contiguous_format", "torch._utils.torch.preserve_format",
	"torch._utils.torch.channels_last", "torch._utils.torch.channels_last_3d",
	"torch.int1", "torch.int2", "torch.int3", "torch.int4", "torch.int5", "torch.int6", "torch.int7",
	"torch.uint1", "torch.uint2", "torch.uint3", "torch.uint4", "torch.uint5", "torch.uint6", "torch.uint7",
	"torch.TypedStorage", "torch.storage.TypedStorage", "torch.storage._TypedStorage", "torch.bcomplex32",
	"torch.bits1x8", "torch.bits2x4", "torch.bits4x2",
	"numpy.float16", "numpy.float32", "numpy.float64", "numpy.bool", "numpy.bool_",
	"numpy.int8", "numpy.int16", "numpy.int32", "numpy.int64", "numpy.uint8", "numpy.uint16", "numpy.uint32", "numpy.uint64",
}

// tensorModules have the types of tensors, which are values: torch.FloatTensor.
var tensorModules = map[string]bool{"torch": true, "torch.cuda": true, "torch.sparse": true, "torch.cuda.sparse": true}

// isTensorType reports whether a name is that of the tensors of a storage's type, or of those of PyTorch
// that have no storage of their own.
func isTensorType(name string) bool {
	kind, ok := strings.CutSuffix(name, "Tensor")
	if !ok {
		return false
	}
	_, ok = store.StorageDType(kind + "Storage")
	return ok
}

// unread returns a call that makes a value that is not looked into.
func unread(what string) call {
	return func(*parser, []any) (any, error) { return Opaque(what), nil }
}

// newDict is the call of a dict, OrderedDict excepted, or of its kin in collections.
func newDict(p *parser, args []any) (any, error) {
	if err := p.spendEntries(args); err != nil {
		return nil, err
	}
	return pickle.NewDict(args)
}

// newOrderedDict is the call of an OrderedDict.
func newOrderedDict(p *parser, args []any) (any, error) {
	if err := p.spendEntries(args); err != nil {
		return nil, err
	}
	return pickle.NewOrderedDict(args)
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

// newList is the call of a deque, which is filled later.
func newList(p *parser, args []any) (any, error) {
	if err := p.spend(64); err != nil {
		return nil, err
	}
	return pickle.NewList(), nil
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
