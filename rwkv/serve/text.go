package serve

import (
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"

	"microrwkv/rwkv"
)

// tokenize answers /v1/tokenize.
func (s *Server) tokenize(w http.ResponseWriter, r *http.Request) error {
	var q struct{ Model, Text string }
	if err := s.decode(w, r, &q); err != nil {
		return err
	}
	e, err := s.engineOf(q.Model)
	if err != nil {
		return err
	}
	parts, err := e.encode("text", []string{q.Text})
	if err != nil {
		return err
	}
	ids := slices.Concat(parts...)
	if ids == nil {
		ids = []int{}
	}
	return reply(w, map[string]any{"model": e.name, "tokens": ids, "count": len(ids)})
}

// detokenize answers /v1/detokenize.
func (s *Server) detokenize(w http.ResponseWriter, r *http.Request) error {
	var q struct {
		Model  string
		Tokens []int
	}
	if err := s.decode(w, r, &q); err != nil {
		return err
	}
	e, err := s.engineOf(q.Model)
	if err != nil {
		return err
	}
	if err := e.model.CheckIDs(q.Tokens); err != nil {
		return bad("tokens", "%v", err)
	}
	return reply(w, map[string]any{"model": e.name, "text": strings.ToValidUTF8(e.tok.Decode(q.Tokens), "\uFFFD")})
}

// render answers /v1/render: what a chat is for the model.
func (s *Server) render(w http.ResponseWriter, r *http.Request) error {
	q, e, err := s.chatRequest(w, r)
	if err != nil {
		return err
	}
	c, err := q.conversation(e, "")
	if err != nil {
		return err
	}
	parts, err := e.encode("messages", c.parts)
	if err != nil {
		return err
	}
	return reply(w, map[string]any{"model": e.name, "template": e.template.Name, "prompt": strings.Join(c.parts, ""), "parts": c.parts, "tokens": slices.Concat(parts...)})
}

// score answers /v1/score: how likely a text is. It waits for others that are scored, not for texts that
// are written.
func (s *Server) score(w http.ResponseWriter, r *http.Request) error {
	var q struct {
		Model, Text     string
		Tokens, Targets []int
	}
	if err := s.decode(w, r, &q); err != nil {
		return err
	}
	e, err := s.engineOf(q.Model)
	if err != nil {
		return err
	}
	ids := q.Tokens
	if ids == nil {
		parts, err := e.encode("text", []string{q.Text})
		if err != nil {
			return err
		}
		ids = slices.Concat(parts...)
	}
	most := s.config.MaxPromptTokens
	if size := e.model.Config().BlockSize; size > 0 {
		most = min(most, size)
	}
	if len(ids) > most {
		return &Error{Status: 400, Code: "context_length_exceeded", Param: "text", Message: fmt.Sprintf("%d tokens, at most %d are allowed", len(ids), most)}
	}
	if err := s.begin(); err != nil {
		return err
	}
	defer s.requests.Done()
	select {
	case e.scoring <- struct{}{}:
		defer func() { <-e.scoring }()
	case <-r.Context().Done():
		return r.Context().Err()
	case <-s.ctx.Done():
		return errDraining
	}
	var scores *rwkv.Scores
	if scores, err = e.model.Score(ids, q.Targets); err != nil {
		return bad("text", "%v", err)
	}
	answer := map[string]any{"model": e.name, "tokens": len(ids), "positions": scores.Positions, "loss": nil, "perplexity": nil}
	if !math.IsNaN(scores.Loss) && !math.IsInf(scores.Perplexity, 0) {
		answer["loss"], answer["perplexity"] = scores.Loss, scores.Perplexity
	}
	return reply(w, answer)
}
