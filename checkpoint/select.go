package checkpoint

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"microrwkv/checkpoint/internal/store"
	"microrwkv/checkpoint/pickle"
)

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
		t, ok := v.(*store.Tensor)
		return ok && len(t.Shape) > 0
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
	f.tensors = map[string]*store.Tensor{}
	room := maxNames
	if err := f.addTensors("", v, &room); err != nil {
		return err
	}
	f.limitSharing()
	return f.overlap()
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
	case *store.Tensor:
		if _, ok := f.tensors[name]; ok {
			return fmt.Errorf("two tensors named %q", store.Clip(name))
		}
		f.tensors[name] = v
		f.names = append(f.names, name)
	case *pickle.Dict:
		for i, k := range keyTexts(v) {
			if !holds(v.Values[i]) {
				continue
			}
			if err := f.addTensors(prefix+k, v.Values[i], room); err != nil {
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
	case *store.Tensor, *pickle.Dict, pickle.List, pickle.Tuple:
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
		room += sharedFactor * s.Size
	}
	seen := map[store.Identity]bool{}
	for _, name := range f.names {
		t := f.tensors[name]
		if t.Check() != nil {
			continue
		}
		id := t.Identity()
		if seen[id] && t.DType != F64 && t.Contiguous() && !t.Rec.Swap {
			continue
		}
		seen[id] = true
		if room -= store.Bytes(t.DType, t.Numel()); room < 0 {
			t.Err = errors.New("it shares its elements with too many others")
		}
	}
}

// overlap reports records that have bytes in common: thousands of entries of a zip for the same
// bytes, each of which would be checked, take no more than a few.
func (f *File) overlap() error {
	seen := map[*store.Record]bool{}
	var list []*store.Record
	for _, name := range f.names {
		if rec := f.tensors[name].Rec; !seen[rec] && rec.Locate() == nil && rec.Size > 0 {
			seen[rec] = true
			list = append(list, rec)
		}
	}
	slices.SortFunc(list, func(x, y *store.Record) int {
		return cmp.Or(cmp.Compare(x.Src.Name, y.Src.Name), cmp.Compare(x.Off, y.Off), cmp.Compare(x.Name, y.Name))
	})
	for i, rec := range list {
		if i > 0 && rec.Src == list[i-1].Src && rec.Off < list[i-1].Off+list[i-1].Size {
			return fmt.Errorf("records %q and %q overlap", store.Clip(list[i-1].Name), store.Clip(rec.Name))
		}
	}
	return nil
}

// Reading all tensors takes at most sharedFactor times the file's size and sharedFloor bytes.
const (
	sharedFactor = 16
	sharedFloor  = 16 << 20
)

// maxNames is how many bytes the tensors' names may take, which nested dicts can make of few.
const maxNames = 16 << 20

// lookup follows keys through nested dicts and lists.
func lookup(v any, keys []string) (_ any, ok bool) {
	for _, key := range keys {
		switch in := v.(type) {
		case *pickle.Dict:
			i := slices.Index(keyTexts(in), key)
			if i < 0 {
				i = slices.IndexFunc(in.Keys, func(k any) bool { return keyText(k) == key })
			}
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
