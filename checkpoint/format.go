package checkpoint

import (
	"errors"

	"microrwkv/checkpoint/internal/gguf"
	"microrwkv/checkpoint/internal/safetensors"
	"microrwkv/checkpoint/internal/store"
	"microrwkv/checkpoint/internal/torch"
	"microrwkv/checkpoint/pickle"
)

// Format is how a file is encoded.
type Format string

// The formats of files.
const (
	Zip         Format = "zip"         // torch.save since PyTorch 1.6
	Legacy      Format = "legacy"      // torch.save before
	Safetensors Format = "safetensors" // one file, or several with an index
	GGUF        Format = "gguf"        // of llama.cpp
)

// Metadata reports whether files of the format have values beside the tensors whatever they hold, so that
// the tensors alone make no bare file.
func (f Format) Metadata() bool { return f == Safetensors || f == GGUF }

// formats has a row for each format: whether a file's first 512 bytes and its size are those of one,
// and what opens it. That returns the file's values and its tensors, which are nil if they are
// among the values. opaque asks for values of unknown classes to be left out.
var formats = []struct {
	name  Format
	sniff func(head []byte, size int64) bool
	open  func(src *store.Source, opaque bool) (values any, tensors *pickle.Dict, err error)
}{
	{Zip, torch.IsZip, torch.OpenZip},
	{Legacy, torch.IsLegacy, torch.OpenLegacy},
	{Safetensors, safetensors.Is, safetensors.Open},
	{GGUF, gguf.Is, gguf.Open},
}

// open finds out what the file is, and what is in it.
func (f *File) open(o *options) error {
	src := f.sources[0]
	head, err := src.Bytes(0, min(src.Size, 512))
	if err != nil {
		return err
	}
	for _, format := range formats {
		if !format.sniff(head, src.Size) {
			continue
		}
		f.format = format.name
		values, tensors, err := format.open(src, o.opaque)
		if err != nil {
			return err
		}
		if tensors == nil {
			return f.selectTensors(values, o)
		}
		f.root, f.bare = values.(*pickle.Dict), true
		return f.setTensors(tensors)
	}
	switch {
	case !isIndex(head):
		return errors.New(foreign(head))
	case o.shard:
		return errors.New("an index in an index")
	}
	f.format = Safetensors
	return f.openShards(o)
}
