package serve

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"microrwkv/rwkv"
)

// usage is what a request cost.
type usage struct {
	Prompt     int `json:"prompt_tokens"`
	Completion int `json:"completion_tokens"`
	Total      int `json:"total_tokens"`
	Details    struct {
		Cached int `json:"cached_tokens"`
	} `json:"prompt_tokens_details"`
	CompletionDetails struct {
		Reasoning int `json:"reasoning_tokens"`
	} `json:"completion_tokens_details"`
}

// writer turns events into an answer.
type writer interface {
	// write takes an event of one of the texts.
	write(event) error
	// ping is called when nothing has come for a while.
	ping() error
	// finish ends the answer. The state is nil if none was asked for.
	finish(*usage, *answerState) error
	// fail ends it with an error.
	fail(error)
}

// silence is how long a stream may say nothing.
var silence = 15 * time.Second

// run has jobs done and gives their events to w.
func (s *Server) run(r *http.Request, e *engine, jobs []*job, keep *keeping, w writer) error {
	if err := s.begin(); err != nil {
		return err
	}
	defer s.requests.Done()
	ctx, cancel := context.WithTimeoutCause(r.Context(), s.config.RequestTimeout, errTimeout)
	defer cancel()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	defer context.AfterFunc(s.ctx, func() { stop(errDraining) })()
	out := newOutput()
	u := &usage{}
	left := 0
	for _, j := range jobs {
		j.ctx, j.out = ctx, out
		left += j.n
		u.Prompt += count(j.parts)
	}
	if err := e.scheduler.submit(jobs...); err != nil {
		return err
	}
	var last *rwkv.Sequence
	for left > 0 {
		events, err := out.take(ctx, silence)
		if err != nil {
			w.fail(err)
			return err
		}
		if len(events) == 0 {
			if err := w.ping(); err != nil {
				return err
			}
		}
		for _, ev := range events {
			if ev.err != nil {
				w.fail(ev.err)
				return ev.err
			}
			u.Completion += len(ev.tokens)
			if err := w.write(ev); err != nil {
				return err
			}
			if ev.reason != "" {
				left--
				last = ev.seq
			}
		}
	}
	for _, j := range jobs {
		u.Details.Cached += j.cached
	}
	u.Total = u.Prompt + u.Completion
	st, err := keep.save(ctx, last)
	if err != nil {
		w.fail(err)
		return err
	}
	return w.finish(u, st)
}

// finishReason is OpenAI's word for why a text ended.
func finishReason(r rwkv.Reason) string {
	if r == rwkv.Length || r == rwkv.Full {
		return "length"
	}
	return "stop"
}

// sse writes server-sent events.
type sse struct {
	w       http.ResponseWriter
	rc      *http.ResponseController
	started bool
}

func newSSE(w http.ResponseWriter) *sse {
	return &sse{w: w, rc: http.NewResponseController(w)}
}

// send writes a block of lines and sees that it leaves.
func (s *sse) send(block string) error {
	if !s.started {
		h := s.w.Header()
		h.Set("Content-Type", "text/event-stream")
		h.Set("Cache-Control", "no-store")
		h.Set("X-Accel-Buffering", "no")
		s.started = true
	}
	s.rc.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := fmt.Fprint(s.w, block, "\n\n"); err != nil {
		return err
	}
	return s.rc.Flush()
}
