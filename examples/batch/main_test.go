package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"microrwkv/examples/internal/clitest"
)

func TestMain(m *testing.M) { clitest.Main(m, main) }

// requests writes n requests.
func requests(t *testing.T, n int) (path string) {
	t.Helper()
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `{"custom_id":"r%d","method":"POST","url":"/v1/completions","body":{"model":"any","prompt":"Once %d","max_tokens":%d}}`+"\n", i, i, 5+i%7)
	}
	path = filepath.Join(t.TempDir(), "requests.jsonl")
	write(t, path, b.String())
	return path
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// texts returns the texts of results by their ids, none of which may be there twice.
func texts(t *testing.T, path string) map[string]string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for line := range strings.Lines(string(b)) {
		var r struct {
			ID       string `json:"custom_id"`
			Response struct {
				Status int `json:"status_code"`
				Body   struct{ Choices []struct{ Text string } }
			}
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		if _, ok := all[r.ID]; ok {
			t.Errorf("%s is there twice", r.ID)
		}
		all[r.ID] = ""
		if r.Response.Status == 200 {
			all[r.ID] = r.Response.Body.Choices[0].Text
		}
	}
	return all
}

// Killed again and again, it loses no line and repeats none, and the results are those of a run in one
// piece, also in shards.
func TestResume(t *testing.T) {
	in := requests(t, 40)
	whole := filepath.Join(t.TempDir(), "whole.jsonl")
	if r := clitest.Run(t, "--input", in, "--output", whole); r.Status != 0 || r.Stderr != "40 requests, 0 of them answered before\n" {
		t.Fatalf("%+v", r)
	}
	want := texts(t, whole)
	if len(want) != 40 || want["r0"] == "" {
		t.Fatal(want)
	}
	out := filepath.Join(t.TempDir(), "results.jsonl")
	for kills := 0; ; kills++ {
		c := clitest.Command(t, "--input", in, "--output", out, "--max_batch", "2")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- c.Wait() }()
		lines := func() int { b, _ := os.ReadFile(out); return strings.Count(string(b), "\n") }
		before, done := lines(), false
		for !done && lines() < before+9 {
			select {
			case err := <-ended:
				if err != nil {
					t.Fatal(err)
				}
				done = true
			case <-time.After(time.Millisecond):
			}
		}
		if done {
			if kills < 2 {
				t.Errorf("only %d kills", kills)
			}
			break
		}
		c.Process.Kill()
		<-ended
		if kills == 0 { // as if it had been killed while it wrote
			f, err := os.OpenFile(out, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			f.WriteString(`{"custom_id":"r39","resp`)
			f.Close()
		}
	}
	if got := texts(t, out); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v\nwant %v", got, want)
	}
	var ids []string
	for i := range 3 {
		part := filepath.Join(t.TempDir(), "part.jsonl")
		if r := clitest.Run(t, "--input", in, "--output", part, "--shard", fmt.Sprintf("%d/3", i)); r.Status != 0 {
			t.Fatalf("%+v", r)
		}
		for id, text := range texts(t, part) {
			ids = append(ids, id)
			if text != want[id] {
				t.Errorf("shard %d: %s: %q, want %q", i, id, text, want[id])
			}
		}
	}
	slices.Sort(ids)
	if len(slices.Compact(ids)) != 40 {
		t.Errorf("the shards have %v", ids)
	}
}

// A request that can't be honoured is answered as the server does, and the others are too.
func TestErrors(t *testing.T) {
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	write(t, in, `{"custom_id":"a","method":"POST","url":"/v1/completions","body":{"prompt":"x","max_tokens":-1}}

{"custom_id":"b","method":"GET","url":"/v1/models"}
{"custom_id":"c","method":"POST","url":"/v1/chat/completions","body":{"messages":[{"role":"user","content":"Hi"}],"max_tokens":3,"stream":true}}
`)
	r := clitest.Run(t, "--input", in, "--output", out)
	if r.Status != 0 || !strings.Contains(r.Stderr, "2 requests were answered with errors") {
		t.Errorf("%+v", r)
	}
	b, err := os.ReadFile(out)
	if err != nil || strings.Count(string(b), `"status_code":400`) != 2 || strings.Count(string(b), `"object":"chat.completion"`) != 1 {
		t.Errorf("%v: %s", err, b)
	}
	for words, content := range map[string]string{
		"line 2": "{\"custom_id\":\"a\"}\n{\n", "no custom_id": "{}", "is line 1's": "{\"custom_id\":\"a\"}\n{\"custom_id\":\"a\"}\n",
	} {
		write(t, in, content)
		clitest.Refuse(t, 1, []string{words}, "--input", in, "--output", out)
	}
	write(t, in, "{\"custom_id\":\"a\"}\n")
	write(t, out, "what\n")
	clitest.Refuse(t, 1, []string{"line 1", "out"}, "--input", in, "--output", out)
	clitest.Refuse(t, 1, []string{"--output"}, "--input", in, "--output", in)
	clitest.Refuse(t, 2, []string{"shard"}, "--input", in, "--output", out, "--shard", "3/3")
	clitest.Refuse(t, 2, []string{"--output"}, "--input", in)
}
