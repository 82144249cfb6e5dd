package neox_test

import (
	"encoding/json"
	"os"
	"slices"
	"testing"

	"microrwkv/tokenizer"
	_ "microrwkv/tokenizer/neox"
)

// Texts and their ids by the original tokenizer.
func TestGolden(t *testing.T) {
	data, err := os.ReadFile("testdata/neox.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Text, Decoded string
		IDs           []int
	}
	if err := json.Unmarshal(data, &cases); err != nil || len(cases) == 0 {
		t.Fatalf("%d cases: %v", len(cases), err)
	}
	tok, err := tokenizer.Open("neox")
	if err != nil {
		t.Fatal(err)
	}
	if tok.VocabSize() != 50277 || tok.EndOfText() != 0 {
		t.Errorf("%d ids, the end is %d", tok.VocabSize(), tok.EndOfText())
	}
	for _, c := range cases {
		ids, err := tok.Encode(c.Text)
		if err != nil || !slices.Equal(ids, c.IDs) {
			t.Errorf("%q: ids %v, want %v (%v)", c.Text, ids, c.IDs, err)
		}
		if got := tok.Decode(c.IDs); got != c.Decoded {
			t.Errorf("%v decode to %q, want %q", c.IDs, got, c.Decoded)
		}
	}
	for text, id := range map[string]int{"\n": 187, "Hello": 12092} {
		if ids, _ := tok.Encode(text); !slices.Equal(ids, []int{id}) {
			t.Errorf("%q: %v, want %d", text, ids, id)
		}
	}
	if got := tok.Decode([]int{-1, 0, 1, 50277, 99999, 12092}); got != "Hello" {
		t.Errorf("ids that stand for nothing decode to %q", got)
	}
}
