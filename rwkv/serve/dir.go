package serve

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
)

// dir is a Store in a folder. A value is a file: its head, with the time when it expires, the value,
// and the CRC-32 of both.
type dir struct {
	root  *os.Root
	limit int64
	evict bool // what was used least makes room
	mu    sync.Mutex
	used  int64 // bytes, as of the last sweep and what was written since
	count int   // values, in the same way
}

const (
	dirMagic = "MRWKVST1"
	dirHead  = len(dirMagic) + 8
	// staleLock and staleTemp are how old what a server left that was killed may become.
	staleLock = 10 * time.Second
	staleTemp = 10 * time.Minute
)

// Dir returns a Store in a folder, which is made if need be, of at most limit bytes. Several servers may
// use one folder.
func Dir(folder string, limit int64) (Store, error) { return newDir(folder, limit) }

func newDir(folder string, limit int64) (*dir, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, err
	}
	d := &dir{root: root, limit: limit}
	return d, d.Sweep(context.Background())
}

// name returns the file of a key, and makes its folder.
func (d *dir) name(key string) (string, error) {
	for part := range strings.SplitSeq(key, "/") {
		if !goodName(part) {
			return "", fmt.Errorf("key %q: want names separated by slashes", key)
		}
	}
	return key + ".v", nil
}

// read returns a file's value and when it expires.
func (d *dir) read(name string) ([]byte, time.Time, error) {
	b, err := d.root.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, time.Time{}, ErrNotFound
	}
	if err != nil {
		return nil, time.Time{}, err
	}
	end := len(b) - 4
	if end < dirHead || string(b[:len(dirMagic)]) != dirMagic || crc32.ChecksumIEEE(b[:end]) != binary.LittleEndian.Uint32(b[end:]) {
		return nil, time.Time{}, fmt.Errorf("%s: %w", name, ErrDamaged)
	}
	expires := time.Unix(0, int64(binary.LittleEndian.Uint64(b[len(dirMagic):])))
	if !time.Now().Before(expires) {
		return nil, expires, ErrNotFound
	}
	return b[dirHead:end], expires, nil
}

func (d *dir) Get(_ context.Context, key string) ([]byte, error) {
	name, err := d.name(key)
	if err != nil {
		return nil, err
	}
	b, _, err := d.read(name)
	return b, err
}

func (d *dir) Stat(_ context.Context, key string) (Info, error) {
	name, err := d.name(key)
	if err != nil {
		return Info{}, err
	}
	return d.info(name)
}

// info tells of a file from its head alone.
func (d *dir) info(name string) (Info, error) {
	f, err := d.root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return Info{}, ErrNotFound
	}
	if err != nil {
		return Info{}, err
	}
	defer f.Close()
	var head [dirHead]byte
	if _, err := f.ReadAt(head[:], 0); err != nil || string(head[:len(dirMagic)]) != dirMagic {
		return Info{}, fmt.Errorf("%s: %w", name, ErrDamaged)
	}
	stat, err := f.Stat()
	if err != nil {
		return Info{}, err
	}
	i := Info{strings.TrimSuffix(name, ".v"), stat.Size() - int64(dirHead) - 4, time.Unix(0, int64(binary.LittleEndian.Uint64(head[len(dirMagic):])))}
	if !time.Now().Before(i.Expires) {
		return i, ErrNotFound
	}
	return i, nil
}

// Put writes another file first, so that the value is whole or isn't there, whenever the program or the
// machine stops.
func (d *dir) Put(_ context.Context, key string, data []byte, ttl time.Duration) error {
	name, err := d.name(key)
	if err != nil {
		return err
	}
	d.mu.Lock()
	full := d.used+int64(len(data)) > d.limit
	d.mu.Unlock()
	if full {
		if err := d.makeRoom(int64(len(data))); err != nil {
			return err
		}
	}
	if err := d.root.MkdirAll(path.Dir(name), 0o700); err != nil {
		return err
	}
	b := append(make([]byte, 0, dirHead+len(data)+4), dirMagic...)
	b = binary.LittleEndian.AppendUint64(b, uint64(time.Now().Add(ttl).UnixNano()))
	b = append(b, data...)
	b = binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
	temp := fmt.Sprintf("%s.%016x.tmp", name, rand.Uint64())
	f, err := d.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = d.root.Rename(temp, name)
	}
	if err != nil {
		d.root.Remove(temp)
		return err
	}
	d.mu.Lock()
	d.used += int64(len(b))
	d.count++
	d.mu.Unlock()
	return d.sync(path.Dir(name))
}

// makeRoom removes what has expired and, where that may be, what was used least, so that n bytes more fit.
func (d *dir) makeRoom(n int64) error {
	if err := d.Sweep(context.Background()); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.used+n <= d.limit {
		return nil
	}
	if !d.evict || n > d.limit {
		return ErrFull
	}
	type file struct {
		name string
		size int64
		used time.Time
	}
	var files []file
	err := fs.WalkDir(d.root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(name, ".v") {
			return err
		}
		if stat, err := e.Info(); err == nil {
			files = append(files, file{name, stat.Size(), stat.ModTime()})
		}
		return nil
	})
	slices.SortFunc(files, func(a, b file) int { return a.used.Compare(b.used) })
	for _, f := range files { // some more than needed, for this takes time
		if d.used+n <= d.limit-d.limit/16 {
			break
		}
		if d.root.Remove(f.name) == nil {
			d.used -= f.size
			d.count--
		}
	}
	return err
}

// touch notes that a value was used.
func (d *dir) touch(key string) {
	if name, err := d.name(key); err == nil {
		now := time.Now()
		d.root.Chtimes(name, now, now)
	}
}

// Usage returns how many values there are and their bytes.
func (d *dir) Usage() (values int, bytes int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.count, d.used
}

// sync sees that a folder's names outlive the machine.
func (d *dir) sync(folder string) error {
	f, err := d.root.Open(folder)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && os.PathSeparator == '/' {
		return err
	}
	return nil
}

func (d *dir) Delete(_ context.Context, key string) error {
	name, err := d.name(key)
	if err != nil {
		return err
	}
	if err := d.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (d *dir) List(_ context.Context, prefix string) (list []Info, err error) {
	folder := path.Dir(prefix + "x")
	err = fs.WalkDir(d.root.FS(), folder, func(name string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // never made, or removed meanwhile
		}
		if err != nil || e.IsDir() || !strings.HasSuffix(name, ".v") || !strings.HasPrefix(name, prefix) {
			return err
		}
		i, err := d.info(name)
		if errors.Is(err, ErrNotFound) || errors.Is(err, ErrDamaged) {
			return nil
		}
		list = append(list, i)
		return err
	})
	return list, err
}

// CompareAndSet holds a lock, a file beside the value's.
func (d *dir) CompareAndSet(ctx context.Context, key string, old, data []byte, ttl time.Duration) error {
	name, err := d.name(key)
	if err != nil {
		return err
	}
	if err := d.root.MkdirAll(path.Dir(name), 0o700); err != nil {
		return err
	}
	lock := name + ".lock"
	for {
		f, err := d.root.OpenFile(lock, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err == nil {
			f.Close()
			break
		}
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		if stat, err := d.root.Stat(lock); err == nil && time.Since(stat.ModTime()) > staleLock {
			d.root.Remove(lock)
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	defer d.root.Remove(lock)
	now, _, err := d.read(name)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if (err == nil) != (old != nil) || string(now) != string(old) {
		return ErrChanged
	}
	return d.Put(ctx, key, data, ttl)
}

// Sweep removes what has expired, and what servers left that were killed.
func (d *dir) Sweep(context.Context) error {
	used, count := int64(0), 0
	err := fs.WalkDir(d.root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			if errors.Is(err, fs.ErrNotExist) {
				err = nil
			}
			return err
		}
		stat, err := e.Info()
		if err != nil {
			return nil // removed meanwhile
		}
		switch {
		case strings.HasSuffix(name, ".tmp"), strings.HasSuffix(name, ".lock"):
			if time.Since(stat.ModTime()) > staleTemp {
				d.root.Remove(name)
			}
		case strings.HasSuffix(name, ".v"):
			if i, err := d.info(name); errors.Is(err, ErrNotFound) && !i.Expires.IsZero() {
				d.root.Remove(name)
			} else {
				used += stat.Size()
				count++
			}
		}
		return nil
	})
	d.mu.Lock()
	d.used, d.count = used, count
	d.mu.Unlock()
	return err
}
