package serve

import (
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"
)

// TestLoad has 64 clients stream answers to prompts of up to 8000 tokens, for the time that the variable
// MICRORWKV_LOAD says, and tells how long tokens took. Nothing may fail, and nothing be left.
func TestLoad(t *testing.T) {
	length := time.Second
	if v := os.Getenv("MICRORWKV_LOAD"); v != "" {
		var err error
		if length, err = time.ParseDuration(v); err != nil {
			t.Fatal(err)
		}
	}
	s := newSite(t, Config{})
	before := runtime.NumGoroutine()
	end := time.Now().Add(length)
	var mu sync.Mutex
	var gaps []float64
	tokens, requests := 0, 0
	var all sync.WaitGroup
	for i := range 64 {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 0))
			for first := true; first || time.Now().Before(end); first = false {
				n := 20 + rng.IntN(200)
				if rng.IntN(8) == 0 {
					n = 8000
				}
				r, err := s.do(t.Context(), "POST", "/v1/completions", object{"prompt": ids(n + i)[i:], "max_tokens": 50, "ignore_eos": true, "stream": true, "logprobs": 0})
				if err != nil {
					t.Error(err)
					return
				}
				own, last := []float64{}, time.Time{}
				lines := &timed{r: r.Body, f: func() {
					if now := time.Now(); !last.IsZero() {
						own = append(own, now.Sub(last).Seconds())
					}
					last = time.Now()
				}}
				list, done := events(t, lines)
				r.Body.Close()
				if r.StatusCode != 200 || !done {
					t.Errorf("status %d, done %v", r.StatusCode, done)
					return
				}
				mu.Lock()
				gaps = append(gaps, own...)
				tokens += 50
				requests++
				mu.Unlock()
				if len(list) < 2 {
					t.Errorf("%d events", len(list))
				}
			}
		})
	}
	begin := time.Now()
	all.Wait()
	seconds := time.Since(begin).Seconds()
	slices.Sort(gaps)
	at := func(p float64) float64 { return 1000 * gaps[int(p*float64(len(gaps)-1))] }
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	t.Logf("%d requests, %.0f tokens/s; between pieces of a stream p50 %.0f ms, p99 %.0f ms, most %.0f ms; heap %d MB", requests, float64(tokens)/seconds, at(.5), at(.99), at(1), m.HeapAlloc>>20)
	if n := s.load(); n != 0 {
		t.Errorf("%d texts are left", n)
	}
	until(t, "the goroutines end", func() bool { return runtime.NumGoroutine() <= before+70 }) // idle connections
}

// timed calls f for each piece that is read.
type timed struct {
	r interface{ Read([]byte) (int, error) }
	f func()
}

func (t *timed) Read(b []byte) (int, error) {
	n, err := t.r.Read(b)
	if n > 0 {
		t.f()
	}
	return n, err
}
