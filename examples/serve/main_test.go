package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"microrwkv/examples/internal/clitest"
	"microrwkv/tokenizer"
)

func TestMain(m *testing.M) { clitest.Main(m, main) }

// start starts the program and returns its address.
func start(t *testing.T, env []string, args ...string) (c *exec.Cmd, url string) {
	t.Helper()
	c = clitest.Command(t, append([]string{"--addr", "127.0.0.1:0"}, args...)...)
	c.Env = append(c.Env, env...)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
	})
	url = strings.TrimSuffix(strings.TrimSpace(line), "/")
	for {
		r, err := http.Get(url + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if r.StatusCode == 200 {
			return c, url
		}
	}
}

// post asks, and returns the answer's JSON.
func post(t *testing.T, url, body string) (code int, answer map[string]any) {
	t.Helper()
	r, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &answer); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	return r.StatusCode, answer
}

const story = `{"prompt":"One day","max_tokens":20,"seed":7,"temperature":0.8,"state":{"save":true}}`

// textOf returns the text of a completion.
func textOf(answer map[string]any) string {
	return answer["choices"].([]any)[0].(map[string]any)["text"].(string)
}

// The demo is served; SIGTERM lets a request end, and what was saved is there after a restart, even of
// a server that was killed.
func TestServe(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "states")
	c, url := start(t, nil, "--store", "dir:"+folder, "--drain_delay", "0s")
	code, first := post(t, url+"/v1/completions", story)
	if code != 200 || textOf(first) == "" {
		t.Fatalf("%d: %v", code, first)
	}
	id := first["state"].(map[string]any)["id"].(string)
	goOn := `{"prompt":"","max_tokens":20,"seed":7,"state":{"id":"` + id + `"}}`
	_, want := post(t, url+"/v1/completions", goOn)
	c.Process.Kill()
	c.Wait()

	c, url = start(t, nil, "--store", "dir:"+folder, "--drain_delay", "0s")
	if code, got := post(t, url+"/v1/completions", goOn); code != 200 || textOf(got) != textOf(want) {
		t.Errorf("after kill -9: %d, %v, want %v", code, got, want)
	}
	done := make(chan string)
	r, err := http.Post(url+"/v1/completions", "application/json", strings.NewReader(`{"prompt":"One day","max_tokens":60,"stream":true}`))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		b, _ := io.ReadAll(r.Body)
		done <- string(b)
	}()
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		t.Skip("NOT TESTED: ", err)
	}
	if s := <-done; !strings.Contains(s, "[DONE]") || !strings.Contains(s, `"finish_reason":"length"`) {
		t.Errorf("the stream that SIGTERM found: %s", s)
	}
	if err := c.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
}

// Models with what was trained on top, a tuned state for all and one that requests name: the tokens are the
// golden ones of each.
func TestCompanions(t *testing.T) {
	const golden = "../../rwkv/testdata/golden/rwkv7x/"
	tok := filepath.Join(t.TempDir(), "meta.pkl")
	f, err := os.Create(tok)
	if err != nil {
		t.Fatal(err)
	}
	var runes []rune
	for i := range 149 {
		runes = append(runes, rune(0x4e00+i))
	}
	if err := errors.Join(tokenizer.WriteMeta(f, runes), f.Close()); err != nil {
		t.Fatal(err)
	}
	args := []string{"--tokenizer", tok, "--max_new_tokens", "1000"}
	for _, name := range []string{"state", "lora", "bone"} {
		model := clitest.GoldenModel(t, golden+name+".expect.json")
		model[1] = name + "=" + model[1]
		args = append(args, model...)
	}
	args = append(args, "--model", golden+"plain.pth", "--state", "mine="+golden+"plain.state.pth")
	_, url := start(t, nil, args...)
	for _, c := range []struct{ model, state, golden string }{
		{"state", "", "state"}, {"lora", "", "lora"}, {"bone", "", "bone"}, {"plain", "mine", "state"},
	} {
		var want struct {
			Greedy []struct{ Prompt, Output []int }
		}
		b, err := os.ReadFile(golden + c.golden + ".expect.json")
		if err == nil {
			err = json.Unmarshal(b, &want)
		}
		if err != nil || len(want.Greedy) == 0 {
			t.Fatal(err)
		}
		for _, g := range want.Greedy {
			ask := map[string]any{"model": c.model, "prompt": g.Prompt, "max_tokens": len(g.Output), "temperature": 0, "ignore_eos": true}
			if c.state != "" {
				ask["state"] = map[string]any{"id": c.state}
			}
			b, err := json.Marshal(ask)
			if err != nil {
				t.Fatal(err)
			}
			code, a := post(t, url+"/v1/completions", string(b))
			if code != 200 {
				t.Fatalf("%+v: %d, %v", c, code, a)
			}
			var got []int
			for _, r := range textOf(a) {
				got = append(got, int(r-0x4e00))
			}
			if !slices.Equal(got, g.Output) {
				t.Errorf("%+v: %v, want %v", c, got, g.Output)
			}
		}
	}
}

func TestKeysAndDefaults(t *testing.T) {
	keys := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(keys, []byte("# who\nann key-of-ann\n\nbob key-of-bob\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, url := start(t, []string{"MICRORWKV_API_KEY=key-of-env", "MICRORWKV_STATE_KEY=" + strings.Repeat("0f", 32)},
		"--api_keys", keys, "--defaults", `{"temperature":0}`, "--model", "a=", "--model", "b=", "--log", "json", "--state_ram", "10MiB")
	if code, a := post(t, url+"/v1/completions", story); code != 401 {
		t.Errorf("%d: %v", code, a)
	}
	var texts []string
	for _, key := range []string{"ann", "bob", "env"} {
		r, err := http.NewRequest("POST", url+"/v1/completions", strings.NewReader(`{"model":"b","prompt":"One day","max_tokens":20}`))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer key-of-"+key)
		a, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(a.Body)
		a.Body.Close()
		var o map[string]any
		if err != nil || a.StatusCode != 200 || json.Unmarshal(b, &o) != nil {
			t.Fatalf("%v, %d: %s", err, a.StatusCode, b)
		}
		texts = append(texts, textOf(o))
	}
	if texts[0] != texts[1] || texts[1] != texts[2] {
		t.Errorf("the default temperature isn't 0: %q", texts)
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		words []string
		args  []string
	}{
		{[]string{"--insecure", "0.0.0.0:0"}, []string{"--addr", "0.0.0.0:0"}},
		{[]string{"--insecure"}, []string{"--addr", ":0"}},
		{[]string{"--addr"}, []string{"--addr", "8080"}},
		{[]string{"--store", "ftp"}, []string{"--store", "ftp://x"}},
		{[]string{"--log", "xml"}, []string{"--log", "xml"}},
		{[]string{"--defaults"}, []string{"--defaults", "{"}},
		{[]string{"temperature"}, []string{"--defaults", `{"temperature":-1}`}},
		{[]string{"nothing.pth"}, []string{"--model", "nothing.pth"}},
		{[]string{"--store", "dir:PATH"}, []string{"--store", "redis://x", "--store", "dir:y"}},
		{[]string{"--store", "3"}, []string{"--store", "dir:x", "--store", "redis://x", "--store", "redis://y"}},
		{[]string{"--lora x.pth", "--lora_alpha"}, []string{"--lora", "x.pth"}},
		{[]string{"--activations", "q3"}, []string{"--activations", "q3"}},
		{[]string{"max_batch"}, []string{"--max_batch", "-1"}},
		{[]string{"keys.txt"}, []string{"--api_keys", "keys.txt"}},
	} {
		clitest.Refuse(t, 1, c.words, append([]string{"--addr", "127.0.0.1:0"}, c.args...)...)
	}
	for _, c := range [][]string{{"max_body", "4MiB", "--max_body", "4 cats"}, {"state", "NAME=FILE", "--state", "x="},
		{"state", "x.pth", "--state", "x.pth", "--state", "y.pth"}, {"state", "another", "--state", "a=x", "--state", "a=y"}} {
		clitest.Refuse(t, 2, c[:2], c[2:]...)
	}
}
