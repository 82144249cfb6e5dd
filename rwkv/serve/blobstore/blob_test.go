package blobstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"gocloud.dev/blob"
	_ "gocloud.dev/blob/fileblob"
	"gocloud.dev/blob/memblob"

	"microrwkv/rwkv/serve"
	"microrwkv/rwkv/serve/internal/storetest"
)

func TestStore(t *testing.T) {
	t.Run("mem", func(t *testing.T) {
		b := memblob.OpenBucket(nil)
		defer b.Close()
		storetest.Run(t, New(b), New(b))
	})
	t.Run("file", func(t *testing.T) {
		url := "file://" + t.TempDir() + "?no_tmp_dir=true"
		var stores [2]serve.Store
		for i := range stores {
			var err error
			if stores[i], err = Open(url); err != nil {
				t.Fatal(err)
			}
		}
		storetest.Run(t, stores[0], stores[1])
	})
	t.Run("prefix", func(t *testing.T) {
		b := memblob.OpenBucket(nil)
		defer b.Close()
		other := blob.PrefixedBucket(memblob.OpenBucket(nil), "a/b/")
		defer other.Close()
		storetest.Run(t, New(other), New(other))
		if err := b.WriteAll(t.Context(), "x/readme.txt", []byte("x"), nil); err != nil {
			t.Fatal(err)
		}
		storetest.Run(t, New(b), New(b)) // beside somebody else's objects
	})
	if _, err := Open("s9://x"); err == nil || !strings.Contains(err.Error(), "s9") {
		t.Error(err)
	}
}

// names returns how many objects there are.
func names(t *testing.T, s *store) int {
	t.Helper()
	all, err := s.list(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// What nobody wants is removed, but not while a writer may be under way that hasn't seen what came after;
// what is there stays.
func TestSweep(t *testing.T) {
	b := memblob.OpenBucket(nil)
	defer b.Close()
	s, ctx := New(b).(*store), t.Context()
	for i := range 3 {
		if err := s.Put(ctx, "x/kept", fmt.Append(nil, i), time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(s.Put(ctx, "x/short", nil, time.Nanosecond), s.Put(ctx, "x/deleted", nil, time.Hour), s.Delete(ctx, "x/deleted")); err != nil {
		t.Fatal(err)
	}
	if err := s.Sweep(ctx); err != nil || names(t, s) != 6 {
		t.Errorf("%v, %d objects, want all 6 of just now", err, names(t, s))
	}
	if list, err := s.List(ctx, "x/"); err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
	if err := s.sweep(ctx, time.Now().Add(time.Minute)); err != nil || names(t, s) != 1 || len(s.heads) != 1 {
		t.Errorf("%v, %d objects, %d heads, want 1", err, names(t, s), len(s.heads))
	}
	if v, err := s.Get(ctx, "x/kept"); err != nil || string(v) != "2" {
		t.Errorf("%q, %v", v, err)
	}
	if err := s.CompareAndSet(ctx, "x/deleted", nil, []byte("again"), time.Hour); err != nil {
		t.Error(err)
	}
}

func TestDamaged(t *testing.T) {
	b := memblob.OpenBucket(nil)
	s, ctx := New(b), t.Context()
	for _, bad := range [][]byte{nil, []byte("short"), bytes.Repeat([]byte("x"), 100)} {
		if err := b.WriteAll(ctx, "x/y@0000000000000001", bad, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Get(ctx, "x/y"); !errors.Is(err, serve.ErrDamaged) {
			t.Errorf("%q: %v", bad, err)
		}
		if _, err := s.Stat(ctx, "x/y"); !errors.Is(err, serve.ErrDamaged) {
			t.Errorf("%q: %v", bad, err)
		}
		if list, err := s.List(ctx, "x/"); err != nil || len(list) != 0 {
			t.Errorf("%q: %v, %v", bad, list, err)
		}
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	b.Close()
	for what, err := range map[string]error{"put": s.Put(ended, "x", nil, time.Hour), "delete": s.Delete(ctx, "x"), "set": s.CompareAndSet(ctx, "x", nil, nil, time.Hour)} {
		if err == nil || errors.Is(err, serve.ErrNotFound) || errors.Is(err, serve.ErrChanged) {
			t.Errorf("%s in a closed bucket: %v", what, err)
		}
	}
	if _, err := s.List(ctx, ""); err == nil {
		t.Error("a list of a closed bucket")
	}
}
