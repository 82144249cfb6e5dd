package tokenizer_test

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"microrwkv/tokenizer"
	"microrwkv/tokenizer/internal/vocab"
)

// tokens is a tokenizer.Tokenizer that only decodes: id i is the i-th string.
type tokens struct{ vocab.Vocab }

func (tokens) Encode(string) ([]int, error) { panic("not used") }
func (tokens) EndOfText() int               { return -1 }

// stream pushes all tokens through a Decoder, checks that every piece is valid by itself, and joins
// the pieces.
func stream(t *testing.T, all []string) string {
	t.Helper()
	d := tokenizer.NewDecoder(&tokens{vocab.New(all)})
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

// FuzzDecoder cuts bytes into tokens of the lengths given and compares with the bytes as one token.
func FuzzDecoder(f *testing.F) {
	f.Add([]byte("a\xe6\x97\xa5\xf0\x9d\x84"), []byte{1, 2, 1})
	f.Add([]byte("\xed\xa0\x80\xf4\x90"), []byte{0, 1})
	f.Fuzz(func(t *testing.T, b, lengths []byte) {
		whole := stream(t, []string{string(b)})
		if utf8.Valid(b) && whole != string(b) {
			t.Fatalf("%q became %q", b, whole)
		}
		var all []string
		rest := string(b)
		for _, n := range lengths {
			n := min(int(n), len(rest))
			all, rest = append(all, rest[:n]), rest[n:]
		}
		if got := stream(t, append(all, rest)); got != whole {
			t.Fatalf("%q: %q, want %q", append(all, rest), got, whole)
		}
	})
}

func TestNoAllocation(t *testing.T) {
	tok := open(t, "gpt2")
	ids, _ := tok.Encode("日本語 text")
	dst := make([]byte, 0, 1000)
	d := tokenizer.NewDecoder(tok)
	n := testing.AllocsPerRun(100, func() {
		dst = dst[:0]
		for _, id := range ids {
			dst = d.Append(dst, id)
			dst = tok.AppendToken(dst, id)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func ExampleDecoder() {
	tok, err := tokenizer.Open("gpt2")
	if err != nil {
		panic(err)
	}
	ids, _ := tok.Encode("日本語")
	d := tokenizer.NewDecoder(tok)
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
