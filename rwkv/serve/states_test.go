package serve

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"net/http"
	"strings"
	"testing"

	"microrwkv/rwkv"
	"microrwkv/tensor"
)

const chats = "/v1/chat/completions"

// say asks with a new message after a state.
func say(text string, state object) object {
	return object{"messages": user(text), "max_tokens": 12, "seed": 3, "logprobs": true, "ignore_eos": true, "state": state}
}

// Every turn makes a state; going on from one has the same bits each time, on any server, as in a
// conversation over one State.
func TestStates(t *testing.T) {
	folder := t.TempDir()
	store, err := Dir(folder, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t, Config{Store: store})
	a := s.ask("POST", chats, say("Hi", object{"save": true}))
	first := a.json(t)
	id, _ := at(first, "state", "id").(string)
	if id == "" || a.header.Get("X-State-Id") != id || at(first, "state", "tail") != "\n\n" || at(first, "state", "object") != "state" {
		t.Fatalf("state %v", first["state"])
	}
	second := s.ask("POST", chats, say("More", object{"id": id, "save": true})).json(t)
	if at(second, "state", "parent") != id || at(second, "state", "id") == id {
		t.Errorf("state %v", second["state"])
	}

	m := tiny()
	state := m.Model.NewState()
	var logs []float32
	for _, text := range []string{"Hi", "More"} {
		parts := []string{"User: " + text + "\n\n", "Assistant:"}
		if state.Len() > 0 {
			parts = append([]string{"\n\n"}, parts...)
		}
		for _, p := range encoded(t, m.Tokenizer, parts...) {
			if _, err := state.Append(p); err != nil {
				t.Fatal(err)
			}
		}
		logs = nil
		for _, err := range state.Generate(t.Context(), m.Tokenizer, g1Stops, rwkv.MaxTokens(12), rwkv.Seed(3), rwkv.StopAtEnd(false), rwkv.OnToken(func(t rwkv.Token) { logs = append(logs, t.LogProb) })) {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if !same(logsOf(second), logs) {
		t.Error("other bits than a State's")
	}
	want, err := state.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	last := at(second, "state", "id").(string)
	data := s.ask("GET", "/v1/states/"+last+"/data", nil)
	if !bytes.Equal(data.body, want) || data.header.Get("ETag") == "" {
		t.Error("the state's file has other bits than a State's")
	}
	if a := s.ask("GET", "/v1/states/"+last+"/data", nil, "If-None-Match", data.header.Get("ETag")); a.code != http.StatusNotModified {
		t.Errorf("with the ETag: %d", a.code)
	}

	// a branch of the first, on another server of the same store, is the second again
	again, err := Dir(folder, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	other := newSite(t, Config{Store: again})
	if o := other.ask("POST", chats, say("More", object{"id": id})).json(t); !same(logsOf(o), logs) || o["state"] != nil {
		t.Error("a branch after a restart: other bits")
	}
	header := say("More", nil)
	delete(header, "state")
	a = other.ask("POST", chats, header, "X-State-Id", id)
	if o := a.json(t); !same(logsOf(o), logs) || a.header.Get("X-State-Id") == "" {
		t.Error("by header: other bits, or no state")
	}

	// in a stream the state comes at the end
	body := say("More", object{"id": id, "save": true})
	list := s.stream(chats, body)
	if got, _ := at(list[len(list)-1], "state", "sha256").(string); got != sum(want) {
		t.Errorf("streamed: %v", list[len(list)-1])
	}

	// the state goes out and in, on a server without the store
	third := newSite(t, Config{})
	if o := third.ask("PUT", "/v1/states/mine/data", data.body).json(t); o["id"] != "mine" || o["sha256"] != sum(want) {
		t.Errorf("uploaded: %v", o)
	}
	third.ask("PUT", "/v1/states/mine/data", data.body).json(t)
	x := s.ask("POST", chats, say("Third", object{"id": last})).json(t)
	y := third.ask("POST", chats, say("Third", object{"id": "mine"})).json(t)
	if !same(logsOf(x), logsOf(y)) {
		t.Error("uploaded: other bits")
	}

	// list, fork, remove
	o := s.ask("GET", "/v1/states?limit=2", nil).json(t)
	if len(o["data"].([]any)) != 2 || o["has_more"] != true {
		t.Errorf("list %v", o)
	}
	fork := s.ask("POST", "/v1/states/"+last+"/fork", object{"ttl_seconds": 60}).json(t)
	if fork["parent"] != last || fork["sha256"] != sum(want) || fork["expires_at"].(float64)-fork["created"].(float64) != 60 {
		t.Errorf("fork %v", fork)
	}
	if o := s.ask("DELETE", "/v1/states/"+last, nil).json(t); o["deleted"] != true {
		t.Error(o)
	}
	for _, path := range []string{"", "/data"} {
		s.ask("GET", "/v1/states/"+last+path, nil).refused(t, 404, "state_not_found")
	}
	s.ask("DELETE", "/v1/states/"+last, nil).refused(t, 404, "state_not_found")
	if a := s.ask("GET", "/v1/states/"+fork["id"].(string)+"/data", nil); !bytes.Equal(a.body, want) {
		t.Error("the fork went with the state")
	}
}

// A prompt can be read in advance.
func TestPrefill(t *testing.T) {
	s := newSite(t, Config{})
	for i, c := range []struct{ before, after object }{
		{object{"messages": []any{object{"role": "system", "content": "Be kind."}}}, object{"messages": user("Hi")}},
		{object{"messages": append(user("a"), object{"role": "assistant", "content": "b"})}, object{"messages": user("Hi")}},
	} {
		st := s.ask("POST", "/v1/states", c.before).json(t)
		got := s.ask("POST", chats, object{"messages": user("Hi"), "max_tokens": 9, "seed": 1, "logprobs": true, "state": object{"id": st["id"]}}).json(t)
		whole := append(append([]any{}, c.before["messages"].([]any)...), user("Hi")...)
		want := s.ask("POST", chats, object{"messages": whole, "max_tokens": 9, "seed": 1, "logprobs": true}).json(t)
		if i == 0 && !same(logsOf(got), logsOf(want)) {
			t.Errorf("case %d: other bits than the whole conversation's", i)
		}
		if at(got, "choices", 0, "message", "content") != at(want, "choices", 0, "message", "content") {
			t.Errorf("case %d: %v, want %v", i, got, want)
		}
		if n := st["tokens"].(float64) + at(got, "usage", "prompt_tokens").(float64); n != at(want, "usage", "prompt_tokens") {
			t.Errorf("case %d: %v tokens, want %v", i, n, at(want, "usage", "prompt_tokens"))
		}
	}
	for _, body := range []object{{"prompt": "Once upon"}, {"tokens": ids(200)}} {
		st := s.ask("POST", "/v1/states", body).json(t)
		more := s.ask("POST", "/v1/states", object{"prompt": " a time", "parent": st["id"]}).json(t)
		if more["parent"] != st["id"] || more["tail"] != "" || more["tokens"].(float64) <= st["tokens"].(float64) {
			t.Errorf("%v after %v", more, st)
		}
		s.ask("POST", "/v1/completions", object{"prompt": "", "max_tokens": 3, "state": object{"id": more["id"]}}).json(t)
		s.ask("POST", "/v1/completions", object{"prompt": []string{"a", "b"}, "max_tokens": 3, "state": object{"id": more["id"]}}).json(t)
	}
}

// Whose a state is decides who sees it.
func TestStatesArePrivate(t *testing.T) {
	s := newSite(t, Config{Keys: []Key{{"a", "key-of-a"}, {"b", "key-of-b"}}, KeyStates: 3})
	b := s.as("key-of-b")
	id := at(s.ask("POST", chats, say("Hi", object{"session": "s"})).json(t), "state", "id").(string)
	b.ask("GET", "/v1/states/"+id, nil).refused(t, 404, "state_not_found")
	b.ask("GET", "/v1/states/"+id+"/data", nil).refused(t, 404, "state_not_found")
	b.ask("DELETE", "/v1/states/"+id, nil).refused(t, 404, "state_not_found")
	b.ask("POST", "/v1/states/"+id+"/fork", object{}).refused(t, 404, "state_not_found")
	b.ask("POST", chats, say("Hi", object{"id": id})).refused(t, 404, "state_not_found")
	if o := b.ask("GET", "/v1/states", nil).json(t); len(o["data"].([]any)) != 0 {
		t.Errorf("b sees %v", o)
	}
	if o := b.ask("POST", chats, say("Hi", object{"session": "s"})).json(t); at(o, "state", "parent") != nil {
		t.Errorf("b goes on with a's session: %v", o["state"])
	}
	// the key's limit: the answer is whole, the state isn't kept
	for range 2 {
		s.ask("POST", "/v1/states/"+id+"/fork", object{}).json(t)
	}
	s.ask("POST", "/v1/states/"+id+"/fork", object{}).refused(t, 429, "too_many_states")
	o := s.ask("POST", chats, say("Hi", object{"save": true})).json(t)
	defer func() { // one fewer, one more
		s.ask("DELETE", "/v1/states/"+id, nil).json(t)
		if o := s.ask("POST", chats, say("Hi", object{"save": true})).json(t); at(o, "state", "id") == nil {
			t.Errorf("after a state was deleted: %v", o["state"])
		}
	}()
	if at(o, "state", "error", "code") != "too_many_states" || at(o, "state", "id") != nil || at(o, "usage", "completion_tokens") != 12.0 {
		t.Errorf("beyond the limit: %v", o["state"])
	}
}

// What isn't a state of the model, in whatever way, is refused.
func TestBadUploads(t *testing.T) {
	s := newSite(t, Config{})
	state := tiny().Model.NewState()
	if _, err := state.Append([]int{1, 2, 3}); err != nil {
		t.Fatal(err)
	}
	good, err := state.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	put := func(b []byte) answer { return s.ask("PUT", "/v1/states/x/data", b) }
	change := func(f func(b []byte) []byte) []byte { return f(append([]byte{}, good...)) }
	put(change(func(b []byte) []byte { b[len(b)/2]++; return b })).refused(t, 400, "bad_state")
	put(good[:len(good)-1]).refused(t, 400, "bad_state")
	put(append(good[:len(good):len(good)], 0)).refused(t, 400, "bad_state")
	put([]byte("hello")).refused(t, 400, "bad_state")
	put([]byte{}).refused(t, 400, "bad_state")
	put(bytes.Repeat([]byte("x"), 10<<20)).refused(t, 400, "bad_state")
	put(change(func(b []byte) []byte { // a NaN, with the right checksum
		binary.LittleEndian.PutUint32(b[72+4*65536+20:], math.Float32bits(float32(math.NaN())))
		return withChecksum(b)
	})).refused(t, 400, "bad_state")
	c := tiny().Model.Config()
	other, err := rwkv.Random(c, tensor.BF16, 2)
	if err != nil {
		t.Fatal(err)
	}
	foreign := other.NewState()
	if _, err := foreign.Append([]int{1}); err != nil {
		t.Fatal(err)
	}
	b, err := foreign.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	put(b).refused(t, 422, "state_mismatch")
	s.ask("PUT", "/v1/states/..%2Fx/data", good).refused(t, 400, "")
	s.ask("PUT", "/v1/states/x/data?model=y", good).refused(t, 404, "model_not_found")
	s.ask("PUT", "/v1/states/x/data?tail=y", good).refused(t, 400, "")
	put(good).json(t)
	if _, err := state.Append([]int{4}); err != nil {
		t.Fatal(err)
	}
	if good, err = state.MarshalBinary(); err != nil {
		t.Fatal(err)
	}
	put(good).refused(t, 409, "state_exists")
}

// withChecksum makes the checksum of a saved state right.
func withChecksum(b []byte) []byte {
	var sums []byte
	body := b[:len(b)-4]
	for i := 0; i < len(body); i += 256 << 10 {
		sums = binary.LittleEndian.AppendUint32(sums, crc32.ChecksumIEEE(body[i:min(i+256<<10, len(body))]))
	}
	binary.LittleEndian.PutUint32(b[len(b)-4:], crc32.ChecksumIEEE(sums))
	return b
}

// A session points to its newest state; of two writers one is told to come again.
func TestSessions(t *testing.T) {
	store := Memory(1 << 30)
	s, other := newSite(t, Config{Store: store}), newSite(t, Config{Store: store})
	first := s.ask("POST", chats, say("Hi", object{"session": "s"})).json(t)
	second := other.ask("POST", chats, say("More", object{"session": "s"})).json(t)
	if at(second, "state", "parent") != at(first, "state", "id") || at(second, "state", "session") != "s" {
		t.Errorf("%v after %v", second["state"], first["state"])
	}
	byID := s.ask("POST", chats, say("More", object{"id": at(first, "state", "id")})).json(t)
	if !same(logsOf(byID), logsOf(second)) {
		t.Error("a session has other bits than its state")
	}
	// on one server a second writer is told at once, on two the one that comes last
	long := say("Again", object{"session": "s"})
	long["max_tokens"] = 600
	last := make(chan answer)
	until(t, "the texts before are forgotten", func() bool { return s.load() == 0 && s.running() == 0 })
	go func() { last <- s.ask("POST", chats, long) }()
	until(t, "a long answer begins", func() bool { return s.load() == 1 && s.running() == 1 })
	s.ask("POST", chats, say("Again", object{"session": "s"})).refused(t, 409, "session_busy")
	third := other.ask("POST", chats, say("Again", object{"session": "s"})).json(t)
	if at(third, "state", "parent") != at(second, "state", "id") {
		t.Errorf("%v after %v", third["state"], second["state"])
	}
	(<-last).refused(t, 409, "session_changed")
	fourth := s.ask("POST", chats, say("Again", object{"session": "s"})).json(t)
	if at(fourth, "state", "parent") != at(third, "state", "id") {
		t.Errorf("%v after %v", fourth["state"], third["state"])
	}
	s.ask("POST", chats, say("Hi", object{"session": "a/b"})).refused(t, 400, "")
	s.ask("POST", chats, object{"messages": user("Hi"), "n": 2, "state": object{"session": "s"}}).refused(t, 400, "")
	s.ask("POST", chats, say("Hi", object{"save": true, "ttl_seconds": 0})).refused(t, 400, "")
}

// A sealed state is the client's, and of use only with its key, its model and the server's own key.
func TestSealed(t *testing.T) {
	key := bytes.Repeat([]byte("k"), 32)
	keys := []Key{{"a", "key-of-a"}, {"b", "key-of-b"}}
	s, other, third := newSite(t, Config{Keys: keys, StateKey: key}), newSite(t, Config{Keys: keys, StateKey: key}), newSite(t, Config{Keys: keys})
	o := s.ask("POST", chats, say("Hi", object{"return": "sealed"})).json(t)
	sealed, _ := at(o, "state", "sealed").(string)
	if sealed == "" || at(o, "state", "id") != nil {
		t.Fatalf("state %.200v", o["state"])
	}
	kept := s.ask("POST", chats, say("Hi", object{"save": true})).json(t)
	want := s.ask("POST", chats, say("More", object{"id": at(kept, "state", "id")})).json(t)
	if got := other.ask("POST", chats, say("More", object{"sealed": sealed})).json(t); !same(logsOf(got), logsOf(want)) {
		t.Error("sealed: other bits")
	}
	third.ask("POST", chats, say("More", object{"sealed": sealed})).refused(t, 400, "bad_state")
	s.as("key-of-b").ask("POST", chats, say("More", object{"sealed": sealed})).refused(t, 400, "bad_state")
	b, err := base64.RawURLEncoding.DecodeString(sealed)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(b, []byte("RWKVSTAT")) {
		t.Error("it can be read")
	}
	b[len(b)/2]++
	for _, bad := range []string{base64.RawURLEncoding.EncodeToString(b), "x", "$$", sealed[:100]} {
		s.ask("POST", chats, say("More", object{"sealed": bad})).refused(t, 400, "bad_state")
	}
	old := &stateMeta{Fingerprint: s.server.engines[0].fingerprint, Expires: 1}
	expired, err := s.server.states.sealer.seal(s.server.callers[0].id, old, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.ask("POST", chats, say("More", object{"sealed": expired})).refused(t, 400, "bad_state")
}

// A state of one model isn't another's.
func TestOtherModel(t *testing.T) {
	m, err := rwkv.Random(tiny().Model.Config(), tensor.BF16, 2)
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t, Config{}, tiny(), Model{Name: "other", Model: m, Tokenizer: tiny().Tokenizer})
	id := at(s.ask("POST", chats, say("Hi", object{"save": true})).json(t), "state", "id")
	body := say("More", object{"id": id})
	body["model"] = "other"
	s.ask("POST", chats, body).refused(t, 422, "state_mismatch")
}

// Named initial states are everybody's.
func TestInitialStates(t *testing.T) {
	s := newSite(t, Config{})
	st := s.ask("POST", "/v1/states", object{"messages": []any{object{"role": "system", "content": "Be kind."}}}).json(t)
	file := t.TempDir() + "/kind.state"
	writeFile(t, file, s.ask("GET", "/v1/states/"+st["id"].(string)+"/data", nil).body)
	m := tiny()
	m.States = map[string]string{"kind": file}
	other := newSite(t, Config{}, m)
	x := s.ask("POST", chats, say("Hi", object{"id": st["id"]})).json(t)
	for range 2 {
		if y := other.ask("POST", chats, say("Hi", object{"id": "kind"})).json(t); !same(logsOf(x), logsOf(y)) {
			t.Error("other bits")
		}
	}
	m.States = map[string]string{"kind": file + "x"}
	if _, err := New([]Model{m}, Config{}); err == nil || !strings.Contains(err.Error(), "kind.statex") {
		t.Error(err)
	}
}

func FuzzStateUpload(f *testing.F) {
	state := tiny().Model.NewState()
	if _, err := state.Append([]int{1, 2, 3}); err != nil {
		f.Fatal(err)
	}
	good, err := state.MarshalBinary()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint32(3), byte(1), uint32(0), true)
	f.Add(uint32(70), byte(255), uint32(5), true)
	f.Add(uint32(len(good)-60), byte(7), uint32(0), true)
	f.Add(uint32(60), byte(7), uint32(len(good)-10), false)
	f.Fuzz(func(t *testing.T, at uint32, x byte, cut uint32, right bool) {
		b := append([]byte{}, good[:len(good)-int(cut)%len(good)]...)
		b[int(at)%len(b)] ^= x
		if right && len(b) > 4 {
			withChecksum(b)
		}
		s := tiny().Model.NewState()
		if _, err := s.ReadFrom(bytes.NewReader(b)); err != nil || !s.Finite() {
			return
		}
		if _, err := s.Append([]int{5}); err != nil {
			t.Error(fmt.Errorf("a state that was taken can't go on: %w", err))
		}
	})
}
