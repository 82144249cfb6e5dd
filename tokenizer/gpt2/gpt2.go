// Package gpt2 is the tokenizer of GPT-2. Who imports it can open it by its name, "gpt2", as
// tokenizer.Open and rwkv.Model.Tokenizer do:
//
//	import _ "microrwkv/tokenizer/gpt2"
//
// Its ids are tiktoken's for r50k_base, with which the tests compare it; the splitting and the merging
// are this project's, several times as fast as a regular expression.
package gpt2

import (
	_ "embed"
	"sync"
	"unicode/utf8"

	"microrwkv/tokenizer"
	"microrwkv/tokenizer/internal/bpe"
	"microrwkv/tokenizer/internal/vocab"
)

const endOfText = 50256

//go:embed gpt2.vocab
var packed string

func init() { tokenizer.Register("gpt2", endOfText+1, endOfText, Tokenizer) }

// Tokenizer returns the tokenizer of GPT-2: 50257 ids, of which 50256 is <|endoftext|>, the end of a
// document. That one decodes to its name, as it does in tiktoken, but no text encodes to it. Encode
// reads invalid UTF-8 as Go's range does, each bad byte as U+FFFD; for valid text
// Decode(Encode(text)) is text.
//
// The first call takes some 40 ms.
func Tokenizer() (tokenizer.Tokenizer, error) { return once() }

var once = sync.OnceValues(func() (tokenizer.Tokenizer, error) { return newGPT2(), nil })

type gpt2 struct {
	vocab.Vocab
	merges *bpe.Merges
}

func newGPT2() *gpt2 {
	g := &gpt2{Vocab: vocab.Unpack(packed, 0)}
	ranks := make(map[string]int, g.VocabSize()) // by the bytes of the token; a token's rank is its id
	for id := range g.VocabSize() {
		ranks[g.Token(id)] = id
	}
	g.merges = bpe.Ranked(ranks)
	g.Add(tokenizer.EndOfTextName)
	return g
}

// EndOfText implements tokenizer.Tokenizer.
func (g *gpt2) EndOfText() int { return endOfText }

// Encode encodes each piece alone. A piece alone splits no further than in the text: only runs of
// spaces look at what follows them, and one at the end of a text stays whole.
func (g *gpt2) Encode(text string) ([]int, error) {
	if !utf8.ValidString(text) {
		text = string([]rune(text))
	}
	ids := make([]int, 0, len(text)/3+1)
	for len(text) > 0 {
		n := pieceLen(text)
		ids = g.merges.Append(ids, text[:n])
		text = text[n:]
	}
	return ids, nil
}
