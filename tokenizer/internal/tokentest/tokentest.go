// Package tokentest has what the tests of all tokenizers share.
package tokentest

import (
	"encoding/json"
	"math"
	"os"
	"slices"
	"testing"

	"microrwkv/tokenizer"
)

// Golden is a text and its ids by an original tokenizer.
type Golden struct {
	Text string `json:"text"`
	IDs  []int  `json:"ids"`
}

// Goldens reads texts and ids from the original tokenizers.
func Goldens(t testing.TB, file string) []Golden {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var cases []Golden
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	return cases
}

// Test compares a tokenizer with the cases of a file.
func Test(t *testing.T, tok tokenizer.Tokenizer, file string) {
	for _, c := range Goldens(t, file) {
		ids, err := tok.Encode(c.Text)
		if err != nil || !slices.Equal(ids, c.IDs) {
			t.Errorf("Encode(%q) = %v, %v, want %v", c.Text, ids, err, c.IDs)
		}
		if text := tok.Decode(c.IDs); text != c.Text {
			t.Errorf("Decode(%v) = %q, want %q", c.IDs, text, c.Text)
		}
		var text []byte
		d := tokenizer.NewDecoder(tok)
		for _, id := range c.IDs {
			text = d.Append(text, id)
		}
		if string(text) != c.Text {
			t.Errorf("Decoder of %v gave %q, want %q", c.IDs, text, c.Text)
		}
	}
}

// Outside decodes ids that are not in the vocabulary.
func Outside(t *testing.T, tok tokenizer.Tokenizer) {
	n := tok.VocabSize()
	for _, id := range []int{math.MinInt, -1, n, n + 1, math.MaxInt32, math.MaxInt} {
		if b := tok.AppendToken([]byte("x"), id); string(b) != "x" {
			t.Errorf("AppendToken of %d = %q", id, b)
		}
		if s := tok.Decode([]int{id, id}); s != "" {
			t.Errorf("Decode of %d = %q", id, s)
		}
	}
}
