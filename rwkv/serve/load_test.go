package serve

import (
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"microrwkv/rwkv/serve/internal/load"
)

// TestLoad has 64 clients stream answers to prompts of up to 1000 tokens, or of up to 8000 for the time
// that the variable MICRORWKV_LOAD says. Nothing may fail, and no goroutine, memory or text be left; of a run of 30 s or more
// 99% of the times between tokens must be within two step budgets, so it needs a machine of its own.
func TestLoad(t *testing.T) {
	length, long, clients, tokens := time.Second, 1000, 64, 50
	if testing.Short() {
		long, clients, tokens = 300, 16, 10
	}
	if v := os.Getenv("MICRORWKV_LOAD"); v != "" {
		var err error
		if length, err = time.ParseDuration(v); err != nil {
			t.Fatal(err)
		}
		long = 8000
	}
	const budget = 100 * time.Millisecond
	before := runtime.NumGoroutine()
	s := newSite(t, Config{StepBudget: budget, StateRAM: 64 << 20}) // the cache is full before memory is measured
	c := load.Config{URL: s.url, Clients: clients, ShortWords: 200, LongWords: long, LongEvery: 8, MaxTokens: tokens,
		HTTP: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}}}
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	c.Duration = length / 5
	if r := load.Run(t.Context(), c); r.Errors > 0 {
		t.Fatalf("%+v", r)
	}
	first, goroutines := heap(), runtime.NumGoroutine()
	c.Duration, c.Seed = length-length/5, 1
	r := load.Run(t.Context(), c)
	last := heap()
	t.Logf("%+v; heap %d MB, then %d MB; goroutines %d, then %d", r, first>>20, last>>20, goroutines, runtime.NumGoroutine())
	if r.Errors > 0 || r.Requests < clients || r.CompletionTokens != tokens*r.Requests || r.PromptTokens < 20*r.Requests {
		t.Errorf("%+v", r)
	}
	if length >= 30*time.Second && r.Between.P99 > 2*float64(budget.Milliseconds()) {
		t.Errorf("99%% of the times between tokens are within %.0f ms, want %v", r.Between.P99, 2*budget)
	}
	if last > first+first/5+(16<<20) {
		t.Errorf("the heap grew from %d to %d bytes", first, last)
	}
	if n := s.load(); n != 0 {
		t.Errorf("%d texts are left", n)
	}
	c.HTTP.CloseIdleConnections()
	// the loop of the scheduler, the sweep of states and the listener stay
	until(t, "the goroutines end", func() bool { return runtime.NumGoroutine() <= before+6 })
}

// The load's clients count what goes wrong: statuses, errors in streams and streams without an end.
func TestLoadErrors(t *testing.T) {
	for want, answer := range map[string]func(w http.ResponseWriter){
		"status 503":  func(w http.ResponseWriter) { w.WriteHeader(503) },
		"cut short":   func(w http.ResponseWriter) { w.Write([]byte("data: {\"choices\":[{\"text\":\"x\"}]}\n\n")) },
		"broken here": func(w http.ResponseWriter) { w.Write([]byte("data: {\"error\":{\"message\":\"broken here\"}}\n\n")) },
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answer(w) }))
		r := load.Run(t.Context(), load.Config{URL: s.URL, Clients: 2, MaxTokens: 1})
		s.Close()
		if r.Requests != 2 || r.Errors != 2 || !strings.Contains(r.FirstError, want) {
			t.Errorf("%s: %+v", want, r)
		}
	}
}
