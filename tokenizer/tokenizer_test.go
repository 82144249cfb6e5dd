package tokenizer_test

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"microrwkv/tokenizer"
	_ "microrwkv/tokenizer/gpt2"
	_ "microrwkv/tokenizer/world"
)

// TestEndOfTextIsText encodes the name of the special token as the text that it is, for all
// tokenizers that can spell it.
func TestEndOfTextIsText(t *testing.T) {
	for name, tok := range map[string]tokenizer.Tokenizer{"gpt2": open(t, "gpt2"), "world": open(t, "world")} {
		for _, text := range []string{tokenizer.EndOfTextName, "a" + tokenizer.EndOfTextName + "b", " " + tokenizer.EndOfTextName, tokenizer.EndOfTextName + "\n", "<|endoftext", "endoftext|>"} {
			ids, err := tok.Encode(text)
			if err != nil || len(ids) < 2 || slices.Contains(ids, tok.EndOfText()) || tok.Decode(ids) != text {
				t.Errorf("%s: Encode(%q) = %v, %v", name, text, ids, err)
			}
		}
	}
}

func TestEncodeSpecial(t *testing.T) {
	gpt2, world := open(t, "gpt2"), open(t, "world")
	char, err := tokenizer.Char("testdata/meta_p4.pkl")
	if err != nil {
		t.Fatal(err)
	}
	for _, tok := range []tokenizer.Tokenizer{gpt2, world, char} {
		for _, text := range []string{"", "First one.", "a" + tokenizer.EndOfTextName[1:]} {
			want, wantErr := tok.Encode(text)
			got, err := tokenizer.EncodeSpecial(tok, text)
			if !slices.Equal(got, want) || (err == nil) != (wantErr == nil) {
				t.Errorf("%T: tokenizer.EncodeSpecial(%q) = %v, %v, want %v, %v", tok, text, got, err, want, wantErr)
			}
		}
	}
	for _, tok := range []tokenizer.Tokenizer{gpt2, world} {
		encode := func(text string) []int {
			ids, err := tok.Encode(text)
			if err != nil {
				t.Fatal(err)
			}
			return ids
		}
		end := []int{tok.EndOfText()}
		for text, want := range map[string][]int{
			"#":       end,
			"##":      slices.Concat(end, end),
			"One. #":  slices.Concat(encode("One. "), end),
			"#\nTwo.": slices.Concat(end, encode("\nTwo.")),
			"a#b##":   slices.Concat(encode("a"), end, encode("b"), end, end),
		} {
			text = strings.ReplaceAll(text, "#", tokenizer.EndOfTextName)
			if got, err := tokenizer.EncodeSpecial(tok, text); err != nil || !slices.Equal(got, want) {
				t.Errorf("%T: tokenizer.EncodeSpecial(%q) = %v, %v, want %v", tok, text, got, err, want)
			}
		}
	}
	if ids, err := tokenizer.EncodeSpecial(char, tokenizer.EndOfTextName); err == nil || !strings.Contains(err.Error(), tokenizer.EndOfTextName) {
		t.Errorf("without such a token: %v, %v", ids, err)
	}
	ended := fake{char}
	var unknown *tokenizer.UnknownRuneError
	if _, err := tokenizer.EncodeSpecial(ended, tokenizer.EndOfTextName+"a\u2603"); !errors.As(err, &unknown) || unknown.Offset != len(tokenizer.EndOfTextName)+1 || unknown.Rune != '\u2603' {
		t.Errorf("unknown character: %v", err)
	}
}

// fake is a tokenizer with another end of text.
type fake struct{ tokenizer.Tokenizer }

func (fake) EndOfText() int { return 0 }

func open(t testing.TB, name string) tokenizer.Tokenizer {
	t.Helper()
	tok, err := tokenizer.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// TestLookupHints: each tokenizer's package is found, or named by the error that it isn't imported.
func TestLookupHints(t *testing.T) {
	register := regexp.MustCompile(`tokenizer\.Register\("(\w+)"`)
	names := map[string]bool{}
	files, err := filepath.Glob("*/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range register.FindAllSubmatch(source, -1) {
			name := string(m[1])
			names[name] = true
			want := `"microrwkv/tokenizer/` + filepath.Dir(file) + `"`
			if _, err := tokenizer.Lookup(name); err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("Lookup(%q): %v, want the import of %s", name, err, want)
			}
		}
	}
	if len(names) < 3 {
		t.Errorf("found %v", names)
	}
}

func TestOpen(t *testing.T) {
	if _, err := tokenizer.Open("testdata/meta_p4.pkl"); err != nil {
		t.Error(err)
	}
	if _, err := tokenizer.Open("gtp2"); err == nil || !strings.Contains(err.Error(), "gpt2, world") {
		t.Errorf("error %v", err)
	}
	for name, want := range map[string]map[int]bool{
		"gpt2":  {50256: false, 50257: true, 50300: false, 50304: true, 50432: true, 51200: true, 51201: false, 4146: false, 65536: false},
		"world": {65529: false, 65530: true, 65536: true, 50304: false, 66560: false},
	} {
		e, err := tokenizer.Lookup(name)
		if err != nil {
			t.Fatal(err)
		}
		tok := open(t, name)
		if e.VocabSize != tok.VocabSize() || e.EndOfText != tok.EndOfText() {
			t.Errorf("%s: registered as %+v, has %d ids, ends by %d", name, e, tok.VocabSize(), tok.EndOfText())
		}
		for ids, fits := range want {
			if e.Fits(ids) != fits {
				t.Errorf("%s for %d ids: fits %v", name, ids, !fits)
			}
		}
	}
}
