package tokenizer

import "errors"

// BytePairs is a vocabulary of byte-level BPE as a table, which files keep tokenizers in.
type BytePairs struct {
	// Tokens are spelled by id as such files do: printable characters of Latin-1 stand for their bytes, those
	// from U+0100 on for the others; text as it is for added and special tokens. "" is an id without a token.
	Tokens []string
	Types  []TokenType
	// Merges are "left right", the first before all others.
	Merges []string
	// Pattern names what cuts a text into pieces, as llama.cpp does: gpt-2, qwen2, or llama-bpe, in which
	// pieces that are tokens are these whatever the merges say.
	Pattern   string
	NFC       bool // text is normalized first
	EndOfText int  // −1 for none
}

// TokenType says what a token of BytePairs is.
type TokenType int

// The types of tokens.
const (
	Normal  TokenType = iota // made by merging
	Special                  // its name in a text stands for it; it decodes to nothing
	Added                    // cut out of the text before the merging
)

// BytePairer is a Tokenizer that is made of BytePairs.
type BytePairer interface {
	// BytePairs returns the table; ok is false for a tokenizer that it can't express.
	BytePairs() (p *BytePairs, ok bool)
}

// newBytePairs makes a tokenizer of a table, if there is a package for that in the program.
var newBytePairs func(p *BytePairs) (Tokenizer, error)

// RegisterBytePairs makes known how a tokenizer is made of BytePairs. Package bpe calls it in its init.
func RegisterBytePairs(make func(p *BytePairs) (Tokenizer, error)) {
	registryLock.Lock()
	defer registryLock.Unlock()
	newBytePairs = make
}

// OfBytePairs returns the tokenizer of a table. If the package that makes it isn't imported, the error names
// it.
func OfBytePairs(p *BytePairs) (Tokenizer, error) {
	registryLock.RLock()
	make := newBytePairs
	registryLock.RUnlock()
	if make == nil {
		return nil, errors.New("what does byte-level BPE isn't in this program: import _ \"microrwkv/tokenizer/bpe\"")
	}
	return make(p)
}
