// Package storetest tests what keeps values for servers.
package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"microrwkv/rwkv/serve"
)

// Need returns the path of a program. Without it the test is skipped, with words that .ci/run looks for.
func Need(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("NOT TESTED: %s: %v", program, err)
	}
	return path
}

// Run tests two stores of one place.
func Run(t *testing.T, a, b serve.Store) {
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	holds := func(s serve.Store, key, want string) {
		t.Helper()
		if v, err := s.Get(ctx, key); err != nil || string(v) != want {
			t.Errorf("%s: %q, %v, want %q", key, v, err, want)
		}
	}
	if _, err := a.Get(ctx, "x/y"); !errors.Is(err, serve.ErrNotFound) {
		t.Errorf("nothing there: %v", err)
	}
	if _, err := a.Stat(ctx, "x/y"); !errors.Is(err, serve.ErrNotFound) {
		t.Errorf("nothing there: %v", err)
	}
	must(a.Delete(ctx, "x/y"))
	must(a.Put(ctx, "x/y", []byte("1"), time.Hour))
	holds(b, "x/y", "1")
	must(b.Put(ctx, "x/y", []byte("22"), time.Hour))
	holds(a, "x/y", "22")
	must(a.Put(ctx, "x/empty", nil, time.Hour))
	holds(b, "x/empty", "")
	large := bytes.Repeat([]byte("\x00\xff\n"), 100000)
	must(a.Put(ctx, "xx/large", large, time.Hour))
	holds(b, "xx/large", string(large))
	before := time.Now()
	if i, err := b.Stat(ctx, "xx/large"); err != nil || i.Key != "xx/large" || i.Size != int64(len(large)) || i.Expires.Before(before.Add(50*time.Minute)) {
		t.Errorf("%v, %v", i, err)
	}
	for prefix, want := range map[string][]string{"x/": {"x/empty", "x/y"}, "x/y": {"x/y"}, "xx/": {"xx/large"}, "z/": nil} {
		infos, err := b.List(ctx, prefix)
		var keys []string
		for _, i := range infos {
			keys = append(keys, i.Key)
		}
		slices.Sort(keys)
		if err != nil || fmt.Sprint(keys) != fmt.Sprint(want) {
			t.Errorf("list %q: %v, %v, want %v", prefix, keys, err, want)
		}
	}
	must(a.Delete(ctx, "x/y"))
	if _, err := b.Get(ctx, "x/y"); !errors.Is(err, serve.ErrNotFound) {
		t.Errorf("deleted: %v", err)
	}
	// it expires
	must(a.Put(ctx, "x/short", []byte("1"), 20*time.Millisecond))
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if _, err := b.Get(ctx, "x/short"); errors.Is(err, serve.ErrNotFound) {
			break
		}
		if time.Now().After(end) {
			t.Fatal("it never expires")
		}
	}
	if _, err := a.Stat(ctx, "x/short"); !errors.Is(err, serve.ErrNotFound) {
		t.Errorf("expired: %v", err)
	}
	must(a.CompareAndSet(ctx, "x/short", nil, []byte("1"), time.Hour))

	// compare and set
	set := func(s serve.Store, old, value string, want error) {
		t.Helper()
		var o []byte
		if old != "" {
			o = []byte(old)
		}
		if err := s.CompareAndSet(ctx, "c/x", o, []byte(value), time.Hour); !errors.Is(err, want) {
			t.Errorf("%q to %q: %v, want %v", old, value, err, want)
		}
	}
	set(a, "0", "1", serve.ErrChanged)
	set(a, "", "1", nil)
	set(b, "", "2", serve.ErrChanged)
	set(b, "2", "3", serve.ErrChanged)
	set(b, "1", "2", nil)
	holds(a, "c/x", "2")
	// of many at once one wins
	var won atomic.Int32
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			s := []serve.Store{a, b}[i%2]
			switch err := s.CompareAndSet(ctx, "c/x", []byte("2"), fmt.Appendf(nil, "by %d", i), time.Hour); {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, serve.ErrChanged):
				t.Error(err)
			}
		})
	}
	all.Wait()
	if won.Load() != 1 {
		t.Errorf("%d of 16 won", won.Load())
	}
}
