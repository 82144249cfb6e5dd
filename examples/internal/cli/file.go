package cli

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"

	"microrwkv/rwkv"
)

// A File is written whole or not at all: under another name beside it first.
type File struct {
	path string
	temp *os.File
}

// begun are the files that aren't ended, for Fail.
var begun sync.Map

// discardAll gives up the files that aren't ended.
func discardAll() {
	begun.Range(func(f, _ any) bool {
		f.(*File).Discard()
		return true
	})
}

// CheckOutput returns an error if path, the argument of a flag, is one of the program's inputs, by
// whatever name.
func CheckOutput(flag, path string, inputs ...string) error {
	out, err := os.Stat(path)
	if err != nil {
		return nil // it isn't there
	}
	for _, in := range inputs {
		if info, err := os.Stat(in); err == nil && os.SameFile(out, info) {
			return fmt.Errorf("%s %s: that is %s, which is read", flag, path, in)
		}
	}
	return nil
}

// CheckNew returns an error if there is a file at path and force isn't set.
func CheckNew(path string, force bool) error {
	if _, err := os.Lstat(path); err == nil && !force {
		return fmt.Errorf("%s is there already; --force replaces it", path)
	}
	return nil
}

// Create begins a file, which Write or Discard has to end. What is at path stays until then.
func Create(path string) (*File, error) {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	temp, err := os.OpenFile(fmt.Sprintf("%s.%08x.tmp", path, rand.Uint32()), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, errors.Unwrap(err)) // the other name says nothing to the user
	}
	f := &File{path, temp}
	begun.Store(f, nil)
	return f, nil
}

// Write ends the file with its content, all of it.
func (f *File) Write(content []byte) error {
	defer begun.Delete(f)
	_, err := f.temp.Write(content)
	err = errors.Join(err, f.temp.Sync(), f.temp.Close())
	if err == nil {
		err = os.Rename(f.temp.Name(), f.path)
	}
	if err != nil {
		os.Remove(f.temp.Name())
		return fmt.Errorf("%s: %w", f.path, err)
	}
	return nil
}

// Discard gives the file up, if Write didn't end it.
func (f *File) Discard() {
	defer begun.Delete(f)
	f.temp.Close()
	os.Remove(f.temp.Name())
}

// WriteFile writes a file whole or not at all.
func WriteFile(path string, content []byte) error {
	f, err := Create(path)
	if err != nil {
		return err
	}
	return f.Write(content)
}

// LoadState makes s the state that is saved at path.
func LoadState(s *rwkv.State, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := s.ReadFrom(f); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
