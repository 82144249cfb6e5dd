package checkpoint

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"microrwkv/checkpoint/internal/pickle"
)

// Format is how a file is encoded.
type Format string

// The formats of files.
const (
	Zip         Format = "zip"         // torch.save since PyTorch 1.6
	Legacy      Format = "legacy"      // torch.save before
	Safetensors Format = "safetensors" // one file, or several with an index
)

// File is an open checkpoint: named tensors, and values beside them. It may be used by several
// goroutines at a time, but for Close.
type File struct {
	name    string
	format  Format
	sources []*source
	root    *pickle.Dict // of a PyTorch file; metadata of safetensors
	bare    bool         // the tensors are all there is
	names   []string
	tensors map[string]*stored
}

// Open opens a checkpoint of any format. It maps the file and reads what describes the tensors;
// their elements are read as they are used. What is wrong with a single tensor is reported by
// Tensor and Verify; what is wrong with the file, by Open.
func Open(path string, opts ...Option) (*File, error) {
	o := newOptions(opts)
	src, err := openSource(path, o.unmapped)
	if err != nil {
		return nil, err
	}
	f := &File{name: path, sources: []*source{src}}
	if err := guard(func() error { return f.open(o) }); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

// OpenBytes opens a checkpoint that is in memory, an embedded file for one; tensors are views of
// data where that is possible. The name is for errors. data must not be changed meanwhile.
func OpenBytes(name string, data []byte, opts ...Option) (*File, error) {
	f := &File{name: name, sources: []*source{{name: name, size: int64(len(data)), data: data}}}
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

// open finds out what the file is, and what is in it.
func (f *File) open(o *options) error {
	src := f.sources[0]
	head, err := src.bytes(0, min(src.size, 512))
	if err != nil {
		return err
	}
	switch what := sniff(head, src.size); {
	case what == isZip:
		f.format = Zip
		root, err := openZip(src)
		if err != nil {
			return err
		}
		return f.selectTensors(root, o)
	case what == isLegacyFile:
		f.format = Legacy
		root, err := openLegacy(src)
		if err != nil {
			return err
		}
		return f.selectTensors(root, o)
	case what == isSafe:
		f.format = Safetensors
		tensors, metadata, err := openSafetensors(src)
		if err != nil {
			return err
		}
		f.root, f.bare = metadataValues(metadata), true
		return f.setTensors(tensors)
	case what == isIndex && o.shard:
		return errors.New("an index in an index")
	case what == isIndex:
		f.format = Safetensors
		return f.openShards(o)
	default:
		return errors.New(string(what))
	}
}

// selectTensors finds the state_dict in what a pickle holds.
func (f *File) selectTensors(root any, o *options) error {
	top, ok := root.(*pickle.Dict)
	f.root = top
	if len(o.key) > 0 {
		v, ok := lookup(root, o.key)
		if !ok || !hasTensors(v) {
			return fmt.Errorf("no tensors under %q; at the top there are %s", strings.Join(o.key, "."), keyList(root))
		}
		return f.setTensors(v)
	}
	if !ok {
		return fmt.Errorf("%s, not a checkpoint: want a dict with the weights under \"model\", or a state_dict", describe(root))
	}
	for _, key := range modelKeys {
		if v, _ := top.Get(key); isDictOfTensors(v) {
			return f.setTensors(v)
		}
	}
	if isStateDict(top) {
		f.bare = true
		return f.setTensors(top)
	}
	if rest := withoutTraining(top); hasTensors(rest) {
		return f.setTensors(rest)
	}
	for _, key := range modelKeys {
		if v, ok := top.Get(key); ok {
			return fmt.Errorf("no weights under %q, which is %s", key, describe(v))
		}
	}
	return fmt.Errorf("no weights: want them under \"model\", or at the top; there are %s", keyList(top))
}

// modelKeys are where training programs put a state_dict.
var modelKeys = []string{"model", "state_dict", "model_state_dict"}

func isDictOfTensors(v any) bool {
	d, ok := v.(*pickle.Dict)
	return ok && hasTensors(d)
}

// isStateDict reports whether a dict is a bare state_dict: it has tensors, scalars aside, and is
// not what a training program saves beside them.
func isStateDict(d *pickle.Dict) bool {
	for _, key := range []string{"model_args", "optimizer", "optimizer_state_dict"} {
		if _, ok := d.Get(key); ok {
			return false
		}
	}
	return slices.ContainsFunc(d.Values, func(v any) bool {
		t, ok := v.(*stored)
		return ok && len(t.shape) > 0
	})
}

// withoutTraining returns a dict without what optimizers and their schedulers keep.
func withoutTraining(d *pickle.Dict) *pickle.Dict {
	out := &pickle.Dict{}
	for i, k := range d.Keys {
		if s := strings.ToLower(keyText(k)); !strings.Contains(s, "optim") && !strings.Contains(s, "scheduler") {
			out.Keys, out.Values = append(out.Keys, k), append(out.Values, d.Values[i])
		}
	}
	return out
}

// setTensors makes the tensors of a dict or list, and of those in it, the file's.
func (f *File) setTensors(v any) error {
	f.tensors = map[string]*stored{}
	room := maxNames
	if err := f.addTensors("", v, &room); err != nil {
		return err
	}
	f.limitSharing()
	return nil
}

// addTensors adds the tensor v, or those in v, under a name or with names that begin with it; room
// is for names.
func (f *File) addTensors(name string, v any, room *int) error {
	if *room -= len(name); *room < 0 {
		return errors.New("names of tensors that take too much memory")
	}
	prefix := name
	if name != "" {
		prefix += "."
	}
	switch v := v.(type) {
	case *stored:
		if _, ok := f.tensors[name]; ok {
			return fmt.Errorf("two tensors named %q", clip(name))
		}
		f.tensors[name] = v
		f.names = append(f.names, name)
	case *pickle.Dict:
		for i, k := range v.Keys {
			if !holds(v.Values[i]) {
				continue
			}
			if err := f.addTensors(prefix+keyText(k), v.Values[i], room); err != nil {
				return err
			}
		}
	case pickle.List:
		return f.addList(prefix, v, room)
	case pickle.Tuple:
		return f.addList(prefix, v, room)
	}
	return nil
}

func (f *File) addList(prefix string, list []any, room *int) error {
	for i, v := range list {
		if !holds(v) {
			continue
		}
		if err := f.addTensors(prefix+strconv.Itoa(i), v, room); err != nil {
			return err
		}
	}
	return nil
}

// holds reports whether a value is a tensor, or may have some in it.
func holds(v any) bool {
	switch v.(type) {
	case *stored, *pickle.Dict, pickle.List, pickle.Tuple:
		return true
	}
	return false
}

// limitSharing marks tensors that, with those before them, have so many elements in common that
// reading all would take many times what the file has: a few bytes of pickle can ask for another
// gigabyte of copies. Tied tensors that are views of the file cost nothing.
func (f *File) limitSharing() {
	room := int64(sharedFloor)
	for _, s := range f.sources {
		room += sharedFactor * s.size
	}
	seen := map[identity]bool{}
	for _, name := range f.names {
		t := f.tensors[name]
		if t.check() != nil {
			continue
		}
		id := t.identity()
		if seen[id] && t.dtype != F64 && t.contiguous() && !t.rec.swap {
			continue
		}
		seen[id] = true
		if room -= t.numel() * t.dtype.Size(); room < 0 {
			t.err = errors.New("it shares its elements with too many others")
		}
	}
}

// Reading all tensors takes at most sharedFactor times the file's size and sharedFloor bytes.
const (
	sharedFactor = 16
	sharedFloor  = 16 << 20
)

// maxNames is how many bytes the tensors' names may take, which nested dicts can make of few.
const maxNames = 16 << 20

// TrimPrefixes returns a tensor's name without the prefixes that wrappers of a module put before
// it: "_orig_mod." of torch.compile and "module." of DistributedDataParallel, any number of them
// in any order.
func TrimPrefixes(name string) string {
	for {
		rest := strings.TrimPrefix(strings.TrimPrefix(name, "_orig_mod."), "module.")
		if rest == name {
			return name
		}
		name = rest
	}
}

// lookup follows keys through nested dicts and lists.
func lookup(v any, keys []string) (_ any, ok bool) {
	for _, key := range keys {
		switch in := v.(type) {
		case *pickle.Dict:
			i := slices.IndexFunc(in.Keys, func(k any) bool { return keyText(k) == key })
			if i < 0 {
				return nil, false
			}
			v = in.Values[i]
		case pickle.List:
			if v, ok = element(in, key); !ok {
				return nil, false
			}
		case pickle.Tuple:
			if v, ok = element(in, key); !ok {
				return nil, false
			}
		default:
			return nil, false
		}
	}
	return v, true
}

// element returns an element of a list by its index in decimal.
func element(list []any, key string) (any, bool) {
	i, err := strconv.Atoi(key)
	if err != nil || i < 0 || i >= len(list) {
		return nil, false
	}
	return list[i], true
}

// keyText is a dict's key as text: of integers the decimal digits.
func keyText(k any) string {
	switch k := k.(type) {
	case string:
		return k
	case int64:
		return strconv.FormatInt(k, 10)
	case float64:
		return strconv.FormatFloat(k, 'g', -1, 64)
	case bool:
		return strconv.FormatBool(k)
	}
	return describe(k)
}

// keyList names the keys of a dict, for errors.
func keyList(v any) string {
	d, ok := v.(*pickle.Dict)
	if !ok || len(d.Keys) == 0 {
		return "no keys"
	}
	var list []string
	for _, k := range d.Keys {
		list = append(list, strconv.Quote(clip(keyText(k))))
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
	case *stored:
		return len(v.shape) > 0
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
	case *stored:
		return "a lone tensor"
	case *storageRef, storageType:
		return "a lone storage"
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
	case opaque:
		return "a " + string(v)
	case DType:
		return "torch." + dtypes[v].torch
	}
	return "a value of some other type"
}

// Close gives the mapping back. Tensors that view it must not be used any more.
func (f *File) Close() error {
	var errs []error
	for _, s := range f.sources {
		if s.close != nil {
			errs = append(errs, s.close())
			s.close, s.data, s.file, s.size = nil, nil, closedFile{}, 0
		}
	}
	return errors.Join(errs...)
}

// closedFile is what a closed source reads from.
type closedFile struct{}

func (closedFile) ReadAt([]byte, int64) (int, error) { return 0, io.ErrClosedPipe }

// Name returns the path that the file was opened by.
func (f *File) Name() string { return f.name }

// Format returns how the file is encoded.
func (f *File) Format() Format { return f.format }

// Bare reports whether the file is the tensors alone, a state_dict for one, and not a dict that has
// them among other values.
func (f *File) Bare() bool { return f.bare }

// Names returns the names of the tensors, in the order of the file. The caller must not change it.
func (f *File) Names() []string { return f.names }
