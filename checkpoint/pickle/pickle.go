// Package pickle decodes Python pickles of untrusted files to plain values, with gopickle's
// Unpickler behind a guard. Nothing in a pickle is ever run.
//
// gopickle v0.2.0 trusts its input. Fed as it comes, a few bytes make it allocate any declared
// size (BINUNICODE8, FRAME, LONG4 …), panic (opcode 0xff, LONG1 of no bytes, DICT of an odd number
// of items, unhashable set members), spend quadratic time on a long integer, format a whole tree of
// values into an error text (%#v of whatever stands where a class should, which shared references
// make exponentially large), or resolve some classes without asking FindClass. So a stream is
// first walked by a closed table of opcodes, see opcodes and scan: every length is checked against
// the bytes that are there, the stack is followed with a few bytes per value, what the Unpickler
// will allocate is added up and limited (MaxMemory), and classes may stand only where classes
// belong. The walk hands the stream on, without frames and with every class name marked so that the
// Unpickler asks FindClass for all of them. Panics that remain become errors. The result is
// converted to plain Go values, again with limits: to the depth of nesting, and none may contain
// itself.
package pickle

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"

	"github.com/nlpodyssey/gopickle/pickle"
	"github.com/nlpodyssey/gopickle/types"
)

// Dict is a Python dict or OrderedDict: keys and values in order of insertion, each key once.
type Dict struct {
	Keys, Values []any
}

// Get returns the value of a string key.
func (d *Dict) Get(key string) (any, bool) {
	for i, k := range d.Keys {
		if s, ok := k.(string); ok && s == key {
			return d.Values[i], true
		}
	}
	return nil, false
}

// Tuple is a Python tuple, and List a list, set or frozenset.
type (
	Tuple []any
	List  []any
)

// A Class stands for a Python class or function in a pickle: Call is what REDUCE and NEWOBJ do.
// Among the arguments, tuples are *types.Tuple, lists *types.List and dicts *types.Dict of gopickle
// (Args and Ints help), and ints are int or *big.Int.
type Class interface {
	Call(args ...any) (any, error)
}

// Func is a Class made of a function.
type Func func(args []any) (any, error)

// Call calls the function.
func (f Func) Call(args ...any) (any, error) { return f(args) }

// PyNew does the same, for NEWOBJ.
func (f Func) PyNew(args ...any) (any, error) { return f(args) }

// Decoder says what the pickle's classes and persistent ids stand for.
type Decoder struct {
	// FindClass returns the class of that name, or an error that names it.
	FindClass func(module, name string) (any, error)
	// PersistentLoad returns what a persistent id stands for.
	PersistentLoad func(id any) (any, error)
	// MaxMemory is the most bytes that Decode allocates, if that is less than MaxMemory of the
	// input's length; 0 is no other limit.
	MaxMemory int64
	// Binary refuses protocol 0, whose texts gopickle takes as they are, escapes and all.
	Binary bool
}

// Decode decodes the pickle that data begins with, and returns its value and length in bytes.
// The value is nil, a bool, int64, float64, string, []byte, *big.Int (beyond int64), *Dict, Tuple,
// List, or what FindClass and PersistentLoad made. What is shared in the pickle is shared in the
// value.
//
// It allocates at most MaxMemory(len(data)) bytes, or Decoder.MaxMemory, besides what FindClass and
// PersistentLoad allocate.
func (d Decoder) Decode(data []byte) (value any, n int, err error) {
	limit := MaxMemory(len(data))
	if d.MaxMemory > 0 {
		limit = min(limit, d.MaxMemory)
	}
	return d.decode(data, limit)
}

func (d Decoder) decode(data []byte, limit int64) (value any, n int, err error) {
	defer func() {
		if r := recover(); r != nil {
			value, err = nil, fmt.Errorf("pickle: %s", clip(fmt.Sprint(r)))
		}
	}()
	s := newScanner(data, limit)
	s.binary = d.Binary
	stream, n, err := s.scan()
	if err != nil {
		return nil, 0, err
	}
	u := pickle.NewUnpickler(bytes.NewReader(stream))
	u.FindClass = func(module, name string) (any, error) {
		if module == "" || module[0] != classMark {
			return nil, fmt.Errorf("pickle: class %q that the scan missed", clip(name))
		}
		return d.FindClass(module[1:], name)
	}
	u.PersistentLoad = d.PersistentLoad
	raw, err := u.Load()
	if err != nil {
		return nil, 0, fmt.Errorf("pickle: %w", clipped(err))
	}
	c := converter{done: map[any]converted{}, limit: 1<<16 + 4*int64(n)}
	value, _, err = c.convert(raw, 0)
	if err != nil {
		return nil, 0, fmt.Errorf("pickle: %w", err)
	}
	return value, n, nil
}

// clip shortens a text that may come from the file.
func clip(s string) string {
	const most = 200
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

// clipped shortens an error's text, if that is needed.
func clipped(err error) error {
	if s := err.Error(); len(s) > 400 {
		return errors.New(s[:400] + "…")
	}
	return err
}

// maxDepth is how deep values may be nested: checkpoints need less than ten levels.
const maxDepth = 200

var errDepth = fmt.Errorf("nested deeper than %d levels", maxDepth)

// converter turns gopickle's values into ours.
type converter struct {
	done  map[any]converted // containers, by reference
	limit int64             // parts that a value may have
}

// converted is a container's value, nil while it is in the making, and of how many parts it would
// be if nothing in it were shared. Whoever walks through values pays for each of those: thirty
// lists, each with the next one twice, are a billion.
type converted struct {
	value any
	parts int64
}

func (c *converter) convert(v any, depth int) (any, int64, error) {
	if depth > maxDepth {
		return nil, 0, errDepth
	}
	switch v := v.(type) {
	case int:
		return int64(v), 1, nil
	case *big.Int:
		if v.IsInt64() {
			return v.Int64(), 1, nil
		}
		return v, 1, nil
	case *types.ByteArray:
		return []byte(*v), 1, nil
	case *types.Dict, *types.List, *types.Tuple, *types.Set, *types.FrozenSet, *orderedDict, *attributes:
		got, ok := c.done[v]
		if ok && got.value == nil {
			return nil, 0, errors.New("a value that contains itself")
		}
		if !ok {
			c.done[v] = converted{}
			var err error
			if got.value, got.parts, err = c.container(v, depth+1); err != nil {
				return nil, 0, err
			}
			if got.parts > c.limit {
				return nil, 0, errors.New("a value whose parts are shared too often")
			}
			c.done[v] = got
		}
		return got.value, got.parts, nil
	}
	return v, 1, nil
}

func (c *converter) container(v any, depth int) (any, int64, error) {
	switch v := v.(type) {
	case *types.Tuple:
		items, parts, err := c.items(*v, depth)
		return Tuple(items), parts, err
	case *types.List:
		items, parts, err := c.items(*v, depth)
		return List(items), parts, err
	case *types.Set:
		items, parts, err := c.items(slices.Collect(maps.Keys(*v)), depth)
		return List(items), parts, err
	case *types.FrozenSet:
		items, parts, err := c.items(slices.Collect(maps.Keys(*v)), depth)
		return List(items), parts, err
	case *types.Dict:
		return c.dict(*v, depth)
	case *orderedDict:
		return c.dict(v.entries, depth)
	case *attributes:
		return c.dict(v.entries, depth)
	}
	return nil, 0, fmt.Errorf("a %T", v)
}

func (c *converter) items(items []any, depth int) (out []any, parts int64, err error) {
	out = make([]any, len(items))
	parts = 1
	for i, x := range items {
		var n int64
		if out[i], n, err = c.convert(x, depth); err != nil {
			return nil, 0, err
		}
		parts += n
	}
	return out, parts, nil
}

func (c *converter) dict(entries []types.DictEntry, depth int) (_ any, parts int64, err error) {
	d := &Dict{Keys: make([]any, 0, len(entries)), Values: make([]any, 0, len(entries))}
	at := make(map[any]int, len(entries))
	parts = 1
	for _, e := range entries {
		v, n, err := c.convert(e.Value, depth)
		if err != nil {
			return nil, 0, err
		}
		k, m, err := c.convert(e.Key, depth)
		if err != nil {
			return nil, 0, err
		}
		parts += n + m
		switch k.(type) {
		case string, int64, float64, bool, nil:
			if i, ok := at[k]; ok {
				d.Values[i] = v
				continue
			}
			at[k] = len(d.Keys)
		}
		d.Keys = append(d.Keys, k)
		d.Values = append(d.Values, v)
	}
	return d, parts, nil
}

// orderedDict is a collections.OrderedDict in the making. Its attributes, _metadata of a
// state_dict for one, are dropped.
type orderedDict struct {
	entries []types.DictEntry
}

// NewOrderedDict is the call of collections.OrderedDict: of nothing, or of [(key, value), …].
var NewOrderedDict Func = func(args []any) (any, error) {
	d := &orderedDict{}
	if len(args) == 0 {
		return d, nil
	}
	pairs, ok := Items(args[0])
	if !ok || len(args) > 1 {
		return nil, errors.New("OrderedDict of something else than a list of pairs")
	}
	for _, p := range pairs {
		kv, ok := Items(p)
		if !ok || len(kv) != 2 {
			return nil, errors.New("OrderedDict of something else than a list of pairs")
		}
		d.Set(kv[0], kv[1])
	}
	return d, nil
}

// Set adds an entry; SETITEMS calls it.
func (d *orderedDict) Set(key, value any) {
	d.entries = append(d.entries, types.DictEntry{Key: key, Value: value})
}

// PySetState ignores the attributes that BUILD sets.
func (d *orderedDict) PySetState(any) error { return nil }

// Items returns the elements of a tuple or list among a Class's arguments.
func Items(v any) ([]any, bool) {
	switch v := v.(type) {
	case *types.Tuple:
		return *v, true
	case *types.List:
		return *v, true
	}
	return nil, false
}

// Ints returns a tuple or list of integers, of at most most elements.
func Ints(v any, most int) ([]int64, error) {
	items, ok := Items(v)
	if !ok {
		return nil, fmt.Errorf("a %T, want a tuple of integers", v)
	}
	if len(items) > most {
		return nil, fmt.Errorf("%d dimensions, want at most %d", len(items), most)
	}
	out := make([]int64, len(items))
	for i, x := range items {
		n, ok := Int(x)
		if !ok {
			return nil, fmt.Errorf("a %T, want an integer", x)
		}
		out[i] = n
	}
	return out, nil
}

// Int returns an integer among a Class's arguments, if it fits.
func Int(v any) (int64, bool) {
	switch v := v.(type) {
	case int:
		return int64(v), true
	case int64:
		return v, true
	case *big.Int:
		return v.Int64(), v.IsInt64()
	}
	return 0, false
}

// NewDict is the call of a dict-like class of package collections whose first argument may be a
// default factory, which is dropped.
var NewDict Func = func(args []any) (any, error) {
	if len(args) == 1 {
		if _, ok := args[0].(*types.Dict); ok {
			return &orderedDict{entries: *args[0].(*types.Dict)}, nil
		}
		if _, ok := Items(args[0]); !ok {
			args = nil
		}
	}
	return NewOrderedDict(args)
}

// NewObject is the call of a class whose objects are their attributes: they become a Dict.
var NewObject Func = func(args []any) (any, error) {
	if len(args) != 0 {
		return nil, errors.New("an object with constructor arguments")
	}
	return &attributes{}, nil
}

// attributes is an object in the making.
type attributes struct {
	orderedDict
}

// PySetState sets the attributes, from BUILD.
func (a *attributes) PySetState(state any) error {
	d, ok := state.(*types.Dict)
	if !ok {
		return errors.New("an object whose state is not a dict")
	}
	a.entries = append(a.entries, *d...)
	return nil
}

// NewList returns an empty list, as a Class makes one.
func NewList() any { return types.NewList() }

// Len returns the number of entries of a dict, tuple or list among a Class's arguments, else 0.
func Len(v any) int {
	switch v := v.(type) {
	case *types.Dict:
		return v.Len()
	case *orderedDict:
		return len(v.entries)
	}
	items, _ := Items(v)
	return len(items)
}
