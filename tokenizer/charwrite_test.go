package tokenizer

import (
	"bytes"
	"slices"
	"testing"
)

// TestWriteMeta reads what it writes.
func TestWriteMeta(t *testing.T) {
	for _, text := range []string{"a", "\n !aé世🙂\x00"} {
		runes := []rune(text)
		var b bytes.Buffer
		if err := WriteMeta(&b, runes); err != nil {
			t.Fatal(err)
		}
		read, err := ReadMeta(&b)
		if err != nil {
			t.Fatal(err)
		}
		made, err := NewChar(runes)
		if err != nil {
			t.Fatal(err)
		}
		for _, tok := range []Tokenizer{read, made} {
			ids, err := tok.Encode(text)
			want := make([]int, len(runes))
			for i := range want {
				want[i] = i
			}
			if err != nil || !slices.Equal(ids, want) || tok.Decode(ids) != text || tok.VocabSize() != len(runes) {
				t.Errorf("%q: %v, %v, %q of %d", text, ids, err, tok.Decode(ids), tok.VocabSize())
			}
		}
	}
	for _, bad := range [][]rune{nil, {'a', 'a'}, {0xd800}} {
		if _, err := NewChar(bad); err == nil {
			t.Errorf("%v: no error", bad)
		}
	}
}
