package serve

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func writeFile(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func dirStore(t *testing.T, folder string, limit int64) Store {
	t.Helper()
	s, err := Dir(folder, limit)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStoreFull(t *testing.T) {
	for name, s := range map[string]Store{"mem": Memory(1000), "dir": dirStore(t, t.TempDir(), 1000)} {
		ctx := t.Context()
		if err := s.Put(ctx, "a", make([]byte, 600), time.Hour); err != nil {
			t.Fatal(err)
		}
		if err := s.Put(ctx, "b", make([]byte, 600), time.Hour); !errors.Is(err, ErrFull) {
			t.Errorf("%s: %v, want that it is full", name, err)
		}
		if err := s.Delete(ctx, "a"); err != nil {
			t.Fatal(err)
		}
		if err := s.Put(ctx, "b", make([]byte, 600), time.Nanosecond); err != nil {
			t.Errorf("%s: %v though there is room", name, err)
		}
		until(t, "the value expires", func() bool { _, err := s.Get(ctx, "b"); return errors.Is(err, ErrNotFound) })
		if err := s.Put(ctx, "c", make([]byte, 600), time.Hour); err != nil {
			t.Errorf("%s: %v though what was there has expired", name, err)
		}
	}
}

// A file that was damaged is told from one that isn't there, and no path leads out of the folder.
func TestDirDamaged(t *testing.T) {
	folder := t.TempDir()
	s := dirStore(t, folder, 1<<30)
	ctx := t.Context()
	if err := s.Put(ctx, "x/y", []byte("hello"), time.Hour); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(folder, "x", "y.v")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range b {
		bad := append([]byte{}, b...)
		bad[i] ^= 1
		writeFile(t, path, bad)
		if v, err := s.Get(ctx, "x/y"); err == nil {
			t.Fatalf("byte %d changed: %q", i, v)
		}
		writeFile(t, path, b[:i])
		if v, err := s.Get(ctx, "x/y"); !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut at %d: %q, %v", i, v, err)
		}
	}
	for _, key := range []string{"", "../x", "/x", "x//y", "x/../../y", "x\\y", ".x", "x/"} {
		if err := s.Put(ctx, key, nil, time.Hour); err == nil {
			t.Errorf("key %q is taken", key)
		}
	}
	// a server's answer for it
	site := newSite(t, Config{Store: s, StateRAM: 2})
	o := site.ask("POST", chats, say("Hi", object{"save": true})).json(t)
	id := at(o, "state", "id").(string)
	files, err := filepath.Glob(filepath.Join(folder, "data", "public", "*.v"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	if b, err = os.ReadFile(files[0]); err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	writeFile(t, files[0], b)
	site.ask("POST", chats, say("More", object{"id": id})).refused(t, 500, "state_damaged")
}

// Who reads while a value is written finds the old one or the new one.
func TestDirWhole(t *testing.T) {
	s := dirStore(t, t.TempDir(), 1<<40)
	put := func(i int) {
		if err := s.Put(t.Context(), "x", bytes.Repeat([]byte{byte(i)}, 4<<20), time.Hour); err != nil {
			t.Error(err)
		}
	}
	put(0)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 50 {
			put(i)
		}
	}()
	for reading := true; reading; {
		select {
		case <-done:
			reading = false
		default:
		}
		v, err := s.Get(t.Context(), "x")
		if err != nil || len(v) != 4<<20 || v[0] != v[len(v)-1] {
			t.Fatalf("%d bytes, %v", len(v), err)
		}
	}
}

// A server is killed while it saves: what it had acknowledged is there and whole, and nothing is there
// in part.
func TestKillWhileSaving(t *testing.T) {
	if folder := os.Getenv("MICRORWKV_SAVE_IN"); folder != "" {
		saveForever(folder)
	}
	folder := t.TempDir()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	acknowledged := 0
	for round := range 5 {
		c := exec.Command(exe, "-test.run", "^TestKillWhileSaving$")
		c.Env = append(os.Environ(), "MICRORWKV_SAVE_IN="+folder)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		keys := make([]byte, (round+1)*7*keyLen)
		n := 0
		for n < len(keys) {
			m, err := out.Read(keys[n:])
			if err != nil {
				t.Fatal(err)
			}
			n += m
		}
		if err := c.Process.Kill(); err != nil { // SIGKILL
			t.Fatal(err)
		}
		more := new(bytes.Buffer)
		more.ReadFrom(out)
		c.Wait()
		all := string(keys) + more.String()
		s := dirStore(t, folder, 1<<40)
		for key := range strings.SplitSeq(all[:len(all)/keyLen*keyLen], "\n") {
			if key == "" {
				continue
			}
			if v, err := s.Get(t.Context(), key); err != nil || !bytes.Equal(v, bytes.Repeat([]byte(key), saveTimes)) {
				t.Errorf("%s was acknowledged: %d bytes, %v", key, len(v), err)
			}
			acknowledged++
		}
		list, err := s.List(t.Context(), "s/")
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range list {
			if v, err := s.Get(t.Context(), i.Key); err != nil || !bytes.Equal(v, bytes.Repeat([]byte(i.Key), saveTimes)) {
				t.Errorf("%s is there in part: %d bytes, %v", i.Key, len(v), err)
			}
		}
	}
	t.Logf("%d values were acknowledged before the kills", acknowledged)
}

const (
	saveTimes = 30000
	keyLen    = len("s/0123456789abcdef01234567\n")
)

// saveForever saves values, and prints the key of each that was saved.
func saveForever(folder string) {
	s, err := Dir(folder, 1<<40)
	if err != nil {
		panic(err)
	}
	for {
		key := newID("s/")
		if err := s.Put(context.Background(), key, bytes.Repeat([]byte(key), saveTimes), time.Hour); err != nil {
			panic(err)
		}
		os.Stdout.WriteString(key + "\n")
	}
}

// What a killed server left is cleared away in time, and its locks don't last.
func TestDirLeftovers(t *testing.T) {
	folder := t.TempDir()
	s := dirStore(t, folder, 1<<30)
	if err := s.Put(t.Context(), "x/y", []byte("1"), time.Hour); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	for _, name := range []string{"x/y.v.0123.tmp", "x/y.v.lock"} {
		path := filepath.Join(folder, name)
		writeFile(t, path, []byte("x"))
		if err := os.Chtimes(path, old, old); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.CompareAndSet(t.Context(), "x/y", []byte("1"), []byte("2"), time.Hour); err != nil {
		t.Error(err)
	}
	dirStore(t, folder, 1<<30)
	files, err := os.ReadDir(filepath.Join(folder, "x"))
	if err != nil || len(files) != 1 {
		t.Errorf("%v, %v", files, err)
	}
}

// downStore is a shared store that can be cut off, and counts what is read from it.
type downStore struct {
	Store
	down bool
	gets int
}

func (d *downStore) Get(ctx context.Context, key string) ([]byte, error) {
	if d.gets++; d.down {
		return nil, errors.New("down")
	}
	return d.Store.Get(ctx, key)
}

func (d *downStore) Put(ctx context.Context, key string, data []byte, ttl time.Duration) error {
	if d.down {
		return errors.New("down")
	}
	return d.Store.Put(ctx, key, data, ttl)
}

// Copies on disk spare reading from the shared store, make room by themselves, and never are all there is.
func TestCached(t *testing.T) {
	shared := &downStore{Store: Memory(1 << 30)}
	folder := t.TempDir()
	s, err := Cached(folder, 10000, shared)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	value := func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, 1000) }
	put := func(key string, b []byte) {
		t.Helper()
		if err := s.Put(ctx, key, b, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	check := func(key string, want []byte, reads int) {
		t.Helper()
		shared.gets = 0
		if b, err := s.Get(ctx, key); err != nil || !bytes.Equal(b, want) || shared.gets != reads {
			t.Errorf("%s: %d bytes, %v, read %d times, want %d", key, len(b), err, shared.gets, reads)
		}
	}
	put("meta/a", []byte("1"))
	check("meta/a", []byte("1"), 1)
	long := time.Now().Add(-time.Hour)
	for i := range 9 {
		put(fmt.Sprint("data/a/", i), value(i))
		used := long.Add(time.Duration(i) * time.Minute)
		if err := os.Chtimes(filepath.Join(folder, "data", "a", fmt.Sprint(i, ".v")), used, used); err != nil {
			t.Fatal(err)
		}
	}
	check("data/a/0", value(0), 0) // used now
	put("data/a/9", value(9))      // more than fit
	check("data/a/1", value(1), 1)
	check("data/a/0", value(0), 0)
	check("data/a/9", value(9), 0)
	if n, size := s.(*cached).disk.Usage(); n > 9 || size > 10000 {
		t.Errorf("%d copies of %d bytes", n, size)
	}
	put("data/a/huge", make([]byte, 20000))
	check("data/a/huge", make([]byte, 20000), 1)
	// another server of the folder after a restart
	if s, err = Cached(folder, 10000, shared); err != nil {
		t.Fatal(err)
	}
	check("data/a/9", value(9), 0)
	// a copy that is damaged isn't believed
	path := filepath.Join(folder, "data", "a", "9.v")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[100] ^= 1
	writeFile(t, path, b)
	check("data/a/9", value(9), 1)
	check("data/a/9", value(9), 0)
	shared.down = true
	check("data/a/9", value(9), 0)
	if err := s.Put(ctx, "data/a/x", value(1), time.Hour); err == nil {
		t.Error("acknowledged without the shared store")
	}
	if _, err := s.Get(ctx, "data/a/x"); err == nil {
		t.Error("what wasn't kept is there")
	}
	shared.down = false
	if err := s.Delete(ctx, "data/a/9"); err != nil {
		t.Error(err)
	}
	if _, err := s.Get(ctx, "data/a/9"); !errors.Is(err, ErrNotFound) {
		t.Errorf("deleted: %v", err)
	}
	// in a server: its own memory, then the disk, then the shared store
	site := newSite(t, Config{Store: s, StateRAM: 2})
	o := site.ask("POST", chats, say("Hi", object{"save": true})).json(t)
	site.ask("POST", chats, say("More", object{"id": at(o, "state", "id")})).json(t)
	site.server.states.measureRemote(ctx)
	m := string(site.ask("GET", "/metrics", nil).body)
	for _, tier := range []string{"disk", "remote"} {
		if !strings.Contains(m, `microrwkv_states{tier="`+tier+`"}`) || !strings.Contains(m, `microrwkv_state_bytes{tier="`+tier+`"}`) {
			t.Errorf("no tier %s in the metrics", tier)
		}
	}
}

func TestOpenStore(t *testing.T) {
	open := func(string) (Store, error) { return Memory(1), nil }
	RegisterStore("test", open)
	if s, err := OpenStore("test://x"); s == nil || err != nil {
		t.Error(err)
	}
	if _, err := OpenStore("s9://x"); err == nil || !strings.Contains(err.Error(), "s9") || !strings.Contains(err.Error(), "test") {
		t.Error(err)
	}
	defer func() {
		if recover() == nil {
			t.Error("two stores for one scheme")
		}
	}()
	RegisterStore("test", open)
}
