package gpt2

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/pkoukk/tiktoken-go"

	"microrwkv/tokenizer/internal/tokentest"
	"microrwkv/tokenizer/internal/vocab"
)

func mustGPT2(t testing.TB) *gpt2 {
	tok, err := Tokenizer()
	if err != nil {
		t.Fatal(err)
	}
	return tok.(*gpt2)
}

func TestGPT2(t *testing.T) {
	tok := mustGPT2(t)
	tokentest.Test(t, tok, "testdata/gpt2.json")
	tokentest.Outside(t, tok)
	if tok.VocabSize() != 50257 || tok.EndOfText() != 50256 || tok.Decode([]int{1110, 50256}) != " day<|endoftext|>" {
		t.Errorf("VocabSize %d, EndOfText %d", tok.VocabSize(), tok.EndOfText())
	}
	if ids, _ := tok.Encode("a\xe6\x97z"); tok.Decode(ids) != "a\ufffd\ufffdz" {
		t.Errorf("invalid UTF-8 became %q", tok.Decode(ids))
	}
}

// TestGPT2Ranks restores the file that the embedded ranks were made from; tiktoken checks the same sum.
func TestGPT2Ranks(t *testing.T) {
	tok := mustGPT2(t)
	sum := sha256.New()
	for id := range endOfText {
		fmt.Fprintf(sum, "%s %d\n", base64.StdEncoding.EncodeToString([]byte(tok.Token(id))), id)
	}
	if got := fmt.Sprintf("%x", sum.Sum(nil)); got != "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930" {
		t.Errorf("r50k_base.tiktoken has SHA-256 %s", got)
	}
}

// reference is tiktoken-go with the same ranks.
var reference = sync.OnceValue(func() *tiktoken.Tiktoken {
	v := vocab.Unpack(packed, 0)
	ranks := map[string]int{}
	for id := range v.VocabSize() {
		ranks[v.Token(id)] = id
	}
	core, err := tiktoken.NewCoreBPE(ranks, map[string]int{}, pattern)
	if err != nil {
		panic(err)
	}
	return tiktoken.NewTiktoken(core, nil, nil)
})

func sameAsTiktoken(t *testing.T, text string) {
	t.Helper()
	got, err := mustGPT2(t).Encode(text)
	if want := reference().EncodeOrdinary(text); err != nil || !slices.Equal(got, want) {
		t.Fatalf("Encode(%.300q) = %v, %v, tiktoken-go has %v", text, got, err, want)
	}
}

// TestGPT2Classes compares how pieceLen and tiktoken-go's regular expression class every character
// of the basic plane, every letter and number, and some of the rest.
func TestGPT2Classes(t *testing.T) {
	var text strings.Builder
	n := 0
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if !utf8.ValidRune(r) || r > 0xFFFF && !unicode.IsLetter(r) && !unicode.IsNumber(r) && r%97 != 0 {
			continue
		}
		fmt.Fprintf(&text, "a%c1%c %c ", r, r, r)
		if n++; n%64 == 0 {
			sameAsTiktoken(t, text.String())
			text.Reset()
		}
	}
	sameAsTiktoken(t, text.String())
}

// randomText joins n strings that pattern treats in different ways.
func randomText(rng *rand.Rand, n int) string {
	alphabet := []string{" ", " ", "  ", "\n", "\n\n", "\t", "\r\n", "\u00a0", "\u3000", "\u2028", "a", "the", "Of", "é", "日本", "ſ",
		"1", "2024", "²", "Ⅷ", "'", "'s", "'LL", "'ll", "'re", "'r", "!", "--", "—", "\U0001f469\u200d\U0001f469", "e\u0301", "\ufffd",
		"\x00", "<|endoftext|>", "aaaa", "----", "\n\n\n\n"}
	var text strings.Builder
	for range n {
		text.WriteString(alphabet[rng.IntN(len(alphabet))])
	}
	return text.String()
}

// TestGPT2Pieces has pieces on both sides of the length from which they are merged in another way.
func TestGPT2Pieces(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	tok := mustGPT2(t)
	for range 2000 {
		text := randomText(rng, rng.IntN(40))
		sameAsTiktoken(t, text)
		if ids, _ := tok.Encode(text); tok.Decode(ids) != text {
			t.Fatalf("Decode(Encode(%q)) = %q", text, tok.Decode(ids))
		}
	}
	letters := []string{"a", "b", "th", "e", "é", "日", "本", "語", "ing"}
	for n := range 200 { // one piece
		var text strings.Builder
		for text.Len() < n {
			text.WriteString(letters[rng.IntN(len(letters))])
		}
		sameAsTiktoken(t, text.String())
	}
	sameAsTiktoken(t, randomText(rng, 30_000))
	sameAsTiktoken(t, "x \n"+strings.Repeat("ab", 500)+"\n \n"+strings.Repeat("-\n", 1500)+" "+strings.Repeat("\n", 1000)+"b")
}

// TestGPT2LongPieces encodes what would take tiktoken-go's merge many minutes.
func TestGPT2LongPieces(t *testing.T) {
	tok := mustGPT2(t)
	for _, s := range []string{"ab", "\n", "é", "-=", "0123456789"} {
		text := strings.Repeat(s, 1<<20/len(s))
		ids, err := tok.Encode(text)
		if err != nil || len(ids) == 0 || tok.Decode(ids) != text {
			t.Errorf("%d times %q: %d ids, %v", 1<<20/len(s), s, len(ids), err)
		}
	}
}

func FuzzGPT2RoundTrip(f *testing.F) {
	for _, c := range tokentest.Goldens(f, "testdata/gpt2.json") {
		f.Add(c.Text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		g := mustGPT2(t)
		sameAsTiktoken(t, text)
		ids, _ := g.Encode(text)
		if want := string([]rune(text)); g.Decode(ids) != want {
			t.Fatalf("Decode(Encode(%q)) = %q", text, g.Decode(ids))
		}
	})
}

func ExampleTokenizer() {
	tok, err := Tokenizer()
	if err != nil {
		panic(err)
	}
	ids, err := tok.Encode("One day")
	fmt.Println(ids, err)
	fmt.Printf("%q\n", tok.Decode(append(ids, tok.EndOfText(), 50300))) // the last is padding
	// Output:
	// [3198 1110] <nil>
	// "One day<|endoftext|>"
}

// BenchmarkInit is what the first call of Tokenizer costs.
func BenchmarkInit(b *testing.B) {
	for b.Loop() {
		newGPT2()
	}
}

// BenchmarkEncode is MB/s of texts of three kinds; testdata/bench_tiktoken.py measures tiktoken on the same.
func BenchmarkEncode(b *testing.B) {
	tok := mustGPT2(b)
	for kind, file := range map[string]string{"chinese": "testdata/bench_chinese.txt", "code": "gpt2_test.go", "english": "../../LICENSE"} {
		text, err := os.ReadFile(file)
		if err != nil {
			b.Fatal(err)
		}
		for len(text) < 1<<20 {
			text = append(text, text...)
		}
		b.Run("text="+kind, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				if _, err := tok.Encode(string(text)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
