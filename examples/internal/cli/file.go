package cli

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// A File is written whole or not at all: under another name beside it first.
type File struct {
	path string
	temp *os.File
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
	return &File{path, temp}, nil
}

// Write ends the file with its content, all of it.
func (f *File) Write(content []byte) error {
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
