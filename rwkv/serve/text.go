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

// scoreWriter answers with how likely a prompt is.
type scoreWriter struct {
	e         *engine
	w         http.ResponseWriter
	tokens    int
	positions int
	loss      float64 // the sum
}

func (s *scoreWriter) write(ev event) error {
	for _, t := range ev.prompt {
		if t.LogProb == t.LogProb { // the first has none
			s.loss -= float64(t.LogProb)
			s.positions++
		}
	}
	return nil
}

func (s *scoreWriter) ping() error { return nil }
func (s *scoreWriter) fail(error)  {}

func (s *scoreWriter) finish(*usage, *answerState) error {
	loss := s.loss / float64(s.positions)
	return replyScore(s.w, s.e, s.tokens, s.positions, loss, math.Exp(loss))
}

// replyScore answers with a loss and a perplexity, null for what isn't a number.
func replyScore(w http.ResponseWriter, e *engine, tokens, positions int, loss, perplexity float64) error {
	answer := map[string]any{"model": e.name, "tokens": tokens, "positions": positions, "loss": nil, "perplexity": nil}
	if !math.IsNaN(loss) && !math.IsInf(perplexity, 0) {
		answer["loss"], answer["perplexity"] = loss, perplexity
	}
	return reply(w, answer)
}

// score answers /v1/score: how likely a text is, as a prompt in the batch. What only a whole sequence tells,
// for targets of one's own and kinds that don't stream, is computed beside it, one at a time.
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
	if e.model.Streams() && q.Targets == nil && len(ids) > 0 {
		if err := e.model.CheckIDs(ids); err != nil {
			return bad("tokens", "%v", err)
		}
		j := &job{owner: callerOf(r).id, parts: [][]int{ids}, n: 1, scores: true, options: []rwkv.Option{rwkv.MaxTokens(0)}}
		return s.run(r, e, []*job{j}, &keeping{}, &scoreWriter{e: e, w: w, tokens: len(ids)})
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
	return replyScore(w, e, len(ids), scores.Positions, scores.Loss, scores.Perplexity)
}
