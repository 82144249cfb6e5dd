package store

import (
	"errors"
	"fmt"
	"sync"
)

// Record is the bytes of one PyTorch storage, or of a tensor of a safetensors file. Where it lies is
// for locate to tell.
type Record struct {
	Src  *Source
	Key  string // as the pickle names it
	Name string // of the zip's entry
	Off  int64  // in src
	Size int64  // bytes
	Swap bool   // the elements' bytes are in the other order than this machine's
	CRC  uint32
	Sum  bool  // there is a crc
	Err  error // why the record can't be used

	Declared int64 // bytes that the pickle says it has

	Find func() (off, size int64, err error) // tells where the record lies in its archive; nil if off and size do
	once sync.Once
}

// Locate finds the record in its archive, once: that reads a page of the file beside it, which an
// optimizer's records are spared. It reports why the record can't be used.
func (r *Record) Locate() error {
	r.once.Do(func() {
		if r.Find == nil || r.Err != nil {
			return
		}
		var err error
		if r.Off, r.Size, err = r.Find(); err != nil {
			r.Err = fmt.Errorf("record %q: %w", Clip(r.Name), err)
		} else if r.Declared > r.Size {
			r.Err = fmt.Errorf("storage %q should have %d bytes, its record %q has %d", Clip(r.Key), r.Declared, Clip(r.Name), r.Size)
		}
	})
	return r.Err
}

// ErrChecksum says that a record is not what its CRC-32 is of.
var ErrChecksum = errors.New("damaged: its CRC-32 does not match")

// NoRecord is the record of tensors that have none.
var NoRecord = &Record{Src: &Source{}}
