package clitest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// GoldenModel returns the flags that open the model of a golden case, an .expect.json of package rwkv's
// testdata.
func GoldenModel(t *testing.T, expect string) []string {
	t.Helper()
	var c struct {
		File, State, LoRA, Bone string
		Alpha                   float64 `json:"lora_alpha"`
	}
	b, err := os.ReadFile(expect)
	if err == nil {
		err = json.Unmarshal(b, &c)
	}
	if err != nil {
		t.Fatal(err)
	}
	beside := func(name string) string { return filepath.Join(filepath.Dir(expect), name) }
	if c.File == "" {
		for _, ext := range []string{".pt", ".pth", ".gguf"} {
			c.File = strings.TrimSuffix(filepath.Base(expect), ".expect.json") + ext
			if _, err := os.Stat(beside(c.File)); err == nil {
				break
			}
		}
	}
	args := []string{"--model", beside(c.File), "--activations", "f32"} // the numbers are of exact products
	if c.State != "" {
		args = append(args, "--state", beside(c.State))
	}
	if c.LoRA != "" {
		args = append(args, "--lora", beside(c.LoRA), "--lora_alpha", fmt.Sprint(c.Alpha))
	}
	if c.Bone != "" {
		args = append(args, "--bone", beside(c.Bone))
	}
	return args
}
