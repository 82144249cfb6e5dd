package checkpoint

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"runtime/debug"
)

// source is the bytes of one file: mapped or embedded, or read on demand where there is no mapping.
type source struct {
	name  string
	size  int64
	data  []byte      // all bytes, nil if they must be read
	file  io.ReaderAt // to read them, nil if there is data
	close func() error
}

// openSource opens a regular file.
func openSource(path string, unmapped bool) (*source, error) {
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
	s := &source{name: path, size: info.Size(), file: f, close: f.Close}
	if unmapped || s.size == 0 || s.size != int64(int(s.size)) {
		return s, nil
	}
	data, unmap, err := mapFile(f, s.size)
	if err != nil { // the file system can't map: read instead
		return s, nil
	}
	f.Close()
	return &source{name: path, size: s.size, data: data, close: unmap}, nil
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

// bytes returns n bytes from off on: a view if they are in memory, else a copy. The range must
// have been checked against the size; it is checked again before anything is allocated.
func (s *source) bytes(off, n int64) ([]byte, error) {
	if off < 0 || n < 0 || off > s.size || n > s.size-off || n != int64(int(n)) {
		return nil, fmt.Errorf("bytes %d+%d of a file of %d", off, n, s.size)
	}
	if s.data != nil || n == 0 {
		return s.data[min(off, int64(len(s.data))):][:n:n], nil
	}
	b := make([]byte, n)
	if _, err := s.file.ReadAt(b, off); err != nil {
		return nil, err
	}
	return b, nil
}

// ReadAt reads from the bytes, for archive/zip.
func (s *source) ReadAt(p []byte, off int64) (int, error) {
	if s.data == nil {
		return s.file.ReadAt(p, off)
	}
	if off < 0 || off >= int64(len(s.data)) {
		return 0, io.EOF
	}
	n := copy(p, s.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// guard calls f, which reads from a mapping, on this goroutine. If the file has been cut short
// since it was mapped, which ends a program with SIGBUS, or a disk can't be read, it returns an
// error instead.
func guard(f func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(old)
	defer func() {
		r := recover()
		if r == nil {
			return
		}
		if e, ok := r.(runtime.Error); ok {
			if _, ok := e.(interface{ Addr() uintptr }); ok {
				err = errShrunk
				return
			}
		}
		panic(r)
	}()
	return f()
}

var errShrunk = fmt.Errorf("the mapped file can't be read any more: has it been cut short?")
