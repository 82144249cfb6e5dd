package tokenizer

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// TestEndOfTextIsText encodes the name of the special token as the text that it is, for all
// tokenizers that can spell it.
func TestEndOfTextIsText(t *testing.T) {
	for name, tok := range map[string]Tokenizer{"gpt2": mustGPT2(t), "world": mustWorld(t)} {
		for _, text := range []string{EndOfTextName, "a" + EndOfTextName + "b", " " + EndOfTextName, EndOfTextName + "\n", "<|endoftext", "endoftext|>"} {
			ids, err := tok.Encode(text)
			if err != nil || len(ids) < 2 || slices.Contains(ids, tok.EndOfText()) || tok.Decode(ids) != text {
				t.Errorf("%s: Encode(%q) = %v, %v", name, text, ids, err)
			}
		}
	}
}

func TestEncodeSpecial(t *testing.T) {
	gpt2, world := mustGPT2(t), mustWorld(t)
	char, err := Char("testdata/meta_p4.pkl")
	if err != nil {
		t.Fatal(err)
	}
	for _, tok := range []Tokenizer{gpt2, world, char} {
		for _, text := range []string{"", "First one.", "a" + EndOfTextName[1:]} {
			want, wantErr := tok.Encode(text)
			got, err := EncodeSpecial(tok, text)
			if !slices.Equal(got, want) || (err == nil) != (wantErr == nil) {
				t.Errorf("%T: EncodeSpecial(%q) = %v, %v, want %v, %v", tok, text, got, err, want, wantErr)
			}
		}
	}
	for _, tok := range []Tokenizer{gpt2, world} {
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
			text = strings.ReplaceAll(text, "#", EndOfTextName)
			if got, err := EncodeSpecial(tok, text); err != nil || !slices.Equal(got, want) {
				t.Errorf("%T: EncodeSpecial(%q) = %v, %v, want %v", tok, text, got, err, want)
			}
		}
	}
	if ids, err := EncodeSpecial(char, EndOfTextName); err == nil || !strings.Contains(err.Error(), EndOfTextName) {
		t.Errorf("without such a token: %v, %v", ids, err)
	}
	ended := fake{char}
	var unknown *UnknownRuneError
	if _, err := EncodeSpecial(ended, EndOfTextName+"a\u2603"); !errors.As(err, &unknown) || unknown.Offset != len(EndOfTextName)+1 || unknown.Rune != '\u2603' {
		t.Errorf("unknown character: %v", err)
	}
}

// fake is a tokenizer with another end of text.
type fake struct{ Tokenizer }

func (fake) EndOfText() int { return 0 }
