package world

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"microrwkv/tokenizer/internal/tokentest"
)

func mustWorld(t testing.TB) *world {
	tok, err := Tokenizer()
	if err != nil {
		t.Fatal(err)
	}
	return tok.(*world)
}

func TestWorld(t *testing.T) {
	tok := mustWorld(t)
	tokentest.Test(t, tok, "testdata/world.json")
	tokentest.Outside(t, tok)
	if tok.VocabSize() != 65530 || tok.EndOfText() != 0 || tok.Decode([]int{0, 65529, 0}) != strings.Repeat(" ", 128) {
		t.Errorf("VocabSize %d, EndOfText %d", tok.VocabSize(), tok.EndOfText())
	}
	for b := range 256 {
		s := string([]byte{byte(b)})
		if ids, _ := tok.Encode(s); !slices.Equal(ids, []int{b + 1}) || tok.Decode(ids) != s {
			t.Errorf("byte %#x is %v, want %d", b, ids, b+1)
		}
	}
}

// TestWorldVocabulary compares the embedded tokens with rwkv_vocab_v20230424.txt as Python reads it:
// the sum is that of a line "id hex" for each. Each token is then its own longest match.
func TestWorldVocabulary(t *testing.T) {
	tok := mustWorld(t)
	sum := sha256.New()
	for id := 1; id < tok.VocabSize(); id++ {
		token := tok.Token(id)
		fmt.Fprintf(sum, "%d %x\n", id, token)
		if got, n := tok.trie.Longest(token); got != id || n != len(token) {
			t.Fatalf("longest(%q) = %d, %d, want %d", token, got, n, id)
		}
	}
	if got := fmt.Sprintf("%x", sum.Sum(nil)); got != "2df0627f02263a61cf2606e02941969c3037394752d1d0b1f463838ca48d6839" {
		t.Errorf("the vocabulary has SHA-256 %s", got)
	}
}

// byDefinition is the definition of the encoding, with a map in place of the trie.
func byDefinition(ids map[string]int, text string) []int {
	var out []int
	for len(text) > 0 {
		n := min(128, len(text)) // no token is longer
		for ids[text[:n]] == 0 {
			n--
		}
		out, text = append(out, ids[text[:n]]), text[n:]
	}
	return out
}

// TestWorldGreedy encodes random bytes and joined halves of tokens, which nearly match.
func TestWorldGreedy(t *testing.T) {
	tok := mustWorld(t)
	ids := map[string]int{}
	for id := 1; id < tok.VocabSize(); id++ {
		ids[tok.Token(id)] = id
	}
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range 2000 {
		var text []byte
		for range rng.IntN(30) {
			token := tok.Token(1 + rng.IntN(tok.VocabSize()-1))
			text = append(text, token[:rng.IntN(len(token)+1)]...)
			if i%2 == 0 {
				text = append(text, byte(rng.Uint32()))
			}
		}
		got, err := tok.Encode(string(text))
		if want := byDefinition(ids, string(text)); err != nil || !slices.Equal(got, want) {
			t.Fatalf("Encode(%q) = %v, %v, want %v", text, got, err, want)
		}
		if tok.Decode(got) != string(text) {
			t.Fatalf("Decode(Encode(%q)) = %q", text, tok.Decode(got))
		}
	}
}

func FuzzWorldRoundTrip(f *testing.F) {
	for _, c := range tokentest.Goldens(f, "testdata/world.json") {
		f.Add(c.Text)
	}
	f.Add("\xff\xfe\x00\xe6\x97")
	tok := mustWorld(f)
	f.Fuzz(func(t *testing.T, text string) {
		ids, err := tok.Encode(text)
		if err != nil || tok.Decode(ids) != text {
			t.Fatalf("Decode(Encode(%q)) = %q, %v", text, tok.Decode(ids), err)
		}
	})
}

func ExampleTokenizer() {
	tok, err := Tokenizer()
	if err != nil {
		panic(err)
	}
	ids, err := tok.Encode("User: Hi\n\nAssistant:")
	fmt.Println(ids, err)
	ids, err = tok.Encode("\xff") // any bytes
	fmt.Printf("%v %v %q\n", ids, err, tok.Decode(ids))
	// Output:
	// [24281 59 3880 261 5585 41693 59] <nil>
	// [256] <nil> "\xff"
}

// BenchmarkInit is what the first call of Tokenizer costs.
func BenchmarkInit(b *testing.B) {
	for b.Loop() {
		newWorld()
	}
}
