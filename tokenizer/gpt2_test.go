package tokenizer

import (
	"encoding/json"
	"os"
	"slices"
	"testing"
)

type golden struct {
	Text string `json:"text"`
	IDs  []int  `json:"ids"`
}

func goldens(t *testing.T, file string) []golden {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var cases []golden
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	return cases
}

func testGolden(t *testing.T, tok Tokenizer, file string) {
	for _, c := range goldens(t, file) {
		ids, err := tok.Encode(c.Text)
		if err != nil || !slices.Equal(ids, c.IDs) {
			t.Errorf("Encode(%q) = %v, %v, want %v", c.Text, ids, err, c.IDs)
		}
		if text := tok.Decode(c.IDs); text != c.Text {
			t.Errorf("Decode(%v) = %q, want %q", c.IDs, text, c.Text)
		}
	}
}

func TestGPT2Golden(t *testing.T) {
	tok, err := GPT2()
	if err != nil {
		t.Fatal(err)
	}
	testGolden(t, tok, "testdata/gpt2.json")
}
