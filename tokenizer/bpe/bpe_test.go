package bpe

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"microrwkv/tokenizer"
)

// The library's ids and texts: see testdata/make.py.
func TestGolden(t *testing.T) {
	for _, name := range []string{"gpt2", "llama", "qwen"} {
		tok, err := tokenizer.Open("testdata/" + name + ".tokenizer.json")
		if err != nil {
			t.Fatal(err)
		}
		var cases []struct {
			Text, Decoded string
			IDs           []int
			Pieces        []string // of the text as it is
		}
		data, err := os.ReadFile("testdata/" + name + ".json")
		if err == nil {
			err = json.Unmarshal(data, &cases)
		}
		if err != nil || len(cases) == 0 {
			t.Fatalf("%d cases: %v", len(cases), err)
		}
		for _, c := range cases {
			ids, err := tok.Encode(c.Text)
			if err != nil || !slices.Equal(ids, c.IDs) {
				t.Errorf("%s: %q: ids %v, want %v (%v)", name, c.Text, ids, c.IDs, err)
			}
			var pieces []string
			for text := c.Text; len(text) > 0; {
				n := tok.(*bpe).split(text)
				pieces, text = append(pieces, text[:n]), text[n:]
			}
			if !slices.Equal(pieces, c.Pieces) {
				t.Errorf("%s: %q: pieces %q, want %q", name, c.Text, pieces, c.Pieces)
			}
			if got := string([]rune(tok.Decode(c.IDs))); got != c.Decoded {
				t.Errorf("%s: %v decode to %q, want %q", name, c.IDs, got, c.Decoded)
			}
		}
		if end := tok.EndOfText(); end != 0 || tok.Decode([]int{end}) != "" {
			t.Errorf("%s: the end is %d, %q", name, end, tok.Decode([]int{end}))
		}
		if ids, err := tokenizer.EncodeSpecial(tok, "a<|endoftext|>b"); err != nil || len(ids) != 3 || ids[1] != 0 {
			t.Errorf("%s: the end in a text: %v, %v", name, ids, err)
		}
	}
}

// Long pieces don't take quadratic time, and bytes that are no UTF-8 are U+FFFD each.
func TestEncodeAnything(t *testing.T) {
	tok, err := Open("testdata/gpt2.tokenizer.json")
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("the", 100_000)
	ids, err := tok.Encode(long)
	if err != nil || tok.Decode(ids) != long {
		t.Errorf("%d letters: %d ids, %v", len(long), len(ids), err)
	}
	ids, err = tok.Encode("a\xff\xfeb")
	if err != nil || tok.Decode(ids) != "a\ufffd\ufffdb" {
		t.Errorf("bad bytes: %q, %v", tok.Decode(ids), err)
	}
}

// What isn't supported is refused by name; damage is an error, never a panic.
func TestRefusals(t *testing.T) {
	const good = `{"added_tokens":[{"id":3,"content":"<x>"}],"normalizer":null,"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false},
		"decoder":{"type":"ByteLevel"},"post_processor":null,"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]}}`
	if _, err := Parse([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ from, to, want string }{
		{`"normalizer":null`, `"normalizer":{"type":"Lowercase"}`, "Lowercase"},
		{`"normalizer":null`, `"normalizer":{"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"NFKC"}]}`, "NFKC"},
		{`{"type":"ByteLevel","add_prefix_space":false}`, `{"type":"Whitespace"}`, "Whitespace"},
		{`{"type":"ByteLevel","add_prefix_space":false}`, `null`, "pre_tokenizer"},
		{`"add_prefix_space":false`, `"add_prefix_space":true`, "add_prefix_space"},
		{`{"type":"ByteLevel","add_prefix_space":false}`, `{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"\\d"},"behavior":"Isolated"},{"type":"ByteLevel"}]}`, `\\d`},
		{`{"type":"ByteLevel","add_prefix_space":false}`, `{"type":"Sequence","pretokenizers":[{"type":"Digits"},{"type":"ByteLevel"}]}`, "Digits"},
		{`"decoder":{"type":"ByteLevel"}`, `"decoder":{"type":"Metaspace"}`, "Metaspace"},
		{`"post_processor":null`, `"post_processor":{"type":"BertProcessing"}`, "BertProcessing"},
		{`"type":"BPE"`, `"type":"Unigram"`, "Unigram"},
		{`"type":"BPE"`, `"type":"BPE","dropout":0.1`, "dropout"},
		{`"type":"BPE"`, `"type":"BPE","unk_token":"<unk>"`, "unk_token"},
		{`"type":"BPE"`, `"type":"BPE","byte_fallback":true`, "byte_fallback"},
		{`"type":"BPE"`, `"type":"BPE","end_of_word_suffix":"</w>"`, "</w>"},
		{`"type":"BPE"`, `"type":"BPE","continuing_subword_prefix":"##"`, "##"},
		{`"content":"<x>"`, `"content":"<x>","lstrip":true`, "lstrip"},
		{`"content":"<x>"`, `"content":"<x>","single_word":true`, "single_word"},
		{`"content":"<x>"`, `"content":""`, "added token"},
		{`"id":3`, `"id":-3`, "-3"},
		{`"id":3`, `"id":99999999`, "99999999"},
		{`"b":1`, `"b":0`, `"b"`},
		{`"b":1`, `"b":-1`, `"b"`},
		{`["a b"]`, `["a c"]`, "no token"},
		{`["a b"]`, `["a"]`, "1 parts"},
		{`["a b"]`, `[["a","b","c"]]`, "3 parts"},
		{`["a b"]`, `[7]`, "merge 0"},
		{`{"a":0,"b":1,"ab":2}`, `{}`, "vocab"},
		{good, good[:60], "JSON"},
	} {
		text := strings.Replace(good, c.from, c.to, 1)
		if text == good {
			t.Fatalf("no %q", c.from)
		}
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", c.to, err, c.want)
		}
	}
	path := filepath.Join(t.TempDir(), "tokenizer.json")
	if err := os.WriteFile(path, []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v doesn't name the file", err)
	}
}

// A file of any content is an error or a tokenizer that can be used.
func FuzzParse(f *testing.F) {
	for _, name := range []string{"gpt2", "llama", "qwen"} {
		data, err := os.ReadFile("testdata/" + name + ".tokenizer.json")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, "One day\n\n  Lily's box: 123")
	}
	f.Add([]byte(`{"added_tokens":[{"id":3,"content":"<x>"}],"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false},"decoder":{"type":"ByteLevel"},"model":{"vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]}}`), "abab<x>b")
	f.Fuzz(func(t *testing.T, data []byte, text string) {
		tok, err := Parse(data)
		if err != nil {
			return
		}
		ids, err := tok.Encode(text)
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range ids {
			if id < 0 || id >= tok.VocabSize() {
				t.Fatalf("%q: id %d of %d", text, id, tok.VocabSize())
			}
		}
		tok.Decode(ids)
	})
}

// Both spellings of merges are the same.
func TestMergesAsPairs(t *testing.T) {
	data, err := os.ReadFile("testdata/gpt2.tokenizer.json")
	if err != nil {
		t.Fatal(err)
	}
	var f map[string]any
	if err := json.Unmarshal(data, &f); err != nil {
		t.Fatal(err)
	}
	model := f["model"].(map[string]any)
	merges := model["merges"].([]any)
	for i, m := range merges {
		if both, ok := m.([]any); ok {
			merges[i] = both[0].(string) + " " + both[1].(string)
		} else {
			merges[i] = strings.Split(m.(string), " ")
		}
	}
	other, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	one, err1 := Parse(data)
	two, err2 := Parse(other)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	const text = "the end of the day, one of the days"
	a, _ := one.Encode(text)
	b, _ := two.Encode(text)
	if !slices.Equal(a, b) || len(a) > 20 {
		t.Errorf("%v and %v", a, b)
	}
}

// A pair that is in the merges twice has its last rank: "b c" then comes before "a b".
func TestMergeTwice(t *testing.T) {
	const file = `{"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false},"decoder":{"type":"ByteLevel"},
		"model":{"type":"BPE","vocab":{"a":0,"b":1,"c":2,"ab":3,"bc":4},"merges":["a b","b c","a b"]}}`
	tok, err := Parse([]byte(file))
	if err != nil {
		t.Fatal(err)
	}
	if ids, err := tok.Encode("abc"); err != nil || !slices.Equal(ids, []int{0, 4}) {
		t.Errorf("ids %v, error %v, want [0 4]", ids, err)
	}
}
