package tokenizer

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"unicode/utf8"
)

// tokens is a Tokenizer that only decodes: id i is the i-th string.
type tokens struct{ vocab }

func (tokens) Encode(string) ([]int, error) { panic("not used") }
func (tokens) EndOfText() int               { return -1 }

// stream pushes all tokens through a Decoder, checks that every piece is valid by itself, and joins
// the pieces.
func stream(t *testing.T, all []string) string {
	t.Helper()
	d := NewDecoder(&tokens{newVocab(all)})
	var text strings.Builder
	for id := range all {
		piece := d.Push(id)
		if !utf8.ValidString(piece) {
			t.Fatalf("%q: Push(%d) = %q", all, id, piece)
		}
		text.WriteString(piece)
	}
	text.WriteString(d.Flush())
	if again := d.Flush(); again != "" {
		t.Fatalf("%q: second Flush = %q", all, again)
	}
	return text.String()
}

// TestDecoderReplaces compares with Python for every way to cut the bytes in two tokens, for one
// token and for one token a byte.
func TestDecoderReplaces(t *testing.T) {
	data, err := os.ReadFile("testdata/utf8.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct{ Hex, Text string }
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		b, err := hex.DecodeString(c.Hex)
		if err != nil {
			t.Fatal(err)
		}
		var bytes []string
		for i := range b {
			bytes = append(bytes, string(b[i:i+1]))
		}
		cuts := [][]string{bytes}
		for i := range b {
			cuts = append(cuts, []string{string(b[:i]), string(b[i:])})
		}
		for _, tokens := range cuts {
			if got := stream(t, tokens); got != c.Text {
				t.Errorf("%q: %q, want %q", tokens, got, c.Text)
			}
		}
	}
}

func ExampleDecoder() {
	tok, err := GPT2()
	if err != nil {
		panic(err)
	}
	ids, _ := tok.Encode("日本語")
	d := NewDecoder(tok)
	for _, id := range ids {
		fmt.Printf("%5d %+q %q\n", id, tok.Decode([]int{id}), d.Push(id))
	}
	fmt.Printf("%q\n", d.Flush())
	// Output:
	// 33768 "\xe6\x97" ""
	//    98 "\xa5" "日"
	// 17312 "\xe6\x9c" ""
	//   105 "\xac" "本"
	// 45739 "\xe8\xaa" ""
	//   252 "\x9e" "語"
	// ""
}
