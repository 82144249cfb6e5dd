package serve

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"microrwkv/rwkv"
)

// Error is an error as OpenAI's API tells it.
type Error struct {
	Status     int    `json:"-"`
	RetryAfter int    `json:"-"` // seconds; 0: not told
	Message    string `json:"message"`
	Type       string `json:"type"`
	Param      string `json:"param"`
	Code       string `json:"code"`
}

func (e *Error) Error() string { return e.Message }

// MarshalJSON has null for what is empty.
func (e *Error) MarshalJSON() ([]byte, error) {
	null := func(s string) *string {
		if s == "" {
			return nil
		}
		return &s
	}
	return json.Marshal(map[string]any{"message": e.Message, "type": e.Type, "param": null(e.Param), "code": null(e.Code)})
}

var (
	errDraining = &Error{Status: 503, Code: "draining", Message: "the server is shutting down", RetryAfter: 5}
	errLoading  = &Error{Status: 503, Code: "model_loading", Message: "the model is being loaded", RetryAfter: 2}
	errTimeout  = &Error{Status: 504, Code: "timeout", Message: "the request took longer than the server allows"}
	errNoKey    = &Error{Status: 401, Code: "invalid_api_key", Type: "authentication_error", Message: "no such API key: send one as Authorization: Bearer …"}
	errBusy     = &Error{Status: 409, Code: "session_busy", Message: "another request uses the session", RetryAfter: 1}
	errMoved    = &Error{Status: 409, Code: "session_changed", Message: "another request moved the session meanwhile", RetryAfter: 1}
	errNoState  = &Error{Status: 404, Code: "state_not_found", Param: "state", Message: "there is no such state"}
)

// bad returns an error about the request's parameter.
func bad(param, format string, args ...any) *Error {
	return &Error{Status: 400, Param: param, Message: fmt.Sprintf(format, args...)}
}

// unsupported is bad for what the server can't do.
func unsupported(param string) *Error {
	return &Error{Status: 400, Param: param, Code: "unsupported_parameter", Message: param + " isn't supported here"}
}

// errorOf returns what a client is told of an error. What isn't its business is only logged.
func errorOf(err error) Error {
	var e *Error
	if !errors.As(err, &e) {
		e = &Error{Status: 500, Message: "internal error"}
		switch {
		case errors.Is(err, rwkv.ErrStateModel):
			e = &Error{Status: 422, Code: "state_mismatch", Param: "state", Message: "the state is another model's"}
		case errors.Is(err, rwkv.ErrStateFormat):
			e = &Error{Status: 400, Code: "bad_state", Param: "state", Message: err.Error()}
		}
	}
	told := *e
	if told.Type == "" {
		switch {
		case told.Status == 429:
			told.Type = "rate_limit_error"
		case told.Status >= 500:
			told.Type = "server_error"
		default:
			told.Type = "invalid_request_error"
		}
	}
	return told
}

// fail answers with an error, if nothing was answered yet.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		s.config.Log.Info("the client is gone", "id", w.Header().Get("X-Request-Id"))
		if rec, ok := w.(*recorder); ok && rec.code == 0 {
			rec.code = 499
		}
		return
	}
	e := errorOf(err)
	if e.Status == 500 {
		s.config.Log.Error("error", "id", w.Header().Get("X-Request-Id"), "error", err.Error())
	}
	if rec, ok := w.(*recorder); ok && rec.code != 0 {
		return
	}
	switch e.Status {
	case 409, 429, 503:
		e.RetryAfter = max(e.RetryAfter, 1)
	}
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(min(e.RetryAfter, 60)))
	}
	w.Header().Set("Content-Type", "application/json")
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
	w.WriteHeader(e.Status)
	json.NewEncoder(w).Encode(map[string]*Error{"error": &e})
}

// writeTimeout is how long a client may take to take what is written.
const writeTimeout = 30 * time.Second

// reply answers with JSON.
func reply(w http.ResponseWriter, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
	w.Write(append(b, '\n'))
	return nil
}
