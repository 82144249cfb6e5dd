package bpe

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"microrwkv/tokenizer"
)

// A tokenizer that is made again of its table gives the same ids and text, and the same table.
func TestBytePairs(t *testing.T) {
	for _, name := range []string{"gpt2", "llama", "qwen"} {
		tok, err := tokenizer.Open("testdata/" + name + ".tokenizer.json")
		if err != nil {
			t.Fatal(err)
		}
		p, ok := tok.(tokenizer.BytePairer).BytePairs()
		if !ok || p.Pattern == "" {
			t.Fatalf("%s: no table", name)
		}
		again, err := tokenizer.OfBytePairs(p)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var cases []struct{ Text string }
		data, err := os.ReadFile("testdata/" + name + ".json")
		if err == nil {
			err = json.Unmarshal(data, &cases)
		}
		if err != nil || len(cases) == 0 {
			t.Fatalf("%d cases: %v", len(cases), err)
		}
		for _, c := range cases {
			a, _ := tok.Encode(c.Text)
			b, err := again.Encode(c.Text)
			if err != nil || !slices.Equal(a, b) || tok.Decode(a) != again.Decode(a) {
				t.Errorf("%s: %q: ids %v, want %v (%v)", name, c.Text, b, a, err)
			}
		}
		q, ok := again.(tokenizer.BytePairer).BytePairs()
		if !ok || !slices.Equal(p.Tokens, q.Tokens) || !slices.Equal(p.Types, q.Types) || !slices.Equal(p.Merges, q.Merges) || p.NFC != q.NFC || p.EndOfText != q.EndOfText || p.Pattern != q.Pattern {
			t.Errorf("%s: another table", name)
		}
		if again.VocabSize() != tok.VocabSize() || again.EndOfText() != tok.EndOfText() {
			t.Errorf("%s: %d ids, the end %d", name, again.VocabSize(), again.EndOfText())
		}
	}
}

// Tables that make no tokenizer are errors.
func TestBytePairsErrors(t *testing.T) {
	good := func() *tokenizer.BytePairs {
		return &tokenizer.BytePairs{Tokens: []string{"a", "b", "ab", "<x>", ""}, Types: []tokenizer.TokenType{0, 0, 0, tokenizer.Special, 0}, Merges: []string{"a b"}, Pattern: "gpt-2", EndOfText: 3}
	}
	if tok, err := New(good()); err != nil {
		t.Fatal(err)
	} else if ids, err := tok.Encode("ab<x>a"); err != nil || !slices.Equal(ids, []int{2, 3, 0}) {
		t.Errorf("ids %v, error %v", ids, err)
	}
	for want, change := range map[string]func(p *tokenizer.BytePairs){
		"pattern":                func(p *tokenizer.BytePairs) { p.Pattern = "gpt-9" },
		"5 tokens with 4 types":  func(p *tokenizer.BytePairs) { p.Types = p.Types[:4] },
		"of which 5 ends":        func(p *tokenizer.BytePairs) { p.EndOfText = 5 },
		`are both "a"`:           func(p *tokenizer.BytePairs) { p.Tokens[1] = "a" },
		"merge 0":                func(p *tokenizer.BytePairs) { p.Merges[0] = "a c" },
		"merge 0 has 1 parts":    func(p *tokenizer.BytePairs) { p.Merges[0] = "ab" },
		"the model has no vocab": func(p *tokenizer.BytePairs) { p.Tokens, p.Types, p.EndOfText = nil, nil, -1 },
	} {
		p := good()
		change(p)
		if _, err := New(p); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}
