package rwkv

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"microrwkv/tensor"
)

// TestClose closes a model while goroutines use it: each call ends as it would have, or with
// ErrClosed, and all later ones so.
func TestClose(t *testing.T) {
	random, err := Random(smallConfig(RWKV7), tensor.F32, 1)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "m.safetensors")
	if err := random.Save(path); err != nil {
		t.Fatal(err)
	}
	want := must(t, random.NewState(), 1, 2, 3)
	for range 20 {
		m, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for {
					got, err := m.NewState().Append([]int{1, 2, 3})
					if err != nil {
						if !errors.Is(err, ErrClosed) {
							t.Error(err)
						}
						return
					}
					if !slices.Equal(got, want) {
						t.Errorf("logits %v, want %v", got, want)
					}
				}
			})
		}
		runtime.Gosched()
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
		for name, f := range map[string]func() error{
			"Forward":    func() error { _, err := m.Forward([]int{1}); return err },
			"Score":      func() error { _, err := m.Score([]int{1, 2}, nil); return err },
			"LastLogits": func() error { _, err := m.LastLogits([]int{1}); return err },
			"Hidden":     func() error { _, err := m.Hidden([]int{1}); return err },
			"Append":     func() error { _, err := m.NewState().Append([]int{1}); return err },
			"Save":       func() error { return m.Save(filepath.Join(t.TempDir(), "x.pt")) },
			"Batch": func() error {
				b := m.NewBatch()
				if _, err := b.Add([]int{1}, nil); err != nil {
					return err
				}
				return b.Step()
			},
			"Generate": func() error {
				for _, err := range m.GenerateTokens(t.Context(), []int{1}) {
					return err
				}
				return nil
			},
		} {
			if err := f(); !errors.Is(err, ErrClosed) {
				t.Errorf("%s of a closed model: %v", name, err)
			}
		}
		if err := m.Close(); err != nil {
			t.Errorf("closed twice: %v", err)
		}
	}
}

// TestFileCutShort truncates the file of a running model, which is an error of the call, on whichever
// goroutine a weight is read.
func TestFileCutShort(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows doesn't let a mapped file be truncated")
	}
	c := smallConfig(RWKV7)
	c.VocabSize, c.NumLayers = 20_000, 2 // several megabytes, which several goroutines read
	random, err := Random(c, tensor.F32, 1)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "m.safetensors")
	for _, n := range []int64{4096, 100_000, 3_000_000} {
		if err := random.Save(path); err != nil {
			t.Fatal(err)
		}
		m, err := Open(path, SkipChecks())
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, n); err != nil {
			t.Fatal(err)
		}
		if _, err := m.NewState().Append([]int{1, 2, 3}); !errors.Is(err, ErrFileChanged) || !strings.Contains(err.Error(), path) {
			t.Errorf("Append from a file cut to %d bytes: %v", n, err)
		}
		if _, err := m.Forward([]int{1, 2}); !errors.Is(err, ErrFileChanged) {
			t.Errorf("Forward from a file cut to %d bytes: %v", n, err)
		}
		if _, err := m.Score([]int{1, 2}, nil); !errors.Is(err, ErrFileChanged) {
			t.Errorf("Score from a file cut to %d bytes: %v", n, err)
		}
		if _, err := m.NewState().MarshalBinary(); !errors.Is(err, ErrFileChanged) {
			t.Errorf("a fingerprint from a file cut to %d bytes: %v", n, err)
		}
		m.Close()
		os.Remove(path)
	}
}

// panics returns what f panics with.
func panics(f func()) (message any) {
	defer func() { message = recover() }()
	f()
	return nil
}

// TestMistakesPanic names the caller's mistake.
func TestMistakesPanic(t *testing.T) {
	m, tok := demoModel(t)
	for want, f := range map[string]func(){
		"option 1 is nil":      func() { CheckOptions(TopK(1), nil) },
		"tokenizer is nil":     func() { m.Generate(t.Context(), nil, "a") },
		"context is nil":       func() { m.Generate(nil, tok, "a") }, //lint:ignore SA1012 it is the mistake
		"two calls use one":    func() { s := m.NewState(); s.use(); s.Append([]int{1}) },
		"State at the same":    func() { s := m.NewState(); s.use(); s.MarshalBinary() },
		"State of another mod": func() { m.NewState().CopyFrom((&Model{net: m.net, config: m.config}).NewState()) },
	} {
		if got, _ := panics(f).(string); !strings.Contains(got, want) {
			t.Errorf("panic %q, want one that says %q", got, want)
		}
	}
}

// countdown is a context that ends when it was asked n times.
type countdown struct {
	context.Context
	n int
}

func (c *countdown) Err() error {
	if c.n--; c.n < 0 {
		return context.Canceled
	}
	return nil
}

// TestCancelledPrompt ends between chunks of a prompt; the state has read what it says, and goes on.
func TestCancelledPrompt(t *testing.T) {
	c := smallConfig(RWKV7)
	m, err := Random(c, tensor.F32, 1)
	if err != nil {
		t.Fatal(err)
	}
	ids := make([]int, 1000)
	for i := range ids {
		ids[i] = i % c.VocabSize
	}
	whole := m.NewState()
	must(t, whole, ids...)
	for n := range 5 {
		s := m.NewState()
		_, err := s.AppendContext(&countdown{t.Context(), n}, ids)
		if want := min(n*256, 1000); s.Len() != want || (err == nil) != (want == 1000) || (err != nil && !errors.Is(err, context.Canceled)) {
			t.Errorf("cancelled at chunk %d: %d tokens, error %v", n, s.Len(), err)
		}
		must(t, s, ids[s.Len():]...)
		sameBits(t, "gone on", s, whole)
		if !slices.Equal(s.seen.ids, whole.seen.ids) {
			t.Error("the history is another")
		}
	}
	tokens := 0
	for _, err := range m.GenerateTokens(&countdown{t.Context(), 2}, ids) {
		if tokens++; !errors.Is(err, context.Canceled) || tokens > 1 {
			t.Errorf("generated after 2 chunks: %v", err)
		}
	}
	if tokens != 1 {
		t.Errorf("%d tokens", tokens)
	}
}

// countingReader counts what is read of an endless file.
type countingReader struct {
	io.Reader
	n int64
}

func (c *countingReader) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.n += int64(n)
	return n, err
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// TestReadFrom reads no more than a state can have.
func TestReadFrom(t *testing.T) {
	eachRandom(t, allKinds, func(t *testing.T, m *Model, rng *rand.Rand) {
		s := m.NewState()
		must(t, s, randomIDs(300, m, rng)...)
		var b bytes.Buffer
		if n, err := s.WriteTo(&b); err != nil || n != int64(s.Size()) || s.Size() > s.maxSize() {
			t.Fatalf("%d bytes written, %v; size %d, at most %d", n, err, s.Size(), s.maxSize())
		}
		saved := b.Bytes()
		got := m.NewState()
		if n, err := got.ReadFrom(bytes.NewReader(saved)); err != nil || n != int64(len(saved)) {
			t.Fatalf("%d bytes read, %v", n, err)
		}
		sameBits(t, "read", got, s)
		if !slices.Equal(got.Hidden(), s.Hidden()) {
			t.Error("another hidden row")
		}
		endless := &countingReader{Reader: zeros{}}
		if _, err := got.ReadFrom(endless); !errors.Is(err, ErrStateFormat) || endless.n > 1000 {
			t.Errorf("of zeros: %v after %d bytes", err, endless.n)
		}
		endless = &countingReader{Reader: io.MultiReader(bytes.NewReader(saved), zeros{})}
		if _, err := got.ReadFrom(endless); !errors.Is(err, ErrStateFormat) || endless.n > int64(s.maxSize())+4096 {
			t.Errorf("a state and zeros: %v after %d bytes", err, endless.n)
		}
		for _, n := range []int{0, 7, stateHeader - 1, stateHeader, len(saved) - 1} {
			if _, err := got.ReadFrom(bytes.NewReader(saved[:n])); !errors.Is(err, ErrStateFormat) {
				t.Errorf("%d bytes of %d: %v", n, len(saved), err)
			}
		}
		sameBits(t, "after what was refused", got, s)
	})
}

// TestHidden is what the head makes the logits of.
func TestHidden(t *testing.T) {
	eachRandom(t, allKinds, func(t *testing.T, m *Model, rng *rand.Rand) {
		ids := randomIDs(12, m, rng)
		row, err := m.Hidden(ids)
		if err != nil {
			t.Fatal(err)
		}
		last, err := m.LastLogits(ids)
		if err != nil {
			t.Fatal(err)
		}
		x := tensor.New(1, len(row))
		copy(x.Data(), row)
		logits := tensor.New(1, m.config.VocabSize)
		tensor.Linear(tensor.Product{Dst: logits, X: x, W: m.net.head})
		if !slices.Equal(logits.Data(), last[0].Data()) {
			t.Error("the head makes other logits of it")
		}
		s := m.NewState()
		must(t, s, ids...)
		if !slices.Equal(s.Hidden(), row) {
			t.Errorf("of a state %v, want %v", s.Hidden(), row)
		}
		if c := s.Clone(); !slices.Equal(c.Hidden(), row) {
			t.Error("a clone has another")
		}
	})
}

// TestScoreInChunks compares the loss of a long text with that of all logits at once, and looks at the
// memory that it takes.
func TestScoreInChunks(t *testing.T) {
	c := smallConfig(RWKV7)
	m, err := Random(c, tensor.F32, 1)
	if err != nil {
		t.Fatal(err)
	}
	ids := make([]int, 3*prefillChunk+5)
	for i := range ids {
		ids[i] = i * i % c.VocabSize
	}
	got, err := m.Score(ids, nil)
	if err != nil {
		t.Fatal(err)
	}
	all, err := m.Forward(ids)
	if err != nil {
		t.Fatal(err)
	}
	var want float64
	for i := range len(ids) - 1 {
		want += crossEntropy(all.Row(i), ids[i+1])
	}
	want /= float64(len(ids) - 1)
	// The state of a chunk's end is rounded to float32 as that of any token, so only sums differ.
	if d := got.Loss - want; !(d < 1e-5 && d > -1e-5) || got.Positions != len(ids)-1 {
		t.Errorf("loss %.9g of %d positions, want %.9g", got.Loss, got.Positions, want)
	}
	used := func(n int) uint64 {
		long := make([]int, n)
		fresh, err := Random(c, tensor.F32, 1)
		if err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := fresh.Score(long, make([]int, n)); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	if short, long := used(2*prefillChunk), used(8*prefillChunk); long > short+short/4 {
		t.Errorf("%d bytes for 8 chunks, %d for 2", long, short)
	}
}
