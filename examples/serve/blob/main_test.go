package main

import (
	"bufio"
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"microrwkv/examples/internal/clitest"
)

func TestMain(m *testing.M) { clitest.Main(m, main) }

// A state that was acknowledged outlives a server that was killed, with and without copies on disk.
func TestBlob(t *testing.T) {
	clitest.Refuse(t, 1, []string{"--store", "s9", "s3", "redis"}, "--addr", "127.0.0.1:0", "--store", "s9://x")
	bucket := "file://" + t.TempDir() + "?no_tmp_dir=true"
	var text [3]string
	id := ""
	for i := range text {
		args := []string{"--addr", "127.0.0.1:0"}
		if i < 2 {
			args = append(args, "--store", "dir:"+filepath.Join(t.TempDir(), "copies"))
		}
		c := clitest.Command(t, append(args, "--store", bucket)...)
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
		url := strings.TrimSpace(line)
		ask := func(path, body string) (a struct {
			Choices []struct{ Text string }
			State   struct{ ID string }
		}) {
			for {
				r, err := http.Post(url+path, "application/json", strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				err = json.NewDecoder(r.Body).Decode(&a)
				r.Body.Close()
				if r.StatusCode == 503 { // the model is being loaded
					continue
				}
				if err != nil || r.StatusCode != 200 {
					t.Fatal(err, r.Status)
				}
				return a
			}
		}
		if i == 0 {
			id = ask("v1/completions", `{"prompt":"One day","max_tokens":5,"seed":7,"state":{"save":true}}`).State.ID
		}
		text[i] = ask("v1/completions", `{"prompt":"","max_tokens":9,"seed":7,"state":{"id":"`+id+`"}}`).Choices[0].Text
		c.Process.Kill()
		c.Wait()
	}
	if text[0] == "" || text[1] != text[0] || text[2] != text[0] {
		t.Errorf("texts %q", text)
	}
}
