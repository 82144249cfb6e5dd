package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"microrwkv/checkpoint/internal/store"
	"microrwkv/checkpoint/pickle"
)

// maxIndex is the most bytes of an index.
const maxIndex = 64 << 20

// maxShards is the most files that an index may name, and maxTold how many that are wrong are told.
const (
	maxShards = 1000
	maxTold   = 20
)

// openShards opens the files that an index, model.safetensors.index.json, maps names of tensors
// to. They lie beside it, and are safetensors or, in older models, of torch.save.
func (f *File) openShards(o *options) error {
	src := f.sources[0]
	if src.Size > maxIndex {
		return fmt.Errorf("an index of %d bytes", src.Size)
	}
	b, err := src.Bytes(0, src.Size)
	if err != nil {
		return err
	}
	var index struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(b, &index); err != nil {
		return fmt.Errorf("the index: %w", store.ClipError(err))
	}
	if len(index.WeightMap) == 0 {
		return errors.New("a JSON file without a weight_map, not the index of a checkpoint")
	}
	if !src.IsFile() {
		return errors.New("an index in memory: the files that it names are not there")
	}
	files := slices.Compact(sorted(index.WeightMap))
	if len(files) > maxShards {
		return fmt.Errorf("the index names %d files, want at most %d", len(files), maxShards)
	}
	all, metadata := &pickle.Dict{}, &pickle.Dict{}
	var errs []error
	for _, file := range files {
		shard, err := f.openShard(file, o)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		f.format = shard.format
		if shard.format == Safetensors {
			metadata.Keys = append(metadata.Keys, shard.root.Keys...)
			metadata.Values = append(metadata.Values, shard.root.Values...)
		}
		for _, name := range shard.names {
			if index.WeightMap[name] == file {
				all.Keys, all.Values = append(all.Keys, name), append(all.Values, shard.tensors[name])
				delete(index.WeightMap, name)
			}
		}
	}
	if len(errs) == 0 { // else what is missing follows from that
		for _, name := range slices.Sorted(maps.Keys(index.WeightMap)) {
			errs = append(errs, &Error{index.WeightMap[name], name, ErrNotFound})
		}
	}
	if n := len(errs); n > maxTold {
		errs = append(errs[:maxTold], fmt.Errorf("and %d more", n-maxTold))
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	f.root, f.bare = metadata, true
	return f.setTensors(all)
}

// openShard opens a file of an index.
func (f *File) openShard(name string, o *options) (*File, error) {
	if !filepath.IsLocal(name) || strings.ContainsAny(name, `/\`) {
		return nil, fmt.Errorf("the index names %q, want a file beside it", store.Clip(name))
	}
	path := filepath.Join(filepath.Dir(f.name), name)
	s, err := store.Open(path, o.unmapped)
	if err != nil {
		return nil, err
	}
	f.sources = append(f.sources, s)
	shard := &File{name: path, sources: []*store.Source{s}}
	if err := shard.open(&options{shard: true, opaque: o.opaque}); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return shard, nil
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
