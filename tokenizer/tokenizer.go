// Package tokenizer turns text into token ids and back.
//
// [GPT2] is the byte-pair encoding of GPT-2, [World] that of the official RWKV models, both embedded
// and built once, on first use. [Char] reads the character vocabulary that nanoGPT's data scripts
// leave in meta.pkl. All are safe for concurrent use.
//
// A token is a piece of bytes, not of text: a character may be spread over several tokens. Text that
// is shown while it is generated goes through a [Decoder], which gives whole characters only.
package tokenizer

import "fmt"

// A Tokenizer maps text to ids and ids to text.
type Tokenizer interface {
	// Encode returns the ids of text; an empty text has none. Names of special tokens in the text
	// are ordinary text. Only a character vocabulary fails: see [UnknownRuneError].
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

// UnknownRuneError is the error of Encode for text that a character vocabulary cannot spell.
type UnknownRuneError struct {
	Rune   rune // utf8.RuneError if the text isn't UTF-8 there
	Offset int  // in bytes
}

func (e *UnknownRuneError) Error() string {
	return fmt.Sprintf("character %q (%U) at byte %d is not in the vocabulary", e.Rune, e.Rune, e.Offset)
}
