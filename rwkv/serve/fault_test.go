package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"microrwkv/rwkv"
	"microrwkv/tokenizer"
)

// endless is a request that takes long.
func endless(stream bool) object {
	return object{"prompt": "Once upon", "max_tokens": 4096, "ignore_eos": true, "stream": stream}
}

// A client that goes is forgotten: in the queue, while its prompt is read, and in a stream.
func TestDisconnect(t *testing.T) {
	s := newSite(t, Config{MaxBatch: 1, StepBudget: 1})
	var requests sync.WaitGroup
	begin := func(body object) (leave func()) {
		ctx, cancel := context.WithCancel(t.Context())
		requests.Go(func() {
			if r, err := s.do(ctx, "POST", "/v1/completions", body); err == nil {
				<-ctx.Done()
				r.Body.Close()
			}
		})
		return cancel
	}
	generated := func() float64 { return testutil.ToFloat64(s.server.metrics.generated) }

	prompt := begin(object{"prompt": ids(30000), "max_tokens": 1})
	until(t, "the prompt is read", func() bool { return s.running() == 1 })
	queued := begin(endless(false))
	until(t, "another waits", func() bool { return s.load() == 2 })
	queued()
	until(t, "who waited is gone", func() bool { return s.load() == 1 })
	if s.running() != 1 {
		t.Fatal("the prompt was read before its client could go")
	}
	prompt()
	until(t, "whose prompt was read is gone", func() bool { return s.load() == 0 })
	before := generated() // who waited may have had a turn
	stream := begin(endless(true))
	until(t, "a stream begins", func() bool { return generated() > before })
	stream()
	until(t, "the stream's reader is gone", func() bool { return s.load() == 0 && s.running() == 0 })
	requests.Wait()
	if n := testutil.ToFloat64(s.server.metrics.cancelled.WithLabelValues("client")); n != 3 {
		t.Errorf("%v cancelled, want 3", n)
	}
	s.ask("POST", "/v1/completions", object{"prompt": "x", "max_tokens": 1}).json(t)
}

// slowWriter is a client that takes nothing until it is told to.
type slowWriter struct {
	*httptest.ResponseRecorder
	take chan struct{}
}

func (w *slowWriter) Write(b []byte) (int, error) {
	<-w.take
	return w.ResponseRecorder.Write(b)
}

func (w *slowWriter) SetWriteDeadline(time.Time) error { return nil }

// A reader that is slow keeps nobody waiting and loses nothing; its text pauses.
func TestSlowReader(t *testing.T) {
	s := newSite(t, Config{MaxBatch: 1})
	body := object{"prompt": "Once upon", "max_tokens": 400, "seed": 4, "logprobs": 5, "ignore_eos": true}
	want := at(s.ask("POST", "/v1/completions", body).json(t), "choices", 0, "text")
	body["stream"] = true
	b, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("POST", "/v1/completions", bytes.NewReader(b))
	r.Header.Set("Content-Type", "application/json")
	w := &slowWriter{httptest.NewRecorder(), make(chan struct{})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.server.ServeHTTP(w, r)
	}()
	until(t, "its text pauses", func() bool { return s.load() == 1 && s.running() == 0 })
	s.ask("POST", "/v1/completions", object{"prompt": "x", "max_tokens": 200}).json(t)
	until(t, "the other text is forgotten", func() bool { return s.load() <= 1 })
	if s.load() != 1 {
		t.Error("the slow reader's text is gone")
	}
	close(w.take)
	<-done
	text := ""
	list, ended := events(t, w.Body)
	for _, e := range list {
		if piece, ok := at(e, "choices", 0, "text").(string); ok {
			text += piece
		}
	}
	if !ended || text != want {
		t.Errorf("ended: %v, text %.80q, want %.80q", ended, text, want)
	}
}

// brokenWriter is a client that takes nothing in time.
type brokenWriter struct{ *httptest.ResponseRecorder }

func (brokenWriter) Write([]byte) (int, error)        { return 0, os.ErrDeadlineExceeded }
func (brokenWriter) SetWriteDeadline(time.Time) error { return nil }

func TestReaderTooSlow(t *testing.T) {
	s := newSite(t, Config{})
	b, err := json.Marshal(endless(true))
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("POST", "/v1/completions", bytes.NewReader(b))
	r.Header.Set("Content-Type", "application/json")
	s.server.ServeHTTP(brokenWriter{httptest.NewRecorder()}, r)
	until(t, "its text ends", func() bool { return s.load() == 0 })
}

// What has no room is refused at once, with the time to come again.
func TestQueueFull(t *testing.T) {
	s := newSite(t, Config{MaxBatch: 1, MaxQueue: 2, PerKey: 2, Keys: []Key{{"a", "key-of-a"}, {"b", "key-of-b"}}})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var requests sync.WaitGroup
	for i := range 2 {
		requests.Go(func() { s.do(ctx, "POST", "/v1/completions", endless(false)) })
		until(t, "a request is taken", func() bool { return s.load() == i+1 })
	}
	s.ask("POST", "/v1/completions", endless(false)).refused(t, 429, "queue_full") // the key's share
	b := s.as("key-of-b")
	b.ask("POST", "/v1/completions", object{"prompt": "x", "n": 2}).refused(t, 429, "queue_full")
	requests.Go(func() { b.do(ctx, "POST", "/v1/completions", endless(false)) })
	until(t, "the other key is let in", func() bool { return s.load() == 3 })
	b.ask("POST", "/v1/completions", endless(false)).refused(t, 429, "queue_full")
	cancel()
	requests.Wait()
	until(t, "all are gone", func() bool { return s.load() == 0 })
	s.ask("POST", "/v1/completions", object{"prompt": "x"}).json(t)
}

// Prompts are cut at the ends of parts and each 64 tokens after one.
func TestChunks(t *testing.T) {
	if got := fmt.Sprint(chunks([][]int{ids(150), ids(3), ids(64)})); got != "[64 64 22 3 64]" {
		t.Error(got)
	}
}

// Keys come in turn: who asks for much doesn't keep another from a short answer.
func TestFair(t *testing.T) {
	var q queue
	owner := func(o string) *task { return &task{job: &job{owner: o}} }
	for _, o := range []string{"a", "a", "a", "b", "c", "b"} {
		q.push(owner(o))
	}
	order := ""
	for q.len > 0 {
		order += q.pop(func(*task) bool { return true }).job.owner
	}
	if order != "abcaba" {
		t.Errorf("order %s, want abcaba", order)
	}

	s := newSite(t, Config{MaxBatch: 1})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var requests sync.WaitGroup
	requests.Go(func() { s.do(ctx, "POST", "/v1/completions", endless(false)) })
	until(t, "the long text begins", func() bool { return s.running() == 1 })
	s.ask("POST", "/v1/completions", object{"prompt": "x", "max_tokens": 300, "ignore_eos": true}).json(t)
	if n := testutil.ToFloat64(s.server.metrics.generated); n >= 4096 {
		t.Errorf("the short text came after the long one: %v tokens", n)
	}
	cancel()
	requests.Wait()
}

// A long prompt keeps no other waiting, neither in the batch nor for a place in it, and has the same bits.
func TestLongPrompt(t *testing.T) {
	length := 12000
	if testing.Short() {
		length = 3000
	}
	_, want := alone(t, [][]int{ids(length)}, 5, 2)
	for _, wide := range []int{1, 4} {
		s := newSite(t, Config{MaxBatch: wide, StepBudget: 1})
		result := make(chan object)
		go func() {
			result <- s.ask("POST", "/v1/completions", object{"prompt": ids(length), "max_tokens": 5, "seed": 2, "logprobs": 0}).json(t)
		}()
		until(t, "the long prompt is read", func() bool { return s.running() == 1 })
		s.ask("POST", "/v1/completions", object{"prompt": ids(100)[1:], "max_tokens": 3}).json(t)
		if s.load() == 0 {
			t.Errorf("%d at a time: the short prompt came after the long one", wide)
		}
		var got []float32
		for _, p := range at(<-result, "choices", 0, "logprobs", "token_logprobs").([]any) {
			got = append(got, float32(p.(float64)))
		}
		if !same(got, want) {
			t.Errorf("%d at a time: other bits after the long prompt: %v, want %v", wide, got, want)
		}
	}
}

// A server that ends finishes what it has begun, if there is time, and says so else.
func TestShutdown(t *testing.T) {
	before := runtime.NumGoroutine()
	s := newSite(t, Config{})
	s.ask("GET", "/readyz", nil).json(t)
	s.server.Drain()
	s.ask("GET", "/readyz", nil).refused(t, 503, "draining")
	s.ask("POST", "/v1/completions", object{"prompt": "x"}).json(t) // still

	until(t, "that text is forgotten", func() bool { return s.load() == 0 })
	result := make(chan answer)
	go func() {
		result <- s.ask("POST", "/v1/completions", object{"prompt": "x", "max_tokens": 500, "ignore_eos": true})
	}()
	until(t, "a text begins", func() bool { return s.load() == 1 })
	end := make(chan error)
	go func() { end <- s.server.Shutdown(t.Context()) }()
	until(t, "the server takes no more", s.server.draining.Load)
	s.ask("POST", "/v1/completions", object{"prompt": "x"}).refused(t, 503, "draining")
	if o := (<-result).json(t); at(o, "usage", "completion_tokens") != 500.0 {
		t.Errorf("the text that had begun: %v", o)
	}
	if err := <-end; err != nil {
		t.Error(err)
	}
	s.http.Close()
	http.DefaultClient.CloseIdleConnections()
	until(t, "all goroutines end", func() bool { return runtime.NumGoroutine() <= before })

	s = newSite(t, Config{})
	streams := make(chan []object)
	go func() {
		a := s.ask("POST", "/v1/completions", endless(true))
		if a.code == 503 { // its handler hadn't sent anything yet
			a.refused(t, 503, "draining")
			streams <- nil
			return
		}
		list, done := events(t, bytes.NewReader(a.body))
		if done || len(list) == 0 {
			t.Errorf("a stream that was cut short: %d events, [DONE] %v: %s", len(list), done, a.body)
		}
		streams <- list
	}()
	until(t, "a stream begins", func() bool { return testutil.ToFloat64(s.server.metrics.generated) > 20 })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.server.Shutdown(ctx); err == nil {
		t.Error("no error though there was no time")
	}
	if list := <-streams; len(list) > 0 {
		if code := at(list[len(list)-1], "error", "code"); code != "draining" {
			t.Errorf("the stream ends with %v", list[len(list)-1])
		}
	}
}

func TestTimeout(t *testing.T) {
	s := newSite(t, Config{RequestTimeout: 1})
	s.ask("POST", "/v1/completions", endless(false)).refused(t, 504, "timeout")
	until(t, "its text ends", func() bool { return s.load() == 0 })
}

// The server answers while a model is loaded, and when it can't be.
func TestLoading(t *testing.T) {
	opened := make(chan error)
	s := newSite(t, Config{}, Model{Name: "late", Open: func() (*rwkv.Model, tokenizer.Tokenizer, error) {
		return tiny().Model, tiny().Tokenizer, <-opened
	}}, Model{Name: "broken", Open: func() (*rwkv.Model, tokenizer.Tokenizer, error) { return nil, nil, os.ErrNotExist }})
	s.ask("GET", "/healthz", nil).json(t)
	s.ask("GET", "/readyz", nil).refused(t, 503, "model_loading")
	s.ask("POST", "/v1/completions", object{"prompt": "x"}).refused(t, 503, "model_loading")
	if o := s.ask("GET", "/v1/models", nil).json(t); at(o, "data", 0, "ready") != false {
		t.Error(o)
	}
	opened <- nil
	until(t, "the model is loaded", func() bool { return s.ask("POST", "/v1/completions", object{"prompt": "x"}).code == 200 })
	until(t, "the other fails", func() bool {
		return s.ask("POST", "/v1/completions", object{"model": "broken", "prompt": "x"}).code == 500
	})
}

// An error of one text ends that one alone.
func TestPoison(t *testing.T) {
	s := newSite(t, Config{})
	body := object{"prompt": "x", "max_tokens": 300, "seed": 1, "ignore_eos": true}
	want := at(s.ask("POST", "/v1/completions", body).json(t), "choices", 0, "text")
	got := make(chan any)
	go func() { got <- at(s.ask("POST", "/v1/completions", body).json(t), "choices", 0, "text") }()
	until(t, "a text begins", func() bool { return s.load() == 1 })
	// a state with a NaN, as if it had been checked
	e := s.server.engines[0]
	state := e.model.NewState()
	if _, err := state.Append([]int{1}); err != nil {
		t.Fatal(err)
	}
	state.Logits()[7] = float32(math.NaN())
	keep := &keeping{s: s.server.states, e: e, ttl: time.Hour}
	m, data, err := keep.describe(state)
	if err != nil {
		t.Fatal(err)
	}
	m.ID = "poison"
	if err := keep.s.put(t.Context(), "public", m, data); err != nil {
		t.Fatal(err)
	}
	s.ask("POST", "/v1/completions", object{"prompt": "", "max_tokens": 10, "state": object{"id": "poison"}}).refused(t, 500, "")
	if g := <-got; g != want {
		t.Error("another's request changed a text")
	}
}

func TestConfig(t *testing.T) {
	for name, c := range map[string]Config{
		"max_batch": {MaxBatch: -1}, "32": {StateKey: []byte("short")}, `"x"`: {Keys: []Key{{"x", "short"}}},
		"temperature": {Sampling: &rwkv.Sampling{Temperature: -1}}, `"g2"`: {Template: "g2"}, `"maybe"`: {Think: "maybe"},
	} {
		if _, err := New([]Model{tiny()}, c); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("error %v, want one that names %s", err, name)
		}
	}
	if _, err := New(nil, Config{}); err == nil {
		t.Error("a server of no model")
	}
	if _, err := New([]Model{tiny(), tiny()}, Config{}); err == nil {
		t.Error("two models of one name")
	}
}
