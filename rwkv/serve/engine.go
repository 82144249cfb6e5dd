package serve

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"microrwkv/rwkv"
	"microrwkv/rwkv/chat"
	"microrwkv/tensor"
	"microrwkv/tokenizer"
)

// engine is a model that is served.
type engine struct {
	server *Server
	from   Model
	name   string
	ready  atomic.Bool // what is below is set
	mu     sync.Mutex
	failed error // of loading

	model       *rwkv.Model
	tok         tokenizer.Tokenizer
	template    *chat.Template
	fingerprint string
	system      string // system_fingerprint
	scheduler   *scheduler
	initial     map[string]*rwkv.State
	scoring     chan struct{} // one at a time
}

func newEngine(s *Server, m Model) *engine {
	return &engine{server: s, from: m, name: m.Name, scoring: make(chan struct{}, 1)}
}

// load opens the model.
func (e *engine) load() {
	m, tok, err := e.from.Open()
	if err == nil {
		err = e.start(m, tok)
	}
	if err != nil {
		e.server.config.Log.Error("the model can't be loaded", "model", e.name, "error", err.Error())
		e.mu.Lock()
		e.failed = err
		e.mu.Unlock()
	}
}

// start makes a model that is open ready.
func (e *engine) start(m *rwkv.Model, tok tokenizer.Tokenizer) (err error) {
	if tok == nil {
		return fmt.Errorf("serve: model %q: no tokenizer", e.name)
	}
	c := &e.server.config
	if e.template, err = chat.Named(c.Template, m.Config().Kind); err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	if _, err := e.template.Prompt([]chat.Message{{Role: chat.User}}, chat.Options{Think: c.Think}); err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	fp, err := m.Fingerprint()
	if err != nil {
		return err
	}
	e.model, e.tok = m, tok
	e.fingerprint = hex.EncodeToString(fp[:])
	both := sha256.Sum256(append(fp[:], tensor.Kernel()...))
	e.system = "fp_" + hex.EncodeToString(both[:6])
	e.initial = map[string]*rwkv.State{}
	for name, path := range e.from.States {
		if e.initial[name], err = openState(m, path); err != nil {
			return err
		}
	}
	e.scheduler = newScheduler(e)
	e.server.metrics.info.WithLabelValues(e.name, string(m.Config().Kind), e.fingerprint, tensor.Kernel()).Set(1)
	go e.scheduler.loop()
	e.ready.Store(true)
	return nil
}

// usable returns an error unless the model is loaded.
func (e *engine) usable() error {
	if e.ready.Load() {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.failed != nil {
		return &Error{Status: 500, Code: "model_failed", Message: "the model can't be loaded"}
	}
	return errLoading
}

// named returns the model of a name, the first for "", or nil.
func (s *Server) named(name string) *engine {
	if name == "" && len(s.engines) > 0 {
		return s.engines[0]
	}
	i := slices.IndexFunc(s.engines, func(e *engine) bool { return e.name == name })
	if i < 0 {
		return nil
	}
	return s.engines[i]
}

// engineOf returns the model of a name for a request.
func (s *Server) engineOf(name string) (*engine, error) {
	e := s.named(name)
	if e == nil {
		return nil, &Error{Status: 404, Code: "model_not_found", Param: "model", Message: fmt.Sprintf("there is no model %q", name)}
	}
	return e, e.usable()
}

// describe returns a model as the API lists it.
func (e *engine) describe() map[string]any {
	d := map[string]any{"id": e.name, "object": "model", "created": e.server.created, "owned_by": "microrwkv", "ready": e.ready.Load()}
	if e.ready.Load() {
		c := e.model.Config()
		d["kind"], d["fingerprint"], d["template"], d["trained_to_chat"] = c.Kind, e.fingerprint, e.template.Name, e.template.Trained
		d["parameters"], d["context"] = e.model.NumParameters(), c.BlockSize
	}
	return d
}

func (s *Server) listModels(w http.ResponseWriter, r *http.Request) error {
	list := []any{}
	for _, e := range s.engines {
		list = append(list, e.describe())
	}
	return reply(w, map[string]any{"object": "list", "data": list})
}

func (s *Server) getModel(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	e := s.named(id)
	if e == nil {
		return &Error{Status: 404, Code: "model_not_found", Param: "model", Message: fmt.Sprintf("there is no model %q", id)}
	}
	return reply(w, e.describe())
}

// encode returns the ids of a text in parts: one by one if that gives the whole text's ids, else all
// in one.
func (e *engine) encode(param string, parts []string) ([][]int, error) {
	whole, err := e.tok.Encode(strings.Join(parts, ""))
	if err == nil {
		err = e.model.CheckIDs(whole)
	}
	if err != nil {
		return nil, bad(param, "%v", err)
	}
	var ids [][]int
	n := 0
	for _, p := range parts {
		part, err := e.tok.Encode(p)
		if err != nil || n+len(part) > len(whole) || !slices.Equal(part, whole[n:n+len(part)]) {
			return [][]int{whole}, nil
		}
		if n += len(part); len(part) > 0 {
			ids = append(ids, part)
		}
	}
	if n != len(whole) {
		return [][]int{whole}, nil
	}
	return ids, nil
}

// checkLength returns an error if a prompt is too long.
func (e *engine) checkLength(param string, parts [][]int) error {
	if n := count(parts); n > e.server.config.MaxPromptTokens {
		return &Error{Status: 400, Code: "context_length_exceeded", Param: param, Message: fmt.Sprintf("the prompt has %d tokens, at most %d are allowed", n, e.server.config.MaxPromptTokens)}
	}
	return nil
}

// count returns how many ids there are.
func count(parts [][]int) (n int) {
	for _, p := range parts {
		n += len(p)
	}
	return n
}

// piece returns a token's bytes.
func (e *engine) piece(id int) []byte { return e.tok.AppendToken(nil, id) }

// errNoPrompt is the error of a request that has nothing to go on from.
var errNoPrompt = bad("prompt", "the prompt is empty")
