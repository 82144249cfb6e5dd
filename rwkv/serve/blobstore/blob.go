// Package blobstore keeps the states of package serve in a bucket of objects, such as S3's, through
// gocloud.dev/blob: any store that its drivers know and that can write an object only if it isn't there. It is
// a module of its own, so that others don't carry those drivers. A program imports the drivers that it wants:
//
//	import _ "gocloud.dev/blob/s3blob"
//	store, err := blobstore.Open("s3://bucket?region=eu-central-1&prefix=microrwkv/")
package blobstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"

	"microrwkv/rwkv/serve"
)

// A value is a row of objects that never change, key@version with versions counted up. Who writes a value
// writes the object of the next version, which must not be there yet: of several writers one wins, and that
// is all that a bucket has to decide. The newest object is the value. It begins with its head: the magic and,
// little-endian, when it expires in Unix nanoseconds, 0 for a value that was deleted.
const (
	magic    = "MRWKVOB1"
	headSize = len(magic) + 8
	digits   = 16 // of a version, hexadecimal
)

const (
	// writeTimeout is how long a write may take, and old how long objects that nobody wants are left, so that
	// no writer is under way that hasn't seen what came after them.
	writeTimeout = time.Minute
	old          = 10 * time.Minute
	sweepEvery   = 30 * time.Minute
)

type store struct {
	bucket *blob.Bucket
	mu     sync.Mutex
	heads  map[string]time.Time // when objects expire that were listed
	swept  time.Time
}

// Open returns a Store in a bucket by its address, which a driver that is imported must know.
func Open(url string) (serve.Store, error) {
	b, err := blob.OpenBucket(context.Background(), url)
	if err != nil {
		return nil, err
	}
	return New(b), nil
}

// New returns a Store in a bucket.
func New(b *blob.Bucket) serve.Store { return &store{bucket: b, heads: map[string]time.Time{}} }

// object is one of a value's.
type object struct {
	key, name string
	version   uint64
	size      int64 // with the head
	modified  time.Time
}

// listings is how often a list is asked for that others change meanwhile.
const listings = 50

// list returns the objects whose names begin with prefix, in order.
func (s *store) list(ctx context.Context, prefix string) (all []object, err error) {
	for range listings {
		all, err = s.listOnce(ctx, prefix)
		if gcerrors.Code(err) != gcerrors.NotFound {
			break
		}
		// In a folder a file was listed and is gone, a temporary one as a rule, before it was looked at.
	}
	return all, err
}

func (s *store) listOnce(ctx context.Context, prefix string) (all []object, err error) {
	names := s.bucket.List(&blob.ListOptions{Prefix: prefix})
	for {
		o, err := names.Next(ctx)
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		key, version, ok := strings.Cut(o.Key, "@")
		n, err := strconv.ParseUint(version, 16, 64)
		if o.IsDir || !ok || len(version) != digits || err != nil {
			continue // somebody else's
		}
		all = append(all, object{key, o.Key, n, o.Size, o.ModTime})
	}
}

// newest returns a value's newest object, with version 0 if there is none.
func (s *store) newest(ctx context.Context, key string) (object, error) {
	all, err := s.list(ctx, key+"@")
	if err != nil || len(all) == 0 {
		return object{key: key}, err
	}
	return slices.MaxFunc(all, func(a, b object) int {
		if a.version < b.version {
			return -1
		}
		return 1
	}), nil
}

// expiry returns when an object's value expires, the zero time if it was deleted.
func expiry(name string, head []byte) (time.Time, error) {
	if len(head) < headSize || string(head[:len(magic)]) != magic {
		return time.Time{}, fmt.Errorf("%s: %w", name, serve.ErrDamaged)
	}
	n := int64(binary.LittleEndian.Uint64(head[len(magic):]))
	if n == 0 {
		return time.Time{}, nil
	}
	return time.Unix(0, n), nil
}

// read returns an object's value. ErrNotFound: it has expired or was deleted.
func (s *store) read(ctx context.Context, o object) ([]byte, error) {
	if o.version == 0 {
		return nil, serve.ErrNotFound
	}
	b, err := s.bucket.ReadAll(ctx, o.name)
	if gcerrors.Code(err) == gcerrors.NotFound {
		return nil, serve.ErrNotFound // swept meanwhile
	}
	if err != nil {
		return nil, err
	}
	expires, err := expiry(o.name, b)
	if err == nil && !time.Now().Before(expires) {
		err = serve.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	return b[headSize:], nil
}

// errTaken is the error of a version that another has written.
var errTaken = errors.New("the version is there already")

// write writes the version after an object.
func (s *store) write(ctx context.Context, after object, data []byte, expires time.Time) error {
	b := append(make([]byte, 0, headSize+len(data)), magic...)
	n := uint64(0)
	if !expires.IsZero() {
		n = uint64(expires.UnixNano())
	}
	b = append(binary.LittleEndian.AppendUint64(b, n), data...)
	name := fmt.Sprintf("%s@%0*x", after.key, digits, after.version+1)
	err := s.bucket.Upload(ctx, name, bytes.NewReader(b), &blob.WriterOptions{ContentType: "application/octet-stream", IfNotExist: true})
	if gcerrors.Code(err) == gcerrors.FailedPrecondition {
		return errTaken
	}
	return err
}

// put writes a new version until it is the next one.
func (s *store) put(ctx context.Context, key string, data []byte, expires time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	for {
		last, err := s.newest(ctx, key)
		if err != nil || expires.IsZero() && last.version == 0 {
			return err
		}
		if err = s.write(ctx, last, data, expires); err != errTaken {
			return err
		}
	}
}

func (s *store) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	return s.put(ctx, key, value, time.Now().Add(ttl))
}

func (s *store) Delete(ctx context.Context, key string) error {
	return s.put(ctx, key, nil, time.Time{})
}

func (s *store) Get(ctx context.Context, key string) ([]byte, error) {
	o, err := s.newest(ctx, key)
	if err != nil {
		return nil, err
	}
	return s.read(ctx, o)
}

func (s *store) CompareAndSet(ctx context.Context, key string, old, value []byte, ttl time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	last, err := s.newest(ctx, key)
	if err != nil {
		return err
	}
	now, err := s.read(ctx, last)
	if err != nil && !errors.Is(err, serve.ErrNotFound) {
		return err
	}
	if (err == nil) != (old != nil) || !bytes.Equal(now, old) {
		return serve.ErrChanged
	}
	err = s.write(ctx, last, value, time.Now().Add(ttl))
	if err == errTaken {
		return serve.ErrChanged
	}
	return err
}

// head returns when an object expires. It is read once: objects don't change.
func (s *store) head(ctx context.Context, o object) (time.Time, error) {
	s.mu.Lock()
	expires, ok := s.heads[o.name]
	s.mu.Unlock()
	if ok {
		return expires, nil
	}
	r, err := s.bucket.NewRangeReader(ctx, o.name, 0, int64(headSize), nil)
	if err != nil {
		return time.Time{}, err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		return time.Time{}, err
	}
	if expires, err = expiry(o.name, b); err == nil {
		s.mu.Lock()
		s.heads[o.name] = expires
		s.mu.Unlock()
	}
	return expires, err
}

// info tells of a value by its newest object.
func (s *store) info(ctx context.Context, o object) (serve.Info, error) {
	if o.version == 0 {
		return serve.Info{}, serve.ErrNotFound
	}
	expires, err := s.head(ctx, o)
	if gcerrors.Code(err) == gcerrors.NotFound || err == nil && !time.Now().Before(expires) {
		err = serve.ErrNotFound
	}
	return serve.Info{Key: o.key, Size: o.size - int64(headSize), Expires: expires}, err
}

func (s *store) Stat(ctx context.Context, key string) (serve.Info, error) {
	o, err := s.newest(ctx, key)
	if err != nil {
		return serve.Info{}, err
	}
	return s.info(ctx, o)
}

// heads at a time.
const parallel = 16

func (s *store) List(ctx context.Context, prefix string) ([]serve.Info, error) {
	all, err := s.list(ctx, prefix)
	if err != nil {
		return nil, err
	}
	values := newestOf(all)
	infos, errs := make([]serve.Info, len(values)), make([]error, len(values))
	var wait sync.WaitGroup
	places := make(chan struct{}, parallel)
	for i, o := range values {
		places <- struct{}{}
		wait.Go(func() {
			infos[i], errs[i] = s.info(ctx, o)
			<-places
		})
	}
	wait.Wait()
	there := infos[:0]
	for i, err := range errs {
		switch {
		case err == nil:
			there = append(there, infos[i])
		case !errors.Is(err, serve.ErrNotFound) && !errors.Is(err, serve.ErrDamaged):
			return nil, err
		}
	}
	return there, nil
}

// newestOf returns the newest object of each key.
func newestOf(all []object) (list []object) {
	at := map[string]int{}
	for _, o := range all {
		if i, ok := at[o.key]; !ok {
			at[o.key] = len(list)
			list = append(list, o)
		} else if o.version > list[i].version {
			list[i] = o
		}
	}
	return list
}

// Sweep removes, not each time that it is called, objects that came before others, and those of values that
// have expired or were deleted.
func (s *store) Sweep(ctx context.Context) error {
	s.mu.Lock()
	soon := time.Since(s.swept) < sweepEvery
	if !soon {
		s.swept = time.Now()
	}
	s.mu.Unlock()
	if soon {
		return nil
	}
	return s.sweep(ctx, time.Now().Add(-old))
}

// sweep removes what isn't wanted since before.
func (s *store) sweep(ctx context.Context, before time.Time) error {
	all, err := s.list(ctx, "")
	if err != nil {
		return err
	}
	newest := map[string]bool{}
	for _, o := range newestOf(all) {
		newest[o.name] = true
	}
	there := map[string]bool{}
	for _, o := range all {
		gone := o.modified.Before(before)
		if gone && newest[o.name] {
			expires, err := s.head(ctx, o)
			if err != nil && !errors.Is(err, serve.ErrDamaged) && gcerrors.Code(err) != gcerrors.NotFound {
				return err
			}
			gone = err == nil && expires.Before(before)
		}
		if !gone {
			there[o.name] = true
			continue
		}
		if err := s.bucket.Delete(ctx, o.name); err != nil && gcerrors.Code(err) != gcerrors.NotFound {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.heads {
		if !there[name] {
			delete(s.heads, name)
		}
	}
	return nil
}
