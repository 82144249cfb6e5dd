package checkpoint

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"microrwkv/checkpoint/internal/store"
	"microrwkv/checkpoint/internal/torch"
	"microrwkv/checkpoint/pickle"
)

// File is an open checkpoint: named tensors, and values beside them. It may be used by several
// goroutines at a time, but for Close.
type File struct {
	name    string
	format  Format
	sources []*store.Source
	root    *pickle.Dict // of a PyTorch file; metadata of safetensors
	bare    bool         // the tensors are all there is
	names   []string
	tensors map[string]*store.Tensor
}

// Open opens a checkpoint of any format. It maps the file and reads what describes the tensors;
// their elements are read as they are used. What is wrong with a single tensor is reported by
// Tensor and Verify; what is wrong with the file, by Open.
func Open(path string, opts ...Option) (*File, error) {
	o := newOptions(opts)
	src, err := store.Open(path, o.unmapped)
	if err != nil {
		return nil, err
	}
	f := &File{name: path, sources: []*store.Source{src}}
	if err := store.Guard(func() error { return f.open(o) }); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

// OpenBytes opens a checkpoint that is in memory, an embedded file for one; tensors are views of
// data where that is possible. The name is for errors. data must not be changed meanwhile.
func OpenBytes(name string, data []byte, opts ...Option) (*File, error) {
	f := &File{name: name, sources: []*store.Source{store.Memory(name, data)}}
	if err := f.open(newOptions(opts)); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return f, nil
}

func newOptions(opts []Option) *options {
	o := &options{}
	for _, set := range opts {
		set(o)
	}
	return o
}

// wrappers are the parts of names that wrappers of a module put into them, wherever the module is:
// torch.compile, FullyShardedDataParallel and activation checkpointing.
var wrappers = []string{"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}

// TrimPrefixes returns a tensor's name without what wrappers of a module put into it: "_orig_mod." of
// torch.compile and its like anywhere, and "module." of DistributedDataParallel at the beginning, any
// number of them in any order.
func TrimPrefixes(name string) string {
	parts := strings.Split(name, ".")
	kept := parts[:0]
	for i, p := range parts {
		if last := i == len(parts)-1; !last && (slices.Contains(wrappers, p) || p == "module" && len(kept) == 0) {
			continue
		}
		kept = append(kept, p)
	}
	return strings.Join(kept, ".")
}

// maxKeyParts is how many elements of a tuple that is a key are shown.
const maxKeyParts = 10

// keyText is a dict's key as text: a string itself, anything else as Python writes it.
func keyText(k any) string {
	if s, ok := k.(string); ok {
		return s
	}
	return keyRepr(k)
}

// keyRepr is a dict's key as Python writes it, a string in quotes: different for different keys.
func keyRepr(k any) string {
	switch k := k.(type) {
	case nil:
		return "None"
	case string:
		return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(store.Clip(k)) + "'"
	case int64:
		return strconv.FormatInt(k, 10)
	case float64:
		return strconv.FormatFloat(k, 'g', -1, 64)
	case bool:
		if k {
			return "True"
		}
		return "False"
	case pickle.Tuple:
		var list []string
		for _, x := range k {
			if len(list) == maxKeyParts {
				list = append(list, "…")
				break
			}
			list = append(list, store.Clip(keyRepr(x)))
		}
		if len(list) == 1 {
			return "(" + list[0] + ",)"
		}
		return "(" + strings.Join(list, ", ") + ")"
	case torch.Class:
		return string(k)
	case torch.Opaque:
		return string(k)
	}
	return describe(k)
}

// keyTexts returns the keys of a dict as texts, no two of them the same: where that takes it, strings
// are in quotes, and what is the same even then has a number.
func keyTexts(d *pickle.Dict) []string {
	texts := make([]string, len(d.Keys))
	if !slices.ContainsFunc(d.Keys, func(k any) bool { _, isText := k.(string); return !isText }) {
		for i, k := range d.Keys { // a text twice, of the metadata of several files, is one key
			texts[i] = k.(string)
		}
		return texts
	}
	count := map[string]int{}
	for i, k := range d.Keys {
		texts[i] = keyText(k)
		count[texts[i]]++
	}
	taken := map[string]bool{}
	for i, k := range d.Keys {
		if count[texts[i]] > 1 {
			texts[i] = keyRepr(k)
		}
		unique := texts[i]
		for n := 2; taken[unique]; n++ {
			unique = fmt.Sprintf("%s #%d", texts[i], n)
		}
		texts[i] = unique
		taken[unique] = true
	}
	return texts
}

// keyList names the keys of a dict, for errors.
func keyList(v any) string {
	switch v := v.(type) {
	case pickle.List:
		return fmt.Sprintf("a list of %d: its keys are numbers from 0", len(v))
	case pickle.Tuple:
		return fmt.Sprintf("a tuple of %d: its keys are numbers from 0", len(v))
	}
	d, ok := v.(*pickle.Dict)
	if !ok || len(d.Keys) == 0 {
		return "no keys"
	}
	var list []string
	for _, k := range keyTexts(d) {
		list = append(list, strconv.Quote(store.Clip(k)))
		if len(list) == 10 {
			list = append(list, "…")
			break
		}
	}
	return strings.Join(list, ", ")
}

// hasTensors reports whether a value, or one in it, is a tensor, scalars aside.
func hasTensors(v any) bool {
	switch v := v.(type) {
	case *store.Tensor:
		return len(v.Shape) > 0
	case pickle.List:
		return slices.ContainsFunc(v, hasTensors)
	case pickle.Tuple:
		return slices.ContainsFunc(v, hasTensors)
	case *pickle.Dict:
		return slices.ContainsFunc(v.Values, hasTensors)
	}
	return false
}

// describe says what a value is, for errors.
func describe(v any) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case *store.Tensor:
		return "a lone tensor"
	case *pickle.Dict:
		return "a dict"
	case pickle.List:
		return "a list"
	case pickle.Tuple:
		return "a tuple"
	case string:
		return "a string"
	case int64:
		return "an integer"
	case float64:
		return "a number"
	case bool:
		return "a bool"
	case torch.Opaque:
		return "a " + string(v)
	case torch.Class:
		return "the class " + string(v)
	case DType:
		return "torch." + store.DTypes[v].Torch
	}
	if torch.IsStorage(v) {
		return "a lone storage"
	}
	return "a value of some other type"
}

// ErrFileChanged is returned when a mapped file can't be read any more: it was cut short while it was
// open, or its disk fails. Of a file that is written to, tensors are what happens to be read.
var ErrFileChanged = store.ErrFileChanged

// Guard calls read, which reads elements of the file's tensors, on this goroutine or by operations of
// package tensor. If the file can't be read any more, that is an error, which wraps ErrFileChanged and
// names the file, where the program would end otherwise. Other errors and panics are read's own.
func (f *File) Guard(read func() error) error {
	err := store.Guard(read)
	if err == ErrFileChanged {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	return err
}

// Close gives the mapping back. Tensors that view it must not be used any more.
func (f *File) Close() error {
	var errs []error
	for _, s := range f.sources {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

// Name returns the path that the file was opened by.
func (f *File) Name() string { return f.name }

// Format returns how the file is encoded.
func (f *File) Format() Format { return f.format }

// Bare reports whether the file is the tensors alone, a state_dict for one, and not a dict that has
// them among other values.
func (f *File) Bare() bool { return f.bare }

// Names returns the names of the tensors, in the order of the file. The caller must not change it.
func (f *File) Names() []string { return f.names }
