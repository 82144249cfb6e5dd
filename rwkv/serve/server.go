package serve

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Server is an http.Handler. Its methods may be called by any goroutine.
type Server struct {
	config  Config
	mux     *http.ServeMux
	engines []*engine
	metrics *metrics
	callers []caller
	states  *states
	created int64

	leaving  atomic.Bool // /readyz says no
	draining atomic.Bool
	stop     context.CancelCauseFunc // ends all requests
	ctx      context.Context
	requests sync.WaitGroup // that generate
	mu       sync.Mutex     // of draining's change and requests' counting
}

// New returns a server of models, the first of which answers requests that name none. It must be shut
// down.
func New(models []Model, c Config) (*Server, error) {
	if err := c.fill(); err != nil {
		return nil, err
	}
	if len(models) == 0 {
		return nil, errors.New("serve: no model")
	}
	s := &Server{config: c, mux: http.NewServeMux(), metrics: newMetrics(c.Registry), created: time.Now().Unix()}
	s.ctx, s.stop = context.WithCancelCause(context.Background())
	for _, k := range c.Keys {
		s.callers = append(s.callers, newCaller(k))
	}
	var err error
	if s.states, err = newStates(s); err != nil {
		return nil, err
	}
	for _, m := range models {
		if s.named(m.Name) != nil || m.Name == "" {
			return nil, fmt.Errorf("serve: model name %q: want another for each model", m.Name)
		}
		s.engines = append(s.engines, newEngine(s, m))
	}
	for _, e := range s.engines {
		if e.from.Model == nil {
			go e.load()
			continue
		}
		if err := e.start(e.from.Model, e.from.Tokenizer); err != nil {
			s.stop(err)
			return nil, err
		}
	}
	go s.states.sweep(s.ctx)
	s.route()
	return s, nil
}

// NewHTTPServer returns a server with limits against clients that send slowly or too much.
func NewHTTPServer(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 64 << 10, IdleTimeout: 120 * time.Second}
}

func (s *Server) route() {
	for pattern, h := range map[string]func(http.ResponseWriter, *http.Request) error{
		"GET /healthz":              s.healthz,
		"GET /readyz":               s.readyz,
		"GET /v1/models":            s.listModels,
		"GET /v1/models/{id}":       s.getModel,
		"POST /v1/chat/completions": s.chat,
		"POST /v1/completions":      s.complete,
		"POST /v1/tokenize":         s.tokenize,
		"POST /v1/detokenize":       s.detokenize,
		"POST /v1/render":           s.render,
		"POST /v1/score":            s.score,
		"POST /v1/states":           s.states.create,
		"GET /v1/states":            s.states.list,
		"GET /v1/states/{id}":       s.states.get,
		"DELETE /v1/states/{id}":    s.states.remove,
		"GET /v1/states/{id}/data":  s.states.download,
		"PUT /v1/states/{id}/data":  s.states.upload,
		"POST /v1/states/{id}/fork": s.states.fork,
		"GET /{$}":                  s.page, "GET /page.css": s.page, "GET /page.js": s.page,
		"/": s.unknown,
	} {
		s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := h(w, r); err != nil {
				s.fail(w, r, err)
			}
		})
	}
	s.mux.Handle("GET /metrics", s.Metrics())
}

// Metrics returns the handler of /metrics alone, for another address.
func (s *Server) Metrics() http.Handler {
	return promhttp.HandlerFor(s.config.Registry, promhttp.HandlerOpts{})
}

// recorder notes what a handler answers.
type recorder struct {
	http.ResponseWriter
	code int
}

func (w *recorder) WriteHeader(code int) {
	if w.code == 0 {
		w.code = code
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *recorder) Write(b []byte) (int, error) {
	if w.code == 0 {
		w.code = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// newID returns a name that can't be guessed.
func newID(prefix string) string {
	var b [12]byte
	rand.Read(b[:])
	return prefix + hex.EncodeToString(b[:])
}

// ServeHTTP answers a request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	begin := time.Now()
	id := r.Header.Get("X-Request-Id")
	if !goodName(id) {
		id = newID("req_")
	}
	w.Header().Set("X-Request-Id", id)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	rec := &recorder{ResponseWriter: w}
	defer func() {
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler {
				panic(p)
			}
			s.config.Log.Error("panic", "id", id, "panic", fmt.Sprint(p))
			s.fail(rec, r, errors.New("panic"))
		}
		endpoint := r.Pattern
		if endpoint == "" {
			endpoint = "none"
		}
		s.metrics.requests.WithLabelValues(endpoint, fmt.Sprint(rec.code)).Inc()
		s.config.Log.Info("request", "id", id, "endpoint", endpoint, "code", rec.code, "seconds", time.Since(begin).Seconds())
	}()
	r, done, err := s.guard(rec, r)
	if err != nil {
		s.fail(rec, r, err)
		return
	}
	if !done {
		s.mux.ServeHTTP(rec, r)
	}
}

// goodName reports whether a client's name for something is fit for logs and keys.
func goodName(s string) bool {
	if s == "" || len(s) > 128 || s[0] == '.' {
		return false
	}
	for _, c := range []byte(s) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.') {
			return false
		}
	}
	return true
}

// begin counts a request that generates, unless the server takes no more. The caller calls
// s.requests.Done.
func (s *Server) begin() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining.Load() {
		return errDraining
	}
	s.requests.Add(1)
	return nil
}

// Drain makes /readyz say that the server will end, so that no more requests are sent to it. It takes
// them still.
func (s *Server) Drain() { s.leaving.Store(true) }

// Shutdown takes no more requests and waits for those that are running, until ctx ends: then they end
// with an error, which Shutdown returns.
func (s *Server) Shutdown(ctx context.Context) error {
	s.Drain()
	s.mu.Lock()
	s.draining.Store(true)
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		s.requests.Wait()
		close(done)
	}()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	s.stop(errDraining)
	<-done
	for _, e := range s.engines {
		if e.ready.Load() {
			<-e.scheduler.ended
		}
	}
	return err
}

func (s *Server) healthz(w http.ResponseWriter, r *http.Request) error {
	return reply(w, map[string]string{"status": "ok"})
}

func (s *Server) readyz(w http.ResponseWriter, r *http.Request) error {
	if s.leaving.Load() {
		return errDraining
	}
	for _, e := range s.engines {
		if err := e.usable(); err != nil {
			return err
		}
	}
	return reply(w, map[string]string{"status": "ready"})
}

func (s *Server) unknown(w http.ResponseWriter, r *http.Request) error {
	return &Error{Status: http.StatusNotFound, Code: "unsupported_endpoint", Message: fmt.Sprintf("there is no %s %s here", r.Method, r.URL.Path)}
}
