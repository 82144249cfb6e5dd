package serve

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
)

// caller is who asks. What it saves is its own.
type caller struct {
	name string
	id   string // in the keys of what it saves
	hash [32]byte
}

func newCaller(k Key) caller {
	hash := sha256.Sum256([]byte(k.Key))
	return caller{name: k.Name, id: hex.EncodeToString(hash[:16]), hash: hash}
}

type callerKey struct{}

// callerOf returns who asks.
func callerOf(r *http.Request) caller { return r.Context().Value(callerKey{}).(caller) }

// open are the endpoints that tell nothing of anybody, and need no key.
func open(r *http.Request) bool {
	switch r.URL.Path {
	case "/healthz", "/readyz":
		return true
	}
	return !strings.HasPrefix(r.URL.Path, "/v1/") && r.URL.Path != "/metrics"
}

// guard lets a request through, as who asks, or answers it itself, or says why it may not be.
func (s *Server) guard(w http.ResponseWriter, r *http.Request) (who *http.Request, done bool, err error) {
	if !s.goodHost(r) {
		return r, false, &Error{Status: 403, Code: "bad_host", Message: "the Host header names another server"}
	}
	origin := r.Header.Get("Origin")
	allowed := slices.Contains(s.config.CORSOrigins, origin)
	if origin != "" && allowed {
		h := w.Header()
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Expose-Headers", "X-Request-Id, X-State-Id, Retry-After, ETag")
		h.Add("Vary", "Origin")
		if r.Method == http.MethodOptions {
			h.Set("Access-Control-Allow-Methods", "GET, POST, PUT, DELETE")
			h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, If-None-Match, X-Request-Id, X-State-Id")
			h.Set("Access-Control-Max-Age", "600")
			w.WriteHeader(http.StatusNoContent)
			return r, true, nil
		}
	}
	if origin != "" && !allowed && r.Method != http.MethodGet && r.Method != http.MethodHead {
		if u, err := url.Parse(origin); err != nil || u.Host != r.Host {
			return r, false, &Error{Status: 403, Code: "bad_origin", Message: "pages of other origins may not ask this server"}
		}
	}
	c := caller{name: "public", id: "public"}
	if len(s.callers) > 0 && !open(r) {
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		hash, found := sha256.Sum256([]byte(token)), -1
		for i := range s.callers {
			if subtle.ConstantTimeCompare(hash[:], s.callers[i].hash[:]) == 1 {
				found = i
			}
		}
		if !ok || found < 0 {
			return r, false, errNoKey
		}
		c = s.callers[found]
	}
	return r.WithContext(context.WithValue(r.Context(), callerKey{}, c)), false, nil
}

// goodHost reports whether the Host header of a connection over loopback names loopback: a page whose
// name was made to mean this machine (DNS rebinding) has another.
func (s *Server) goodHost(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return true
	}
	at, err := netip.ParseAddrPort(local.String())
	if err != nil || !at.Addr().Unmap().IsLoopback() {
		return true
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	if a, err := netip.ParseAddr(host); err == nil && a.IsLoopback() {
		return true
	}
	return host == "localhost" || slices.Contains(s.config.AllowHosts, host)
}

// bodyTimeout is how long a client may take to send a request.
const bodyTimeout = 30 * time.Second

// body reads a request's body, of at most limit bytes.
func body(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	rc := http.NewResponseController(w)
	rc.SetReadDeadline(time.Now().Add(bodyTimeout))
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	rc.SetReadDeadline(time.Time{})
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, &Error{Status: 413, Code: "too_large", Message: "the request's body is too large"}
	case err != nil:
		return nil, &Error{Status: 400, Code: "bad_body", Message: "the request's body can't be read"}
	}
	return b, nil
}

// maxDepth is how deep JSON may be nested.
const maxDepth = 64

// decode reads a request's JSON into v.
func (s *Server) decode(w http.ResponseWriter, r *http.Request, v any) error {
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		return &Error{Status: 415, Code: "bad_content_type", Message: "want Content-Type: application/json"}
	}
	b, err := body(w, r, s.config.MaxBody)
	if err != nil {
		return err
	}
	return unmarshal(b, v)
}

// unmarshal is json.Unmarshal with the errors that clients are told.
func unmarshal(b []byte, v any) error {
	if depth(b) > maxDepth {
		return bad("", "the JSON is nested more than %d deep", maxDepth)
	}
	err := json.Unmarshal(b, v)
	var wrong *json.UnmarshalTypeError
	var told *Error
	switch {
	case errors.As(err, &told):
		return told
	case errors.As(err, &wrong):
		return bad(wrong.Field, "%s: a JSON %s can't be a %s", wrong.Field, wrong.Value, wrong.Type)
	case err != nil:
		return bad("", "the body isn't the JSON that is wanted: %v", err)
	}
	return nil
}

// depth returns how deep brackets are nested outside of strings.
func depth(b []byte) (deepest int) {
	d, quoted := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			d++
			deepest = max(deepest, d)
		case c == '}' || c == ']':
			d--
		}
	}
	return deepest
}
