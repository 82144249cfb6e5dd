package serve

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"microrwkv/rwkv"
)

// stateMeta is what is known of a state.
type stateMeta struct {
	ID          string `json:"id,omitempty"`
	Object      string `json:"object"`
	Model       string `json:"model"`
	Fingerprint string `json:"fingerprint"`
	Tokens      int    `json:"tokens"`
	Bytes       int    `json:"bytes"`
	Parent      string `json:"parent,omitempty"`
	Tail        string `json:"tail"` // what has to be read before a next message
	Created     int64  `json:"created"`
	Expires     int64  `json:"expires_at"`
	SHA256      string `json:"sha256"`
}

// storedMeta is it with the key of the data.
type storedMeta struct {
	stateMeta
	Data string `json:"data"`
}

// stateRequest says what a request goes on from, and what is to be kept of it.
type stateRequest struct {
	ID      string `json:"id"`
	Session string `json:"session"`
	Sealed  string `json:"sealed"`
	Save    bool   `json:"save"`
	TTL     *int   `json:"ttl_seconds"`
	Return  string `json:"return"`
}

// answerState is what an answer tells of its state.
type answerState struct {
	*stateMeta
	Session string `json:"session,omitempty"`
	Sealed  string `json:"sealed,omitempty"`
	Error   *Error `json:"error,omitempty"` // of saving; the answer is whole
}

// states keeps states for callers. In the store a state is its data and, written after that, what is
// known of it; a session is the id of a state.
type states struct {
	server *Server
	store  Store
	sealer *sealer
	mu     sync.Mutex
	ram    *lru[string, []byte] // data by its key; nil if the store is memory itself
	busy   map[string]bool      // sessions
	owners map[string]*possession
}

func newStates(s *Server) (*states, error) {
	sealer, err := newSealer(s.config.StateKey)
	if err != nil {
		return nil, err
	}
	st := &states{server: s, store: s.config.Store, sealer: sealer, busy: map[string]bool{}, owners: map[string]*possession{}}
	if _, ok := st.store.(*memory); !ok {
		st.ram = newLRU[string, []byte](s.config.StateRAM / 2)
	}
	return st, nil
}

// openState reads the file of a saved state or of a tuned one.
func openState(m *rwkv.Model, path string) (*rwkv.State, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := bufio.NewReader(f)
	if head, _ := r.Peek(len(rwkv.StateMagic)); string(head) != rwkv.StateMagic {
		return m.TunedState(path)
	}
	s := m.NewState()
	if _, err := s.ReadFrom(r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// timed does an operation of the store, and tells what clients are to know of its error.
func (s *states) timed(op string, f func() error) error {
	begin := time.Now()
	err := f()
	s.server.metrics.stateSeconds.WithLabelValues(op).Observe(time.Since(begin).Seconds())
	switch {
	case err == nil, errors.Is(err, ErrChanged), errors.As(err, new(*Error)):
		return err
	case errors.Is(err, ErrNotFound):
		return errNoState
	case errors.Is(err, ErrDamaged):
		s.server.config.Log.Error("a stored value is damaged", "op", op, "error", err.Error())
		return &Error{Status: 500, Code: "state_damaged", Param: "state", Message: "the stored state is damaged"}
	case errors.Is(err, ErrFull):
		return &Error{Status: 507, Code: "store_full", Param: "state", Message: "the store of states is full"}
	}
	s.server.config.Log.Error("the store fails", "op", op, "error", err.Error())
	return &Error{Status: 503, Code: "store_unavailable", Param: "state", Message: "states can't be read or written now", RetryAfter: 2}
}

// fetch reads a value.
func (s *states) fetch(ctx context.Context, key string) (value []byte, err error) {
	err = s.timed("get", func() error {
		value, err = s.store.Get(ctx, key)
		return err
	})
	return value, err
}

// meta returns what is known of an owner's state.
func (s *states) meta(ctx context.Context, owner, id string) (*storedMeta, error) {
	if !goodName(id) {
		return nil, errNoState
	}
	b, err := s.fetch(ctx, "meta/"+owner+"/"+id)
	if err != nil {
		return nil, err
	}
	m := &storedMeta{}
	return m, json.Unmarshal(b, m)
}

// data returns a state's bytes, which must not be changed.
func (s *states) data(ctx context.Context, m *storedMeta) (b []byte, err error) {
	if s.ram != nil {
		s.mu.Lock()
		b = s.ram.get(m.Data)
		s.mu.Unlock()
	}
	if b == nil {
		if b, err = s.fetch(ctx, m.Data); err != nil {
			return nil, err
		}
		if sum(b) != m.SHA256 {
			return nil, s.timed("check", func() error { return fmt.Errorf("state %s: %w", m.ID, ErrDamaged) })
		}
		s.remember(m.Data, b)
	}
	return b, nil
}

func (s *states) remember(key string, b []byte) {
	if s.ram == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ram.put(key, b, int64(len(b)))
	s.tell("ram", len(s.ram.entries), s.ram.size)
}

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// possession is what an owner has in the store, as it was read last and with what was put since.
type possession struct {
	states int
	bytes  int64
	read   time.Time
}

// recent is how old that may be, since reading it takes long where there is much.
const recent = time.Minute

// room counts a state of an owner, or returns an error if that is too many.
func (s *states) room(ctx context.Context, owner string, size int64) error {
	s.mu.Lock()
	has := s.owners[owner]
	s.mu.Unlock()
	if has == nil || time.Since(has.read) > recent {
		has = &possession{read: time.Now()}
		err := s.timed("list", func() error {
			list, err := s.store.List(ctx, "data/"+owner+"/")
			for _, i := range list {
				has.states++
				has.bytes += i.Size
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	c := &s.server.config
	s.mu.Lock()
	defer s.mu.Unlock()
	s.owners[owner] = has
	if has.states >= c.KeyStates || has.bytes+size > c.KeyStateBytes {
		return &Error{Status: 429, Code: "too_many_states", Param: "state", Message: "the key has too many states: delete some"}
	}
	has.states++
	has.bytes += size
	return nil
}

// put keeps a new state of an owner, whole or not at all.
func (s *states) put(ctx context.Context, owner string, m *stateMeta, data []byte) error {
	if err := s.room(ctx, owner, int64(len(data))); err != nil {
		return err
	}
	ttl := time.Until(time.Unix(m.Expires, 0))
	stored := storedMeta{*m, "data/" + owner + "/" + newID("")}
	b, err := json.Marshal(stored)
	if err != nil {
		return err
	}
	if err := s.timed("put", func() error { return s.store.Put(ctx, stored.Data, data, ttl+time.Minute) }); err != nil {
		return err
	}
	err = s.timed("put", func() error { return s.store.CompareAndSet(ctx, "meta/"+owner+"/"+m.ID, nil, b, ttl) })
	if err != nil {
		s.store.Delete(ctx, stored.Data)
		if errors.Is(err, ErrChanged) {
			err = &Error{Status: 409, Code: "state_exists", Param: "id", Message: "there is another state of this id"}
		}
		return err
	}
	s.remember(stored.Data, data)
	s.measure()
	return nil
}

// keeping is what a request goes on from and what is kept of it.
type keeping struct {
	s       *states
	e       *engine
	owner   string
	base    *rwkv.State // nil: nothing
	parent  string
	before  string // base's tail
	ends    string // the tail of what is kept
	saves   bool
	sealed  bool
	ttl     time.Duration
	session string
	pointer []byte // the session's value before
}

// empty reports whether nothing was read before.
func (k *keeping) empty() bool { return k.base == nil || k.base.Len() == 0 }

// tail is what has to be read before the request's own.
func (k *keeping) tail() string { return k.before }

// ttlOf returns how long a state is to be kept.
func (s *states) ttlOf(seconds *int) (time.Duration, error) {
	ttl := s.server.config.StateTTL
	if seconds != nil {
		if *seconds < 1 || float64(*seconds) > ttl.Seconds() {
			return 0, bad("state.ttl_seconds", "ttl_seconds = %d, want 1 to %.0f", *seconds, ttl.Seconds())
		}
		ttl = time.Duration(*seconds) * time.Second
	}
	return ttl, nil
}

// open finds what a request of n texts goes on from. The result must be closed.
func (s *states) open(r *http.Request, e *engine, q *stateRequest, n int) (_ *keeping, err error) {
	k := &keeping{s: s, e: e, owner: callerOf(r).id}
	if id := r.Header.Get("X-State-Id"); id != "" && q == nil {
		q = &stateRequest{ID: id, Save: true}
	}
	if q == nil {
		return k, nil
	}
	if k.ttl, err = s.ttlOf(q.TTL); err != nil {
		return nil, err
	}
	k.saves, k.sealed, k.session = q.Save || q.Session != "", q.Return == "sealed", q.Session
	sources := 0
	for _, from := range []string{q.ID, q.Session, q.Sealed} {
		if from != "" {
			sources++
		}
	}
	switch {
	case sources > 1:
		return nil, bad("state", "state: give one of id, session and sealed")
	case q.Return != "" && q.Return != "none" && q.Return != "sealed":
		return nil, bad("state.return", "return = %q, want none or sealed", q.Return)
	case (k.saves || k.sealed) && n > 1:
		return nil, bad("state", "the state of one text is kept, and %d are asked for", n)
	case q.Session != "" && !goodName(q.Session):
		return nil, bad("state.session", "session: want up to 128 letters, digits, '-', '_' and '.'")
	}
	if q.Sealed != "" {
		m, data, err := s.sealer.open(k.owner, e.fingerprint, q.Sealed)
		if err != nil {
			return nil, err
		}
		k.parent, k.before = m.Parent, m.Tail
		return k, k.restore(data)
	}
	id := q.ID
	if q.Session != "" {
		name := k.owner + "/" + q.Session
		s.mu.Lock()
		busy := s.busy[name]
		s.busy[name] = true
		s.mu.Unlock()
		if busy {
			e := *errBusy
			e.RetryAfter = k.e.scheduler.wait()
			return nil, &e
		}
		defer func() {
			if err != nil {
				k.close()
			}
		}()
		k.pointer, err = s.fetch(r.Context(), "session/"+name)
		if err != nil && !errors.Is(err, errNoState) {
			return nil, err
		}
		id = string(k.pointer)
	}
	if id == "" {
		return k, nil
	}
	k.parent = id
	if initial := e.initial[id]; initial != nil {
		k.base = initial.Clone()
		return k, nil
	}
	m, err := s.meta(r.Context(), k.owner, id)
	if err != nil {
		return nil, err
	}
	if m.Fingerprint != e.fingerprint {
		return nil, rwkv.ErrStateModel
	}
	data, err := s.data(r.Context(), m)
	if err != nil {
		return nil, err
	}
	k.before = m.Tail
	return k, k.restore(data)
}

// restore sets base to a saved state.
func (k *keeping) restore(data []byte) error {
	k.base = k.e.model.NewState()
	return k.base.UnmarshalBinary(data)
}

// close lets others use the session.
func (k *keeping) close() {
	if k.session != "" {
		k.s.mu.Lock()
		delete(k.s.busy, k.owner+"/"+k.session)
		k.s.mu.Unlock()
	}
}

// describe returns what is known of a state that is to be kept.
func (k *keeping) describe(state *rwkv.State) (*stateMeta, []byte, error) {
	data, err := state.MarshalBinary()
	if err != nil {
		return nil, nil, err
	}
	now := time.Now()
	return &stateMeta{Object: "state", Model: k.e.name, Fingerprint: k.e.fingerprint, Tokens: state.Len(), Bytes: len(data), Parent: k.parent,
		Tail: k.ends, Created: now.Unix(), Expires: now.Add(k.ttl).Unix(), SHA256: sum(data)}, data, nil
}

// saveTimeout is how long a store may take to keep a state, though the client has gone.
const saveTimeout = 30 * time.Second

// save keeps the state of a text that has ended, if that was asked for. Only a session that another
// request moved is an error; others are told beside the answer.
func (k *keeping) save(ctx context.Context, seq *rwkv.Sequence) (*answerState, error) {
	if !k.saves && !k.sealed {
		return nil, nil
	}
	state, err := seq.State()
	if err != nil {
		return nil, err
	}
	m, data, err := k.describe(state)
	if err != nil {
		return nil, err
	}
	answer := &answerState{stateMeta: m, Session: k.session}
	if k.sealed {
		if answer.Sealed, err = k.s.sealer.seal(k.owner, m, data); err != nil {
			return nil, err
		}
	}
	if !k.saves {
		return answer, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
	defer cancel()
	m.ID = newID("st_")
	err = k.s.put(ctx, k.owner, m, data)
	if err == nil && k.session != "" {
		err = k.s.timed("set", func() error {
			return k.s.store.CompareAndSet(ctx, "session/"+k.owner+"/"+k.session, k.pointer, []byte(m.ID), k.ttl)
		})
		if errors.Is(err, ErrChanged) {
			return nil, errMoved
		}
	}
	if err != nil {
		e := errorOf(err)
		m.ID = ""
		answer.Error = &e
	}
	return answer, nil
}

// etag is a state's in HTTP.
func etag(m *storedMeta) string { return `"` + m.SHA256 + `"` }

// matches reports whether a header of etags has a state's.
func matches(header string, m *storedMeta) bool {
	return header == "*" || strings.Contains(header, etag(m))
}
