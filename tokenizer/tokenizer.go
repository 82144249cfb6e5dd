// Package tokenizer turns text into token ids and back.
//
// Packages tokenizer/gpt2, tokenizer/world and tokenizer/neox embed the vocabularies of GPT-2 and of the
// official RWKV models; who imports one can [Open] it by its name. Package tokenizer/bpe reads the
// tokenizer.json that other models have beside them, [Char] the character vocabulary that
// nanoGPT's data scripts leave in meta.pkl. All are safe for concurrent use.
//
// A token is a piece of bytes, not of text: a character may be spread over several tokens. Text that
// is shown while it is generated goes through a [Decoder], which gives whole characters only.
package tokenizer

import (
	"errors"
	"fmt"
	"strings"
)

// A Tokenizer maps text to ids and ids to text.
type Tokenizer interface {
	// Encode returns the ids of text; an empty text has none. Names of special tokens in the text
	// are ordinary text, unless [EncodeSpecial] is asked, or the tokenizer is one of package bpe, which
	// does as Hugging Face's library. Only a character vocabulary fails: see
	// [UnknownRuneError].
	Encode(text string) ([]int, error)

	// Decode returns the bytes of all ids, joined. They are valid UTF-8 only if the ids, as a
	// whole, are: a [Decoder] replaces what isn't. Ids outside the vocabulary, such as those a
	// model's padded vocabulary adds, and negative ones give nothing.
	Decode(ids []int) string

	// AppendToken appends the bytes of one id to dst, as Decode does, and returns the result. It
	// allocates nothing when dst has room.
	AppendToken(dst []byte, id int) []byte

	// VocabSize is one more than the largest id. A model's vocabulary may be padded beyond it.
	VocabSize() int

	// EndOfText is the id that ends a document, or -1 if the vocabulary has none.
	EndOfText() int
}

// EndOfTextName is how the token that ends a document is spelled where texts are joined, as in the
// data that GPT-2 was trained on.
const EndOfTextName = "<|endoftext|>"

// EncodeSpecial is Encode for a text in which each [EndOfTextName] stands for the token that ends a
// document, whatever the vocabulary calls that. It is for text that the program itself wrote: what
// users write can contain the name by chance or by malice. A vocabulary without such a token gives an
// error if the name occurs.
func EncodeSpecial(tok Tokenizer, text string) ([]int, error) {
	var ids []int
	offset := 0
	for {
		part, rest, found := strings.Cut(text[offset:], EndOfTextName)
		more, err := tok.Encode(part)
		if unknown := (*UnknownRuneError)(nil); errors.As(err, &unknown) {
			return nil, &UnknownRuneError{unknown.Rune, offset + unknown.Offset}
		}
		if err != nil {
			return nil, err
		}
		ids = append(ids, more...)
		if !found {
			return ids, nil
		}
		end := tok.EndOfText()
		if end < 0 {
			return nil, fmt.Errorf("%s at byte %d: the vocabulary has no such token", EndOfTextName, offset+len(part))
		}
		ids = append(ids, end)
		offset = len(text) - len(rest)
	}
}

// UnknownRuneError is the error of Encode for text that a character vocabulary cannot spell.
type UnknownRuneError struct {
	Rune   rune // utf8.RuneError if the text isn't UTF-8 there
	Offset int  // in bytes
}

// Error names the character and its place.
func (e *UnknownRuneError) Error() string {
	return fmt.Sprintf("character %q (%U) at byte %d is not in the vocabulary", e.Rune, e.Rune, e.Offset)
}
