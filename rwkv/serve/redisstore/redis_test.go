package redisstore_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"

	"microrwkv/rwkv"
	"microrwkv/rwkv/serve"
	"microrwkv/rwkv/serve/internal/storetest"
	"microrwkv/rwkv/serve/redisstore"
	"microrwkv/tensor"
	"microrwkv/tokenizer/world"
)

// redis is one that can be stopped and started again.
type redis struct {
	t             *testing.T
	program, port string
	folder        string
	command       *exec.Cmd
}

func newRedis(t *testing.T) *redis {
	t.Helper()
	program := storetest.Need(t, "redis-server")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	r := &redis{t: t, program: program, port: port, folder: t.TempDir()}
	r.start()
	t.Cleanup(r.kill)
	return r
}

func (r *redis) start() {
	r.t.Helper()
	r.command = exec.Command(r.program, "--port", r.port, "--bind", "127.0.0.1", "--dir", r.folder, "--appendonly", "yes", "--appendfsync", "always", "--save", "")
	if err := r.command.Start(); err != nil {
		r.t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if _, err := r.open().List(r.t.Context(), "x"); err == nil {
			return
		} else if time.Now().After(end) {
			r.t.Fatal(err)
		}
	}
}

// kill stops it as kill -9 does.
func (r *redis) kill() {
	r.command.Process.Kill()
	r.command.Wait()
}

func (r *redis) open() serve.Store {
	s, err := redisstore.Open("redis://127.0.0.1:" + r.port + "/0")
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

func TestStore(t *testing.T) {
	r := newRedis(t)
	storetest.Run(t, r.open(), r.open())
	for _, bad := range []string{"", "http://x", "redis://:x:y"} {
		if _, err := redisstore.Open(bad); err == nil {
			t.Errorf("address %q is taken", bad)
		}
	}
}

// Two servers share sessions; without Redis they answer what needs no state, say that they can't keep
// one, and go on when it is back: what was acknowledged is there.
func TestServers(t *testing.T) {
	r := newRedis(t)
	m, err := rwkv.Random(rwkv.Config{Kind: rwkv.RWKV7, NumLayers: 1, NumHeads: 1, EmbedDim: 64, VocabSize: 65536}, tensor.BF16, 1)
	if err != nil {
		t.Fatal(err)
	}
	tok, err := world.Tokenizer()
	if err != nil {
		t.Fatal(err)
	}
	var sites [2]*httptest.Server
	for i := range sites {
		s, err := serve.New([]serve.Model{{Name: "m", Model: m, Tokenizer: tok}}, serve.Config{Store: r.open(), StateRAM: 2})
		if err != nil {
			t.Fatal(err)
		}
		sites[i] = httptest.NewServer(s)
		t.Cleanup(func() {
			sites[i].Close()
			s.Shutdown(t.Context())
		})
	}
	type answer struct {
		Choices []struct{ Message struct{ Content string } }
		State   struct {
			ID, Parent string
			Error      struct{ Code string }
		}
		Error struct{ Code string }
	}
	ask := func(site int, state string) (int, answer) {
		t.Helper()
		body := `{"messages":[{"role":"user","content":"Hi"}],"max_tokens":9,"seed":1,"ignore_eos":true` + state + `}`
		resp, err := http.Post(sites[site].URL+"/v1/chat/completions", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		var a answer
		if err := json.NewDecoder(bytes.NewReader(b)).Decode(&a); err != nil {
			t.Fatalf("%v: %s", err, b)
		}
		return resp.StatusCode, a
	}
	const session = `,"state":{"session":"s"}`
	_, first := ask(0, session)
	code, second := ask(1, session)
	if code != 200 || second.State.Parent != first.State.ID || first.State.ID == "" {
		t.Fatalf("%d: %+v after %+v", code, second, first)
	}
	r.kill()
	if code, a := ask(0, ""); code != 200 || a.Choices[0].Message.Content == "" {
		t.Errorf("without Redis: %d, %+v", code, a)
	}
	if code, a := ask(0, session); code != 503 || a.Error.Code != "store_unavailable" {
		t.Errorf("a session without Redis: %d, %+v", code, a)
	}
	if code, a := ask(1, `,"state":{"save":true}`); code != 200 || a.State.Error.Code != "store_unavailable" || a.State.ID != "" || a.Choices[0].Message.Content == "" {
		t.Errorf("saving without Redis: %d, %+v", code, a)
	}
	r.start()
	code, third := ask(0, session)
	if code != 200 || third.State.Parent != second.State.ID {
		t.Errorf("with Redis again: %d, %+v after %+v", code, third, second)
	}
	_, again := ask(1, `,"state":{"id":"`+first.State.ID+`"}`)
	if again.Choices[0].Message.Content != second.Choices[0].Message.Content {
		t.Error("the first state has other bits after Redis came back")
	}
}
