// Package store is what all formats of checkpoints stand on: files, mapped or read; records, which
// are the ranges of bytes in them; tensors, which are windows on records, and their elements;
// checksums, and the search for numbers that are not finite. It knows no format.
package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"runtime/debug"
)

// Source is the bytes of one file: mapped or embedded, or read on demand where there is no mapping.
type Source struct {
	Name  string
	Size  int64
	Data  []byte       // all bytes, nil if they must be read
	file  io.ReaderAt  // to read them, nil if there is data
	close func() error // nil if the bytes were in memory before, and when it is closed
}

// Memory returns a source of bytes in memory.
func Memory(name string, data []byte) *Source {
	return &Source{Name: name, Size: int64(len(data)), Data: data}
}

// IsFile reports whether the source is an open file.
func (s *Source) IsFile() bool { return s.close != nil }

// Close closes the file and gives its mapping back; of bytes in memory it does nothing.
func (s *Source) Close() error {
	if s.close == nil {
		return nil
	}
	err := s.close()
	s.close, s.Data, s.file, s.Size = nil, nil, closedFile{}, 0
	return err
}

// closedFile is what a closed source reads from.
type closedFile struct{}

func (closedFile) ReadAt([]byte, int64) (int, error) { return 0, io.ErrClosedPipe }

// Open opens a regular file.
func Open(path string, unmapped bool) (*Source, error) {
	info, err := os.Stat(path) // before opening, which would wait for a pipe's other end
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	if err := regular(path, info); err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	if info, err = f.Stat(); err == nil {
		err = regular(path, info)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	s := &Source{Name: path, Size: info.Size(), file: f, close: f.Close}
	if unmapped || s.Size == 0 || s.Size != int64(int(s.Size)) {
		return s, nil
	}
	data, unmap, err := mapFile(f, s.Size)
	if err != nil { // the file system can't map: read instead
		return s, nil
	}
	f.Close()
	return &Source{Name: path, Size: s.Size, Data: data, close: unmap}, nil
}

func regular(path string, info fs.FileInfo) error {
	switch {
	case info.IsDir():
		return fmt.Errorf("%s: a directory, not a checkpoint file", path)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s: not a regular file", path)
	}
	return nil
}

// Bytes returns n bytes from off on: a view if they are in memory, else a copy. The range must
// have been checked against the size; it is checked again before anything is allocated.
func (s *Source) Bytes(off, n int64) ([]byte, error) {
	if off < 0 || n < 0 || off > s.Size || n > s.Size-off || n != int64(int(n)) {
		return nil, fmt.Errorf("bytes %d+%d of a file of %d", off, n, s.Size)
	}
	if s.Data != nil || n == 0 {
		return s.Data[min(off, int64(len(s.Data))):][:n:n], nil
	}
	b := make([]byte, n)
	if _, err := s.file.ReadAt(b, off); err != nil {
		return nil, err
	}
	return b, nil
}

// ReadAt reads from the bytes, for archive/zip.
func (s *Source) ReadAt(p []byte, off int64) (int, error) {
	if s.Data == nil {
		return s.file.ReadAt(p, off)
	}
	if off < 0 || off >= int64(len(s.Data)) {
		return 0, io.EOF
	}
	n := copy(p, s.Data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Guard calls f, which reads from a mapping, on this goroutine. If the file has been cut short
// since it was mapped, which ends a program with SIGBUS, or a disk can't be read, it returns
// ErrFileChanged instead.
func Guard(f func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(old)
	defer func() {
		r := recover()
		if r == nil {
			return
		}
		if e, ok := r.(runtime.Error); ok {
			if _, ok := e.(interface{ Addr() uintptr }); ok {
				err = ErrFileChanged
				return
			}
		}
		panic(r)
	}()
	return f()
}

// ErrFileChanged says that what was mapped is gone.
var ErrFileChanged = errors.New("the mapped file can't be read any more: has it been cut short?")
