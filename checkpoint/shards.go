package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"microrwkv/checkpoint/internal/pickle"
)

// maxIndex is the most bytes of an index.
const maxIndex = 64 << 20

// openShards opens the safetensors files that an index, model.safetensors.index.json, maps names
// to. They lie beside it.
func (f *File) openShards(o *options) error {
	src := f.sources[0]
	if src.size > maxIndex {
		return fmt.Errorf("an index of %d bytes", src.size)
	}
	b, err := src.bytes(0, src.size)
	if err != nil {
		return err
	}
	var index struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(b, &index); err != nil {
		return fmt.Errorf("the index: %w", clipError(err))
	}
	if len(index.WeightMap) == 0 {
		return errors.New("a JSON file without a weight_map, not the index of a checkpoint")
	}
	if src.close == nil {
		return errors.New("an index in memory: the files that it names are not there")
	}
	shards := map[string]*pickle.Dict{}
	metadata := map[string]string{}
	for _, file := range sorted(index.WeightMap) {
		if shards[file] != nil {
			continue
		}
		if !filepath.IsLocal(file) || strings.ContainsAny(file, `/\`) {
			return fmt.Errorf("the index names %q, want a file beside it", clip(file))
		}
		s, err := openSource(filepath.Join(filepath.Dir(f.name), file), o.unmapped)
		if err != nil {
			return err
		}
		f.sources = append(f.sources, s)
		var m map[string]string
		if shards[file], m, err = openSafetensors(s); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		for k, v := range m {
			metadata[k] = v
		}
	}
	all := &pickle.Dict{}
	found := map[string]bool{}
	for _, file := range slices.Compact(sorted(index.WeightMap)) {
		d := shards[file]
		for i, k := range d.Keys {
			if name := k.(string); index.WeightMap[name] == file {
				all.Keys, all.Values = append(all.Keys, k), append(all.Values, d.Values[i])
				found[name] = true
			}
		}
	}
	var errs []error
	for name, file := range index.WeightMap {
		if !found[name] && len(errs) < 20 {
			errs = append(errs, &Error{file, clip(name), ErrNotFound})
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	f.root, f.bare = metadataValues(metadata), true
	return f.setTensors(all)
}

// sorted returns a map's values in order.
func sorted(m map[string]string) []string {
	var list []string
	for _, v := range m {
		list = append(list, v)
	}
	slices.Sort(list)
	return list
}
