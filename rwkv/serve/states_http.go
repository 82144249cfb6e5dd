package serve

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"microrwkv/rwkv"
	"microrwkv/rwkv/chat"
)

// ending is what has to be read between an answer and a next message.
func (e *engine) ending() string {
	if e.template.Trained {
		return chat.Join
	}
	return "\n"
}

// prefillWriter answers with the state of a prompt.
type prefillWriter struct{ w http.ResponseWriter }

func (prefillWriter) write(event) error { return nil }
func (prefillWriter) ping() error       { return nil }
func (prefillWriter) fail(error)        {}
func (p prefillWriter) finish(_ *usage, st *answerState) error {
	if st.Error != nil {
		return st.Error
	}
	p.w.Header().Set("X-State-Id", st.ID)
	return reply(p.w, st)
}

// create answers POST /v1/states: it reads messages, a prompt or tokens, and keeps the state after
// them.
func (s *states) create(w http.ResponseWriter, r *http.Request) error {
	var q struct {
		chatRequest
		Prompt *string
		Tokens []int
		Parent string
		TTL    *int `json:"ttl_seconds"`
	}
	if err := s.server.decode(w, r, &q); err != nil {
		return err
	}
	e, err := s.server.engineOf(q.Model)
	if err != nil {
		return err
	}
	if err := q.check(); err != nil {
		return err
	}
	keep, err := s.open(r, e, &stateRequest{ID: q.Parent, Save: true, TTL: q.TTL}, 1)
	if err != nil {
		return err
	}
	defer keep.close()
	var parts [][]int
	switch {
	case len(q.Messages) > 0:
		c, err := q.conversation(e, keep.tail())
		if err != nil {
			return err
		}
		text := c.parts
		if keep.ends = e.ending(); e.template.Trained && !c.goesOn {
			text, keep.ends = text[:len(text)-1], "" // without what asks for an answer
		}
		if parts, err = e.encode("messages", text); err != nil {
			return err
		}
	case q.Prompt != nil:
		if parts, err = e.encode("prompt", []string{*q.Prompt}); err != nil {
			return err
		}
	default:
		if err := e.model.CheckIDs(q.Tokens); err != nil {
			return bad("tokens", "%v", err)
		}
		parts = [][]int{q.Tokens}
	}
	if err := e.checkLength("prompt", parts); err != nil {
		return err
	}
	if count(parts) == 0 {
		return bad("messages", "want messages, a prompt or tokens")
	}
	j := &job{owner: keep.owner, base: keep.base, parts: parts, n: 1, options: []rwkv.Option{rwkv.MaxTokens(0)}}
	return s.server.run(r, e, []*job{j}, keep, prefillWriter{w})
}

// list answers GET /v1/states with the caller's, the newest first.
func (s *states) list(w http.ResponseWriter, r *http.Request) error {
	limit := 100
	if l := r.URL.Query().Get("limit"); l != "" {
		var err error
		if limit, err = strconv.Atoi(l); err != nil || limit < 1 || limit > 1000 {
			return bad("limit", "limit = %q, want 1 to 1000", l)
		}
	}
	owner := callerOf(r).id
	var infos []Info
	err := s.timed("list", func() (err error) {
		infos, err = s.store.List(r.Context(), "meta/"+owner+"/")
		return err
	})
	if err != nil {
		return err
	}
	all := []stateMeta{}
	for _, i := range infos {
		b, err := s.fetch(r.Context(), i.Key)
		var m storedMeta
		if errors.Is(err, errNoState) || err == nil && json.Unmarshal(b, &m) != nil {
			continue // meanwhile
		}
		if err != nil {
			return err
		}
		all = append(all, m.stateMeta)
	}
	slices.SortFunc(all, func(a, b stateMeta) int {
		return cmp.Or(cmp.Compare(b.Created, a.Created), cmp.Compare(a.ID, b.ID))
	})
	more := len(all) > limit
	return reply(w, map[string]any{"object": "list", "data": all[:min(limit, len(all))], "has_more": more})
}

func (s *states) get(w http.ResponseWriter, r *http.Request) error {
	m, err := s.meta(r.Context(), callerOf(r).id, r.PathValue("id"))
	if err != nil {
		return err
	}
	return reply(w, m.stateMeta)
}

// remove answers DELETE /v1/states/{id}.
func (s *states) remove(w http.ResponseWriter, r *http.Request) error {
	owner, id := callerOf(r).id, r.PathValue("id")
	m, err := s.meta(r.Context(), owner, id)
	if err != nil {
		return err
	}
	for _, key := range []string{"meta/" + owner + "/" + id, m.Data} {
		if err := s.timed("delete", func() error { return s.store.Delete(r.Context(), key) }); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.owners, owner) // to be counted again
	if s.ram != nil {
		s.ram.remove(m.Data)
	}
	return reply(w, map[string]any{"id": id, "object": "state.deleted", "deleted": true})
}

// download answers GET /v1/states/{id}/data with the file that rwkv.State reads.
func (s *states) download(w http.ResponseWriter, r *http.Request) error {
	m, err := s.meta(r.Context(), callerOf(r).id, r.PathValue("id"))
	if err != nil {
		return err
	}
	w.Header().Set("ETag", etag(m))
	if matches(r.Header.Get("If-None-Match"), m) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	b, err := s.data(r.Context(), m)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", m.ID+".state"))
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(10 * writeTimeout))
	w.Write(b)
	return nil
}

// upload answers PUT /v1/states/{id}/data: the state gets this id. It is checked: the format, the
// checksum, the model, and that all numbers are.
func (s *states) upload(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	if !goodName(id) {
		return bad("id", "id: want up to 128 letters, digits, '-', '_' and '.'")
	}
	e, err := s.server.engineOf(r.URL.Query().Get("model"))
	if err != nil {
		return err
	}
	state := e.model.NewState()
	rc := http.NewResponseController(w)
	rc.SetReadDeadline(time.Now().Add(bodyTimeout))
	_, err = state.ReadFrom(r.Body)
	rc.SetReadDeadline(time.Time{})
	if err != nil {
		if e := errorOf(err); e.Status != 500 {
			return err
		}
		return &Error{Status: 400, Code: "bad_body", Message: "the request's body can't be read"}
	}
	if !state.Finite() {
		return &Error{Status: 400, Code: "bad_state", Param: "state", Message: "the state has numbers that are NaN or infinite"}
	}
	keep := &keeping{s: s, e: e, owner: callerOf(r).id, ttl: s.server.config.StateTTL, ends: e.ending()}
	switch r.URL.Query().Get("tail") {
	case "", "answer":
	case "none":
		keep.ends = ""
	default:
		return bad("tail", "tail: want answer, if the state ends with an answer, or none")
	}
	m, data, err := keep.describe(state)
	if err != nil {
		return err
	}
	m.ID = id
	if old, err := s.meta(r.Context(), keep.owner, id); err == nil && old.SHA256 == m.SHA256 {
		return reply(w, old.stateMeta)
	}
	ctx, cancel := context.WithTimeout(r.Context(), saveTimeout)
	defer cancel()
	if err := s.put(ctx, keep.owner, m, data); err != nil {
		return err
	}
	return reply(w, m)
}

// fork answers POST /v1/states/{id}/fork with another state of the same bits, which is kept on its own.
func (s *states) fork(w http.ResponseWriter, r *http.Request) error {
	var q struct {
		TTL *int `json:"ttl_seconds"`
	}
	if err := s.server.decode(w, r, &q); err != nil {
		return err
	}
	ttl, err := s.ttlOf(q.TTL)
	if err != nil {
		return err
	}
	owner := callerOf(r).id
	m, err := s.meta(r.Context(), owner, r.PathValue("id"))
	if err != nil {
		return err
	}
	data, err := s.data(r.Context(), m)
	if err != nil {
		return err
	}
	copied := m.stateMeta
	copied.Parent, copied.ID = m.ID, newID("st_")
	copied.Created, copied.Expires = time.Now().Unix(), time.Now().Add(ttl).Unix()
	if err := s.put(r.Context(), owner, &copied, data); err != nil {
		return err
	}
	w.Header().Set("X-State-Id", copied.ID)
	return reply(w, copied)
}
