package tokenizer

import (
	"errors"
	"slices"
	"testing"
)

func TestLongestMatch(t *testing.T) {
	tok, err := LongestMatch([]string{"", "a", "b", "ab", "abc", "", "\xff"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string][]int{"": {}, "ababcb": {3, 4, 2}, "b\xffa": {2, 6, 1}} {
		got, err := tok.Encode(text)
		if err != nil || !slices.Equal(got, want) || tok.Decode(got) != text {
			t.Errorf("Encode(%q) = %v, %v, want %v", text, got, err, want)
		}
	}
	var unknown *UnknownRuneError
	if _, err := tok.Encode("ab猫"); !errors.As(err, &unknown) || *unknown != (UnknownRuneError{'猫', 2}) {
		t.Errorf("an unknown character: %v", err)
	}
	if tok.VocabSize() != 7 || tok.EndOfText() != 0 {
		t.Errorf("%d ids, the end is %d", tok.VocabSize(), tok.EndOfText())
	}
	if _, err := LongestMatch(make([]string, 1<<16+1), 0); err == nil {
		t.Error("65537 ids are taken")
	}
	if _, err := LongestMatch([]string{"a"}, 1); err == nil {
		t.Error("an end that is no id is taken")
	}
	if empty, err := LongestMatch(nil, -1); err != nil || empty.Decode([]int{0}) != "" {
		t.Errorf("no ids: %v", err)
	}
}
