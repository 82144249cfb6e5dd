package checkpoint

import (
	"errors"
	"fmt"
	"microrwkv/checkpoint/internal/store"
)

// ErrNotFound is wrapped by errors about a tensor that is not in the file.
var ErrNotFound = errors.New("no such tensor")

// Error is what is wrong with one tensor of a file.
type Error struct {
	File, Tensor string
	Err          error
}

// Error returns `file: tensor "name": what is wrong`.
func (e *Error) Error() string {
	return fmt.Sprintf("%s: tensor %q: %v", e.File, store.Clip(e.Tensor), e.Err)
}

// Unwrap returns what is wrong.
func (e *Error) Unwrap() error { return e.Err }
