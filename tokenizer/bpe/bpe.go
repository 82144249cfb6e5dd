// Package bpe reads the tokenizer.json of Hugging Face's tokenizers library: byte-level BPE (Radford et
// al., "Language Models are Unsupervised Multitask Learners"), as the models of GPT-2, GPT-NeoX, Llama 3
// and Qwen have it. Who imports it can open such a file as tokenizer.Open and rwkv.Model.Tokenizer do:
//
//	import _ "microrwkv/tokenizer/bpe"
//
// Ids are exactly the library's, or the file is refused with an error that names what isn't supported.
package bpe

import (
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"microrwkv/tokenizer"
	bytepair "microrwkv/tokenizer/internal/bpe"
)

func init() {
	tokenizer.RegisterJSON(Open)
	tokenizer.RegisterBytePairs(New)
}

// bpe is a tokenizer.
type bpe struct {
	tokens    []string // by id, their bytes; "" for special ones and ids that there are none of
	endOfText int
	merges    *bytepair.Merges
	whole     bool   // pieces that are tokens are these, whatever the merges say
	raw       *names // added tokens that are cut out of the text as it is
	normal    *names // and out of the normalized one
	nfc       bool
	split     func(text string) int
	pattern   string // which expression split is; "" for none of those
}

// VocabSize implements tokenizer.Tokenizer.
func (b *bpe) VocabSize() int { return len(b.tokens) }

// EndOfText implements tokenizer.Tokenizer.
func (b *bpe) EndOfText() int { return b.endOfText }

// Decode implements tokenizer.Tokenizer. Special tokens give nothing.
func (b *bpe) Decode(ids []int) string {
	var text []byte
	for _, id := range ids {
		text = b.AppendToken(text, id)
	}
	return string(text)
}

// AppendToken implements tokenizer.Tokenizer.
func (b *bpe) AppendToken(dst []byte, id int) []byte {
	if id < 0 || id >= len(b.tokens) {
		return dst
	}
	return append(dst, b.tokens[id]...)
}

// Encode implements tokenizer.Tokenizer. Names of added tokens, special ones among them, are those
// tokens wherever they occur, as in the library. Invalid UTF-8 is read as Go's range does, each bad byte
// as U+FFFD. It never fails.
func (b *bpe) Encode(text string) ([]int, error) {
	if !utf8.ValidString(text) {
		text = string([]rune(text))
	}
	encode := b.merges.Join
	if b.whole {
		encode = b.merges.Append
	}
	ids := make([]int, 0, len(text)/3+1)
	add := func(id int) { ids = append(ids, id) }
	b.raw.cut(text, add, func(part string) {
		if b.nfc && !norm.NFC.IsNormalString(part) {
			part = norm.NFC.String(part)
		}
		b.normal.cut(part, add, func(part string) {
			for len(part) > 0 {
				n := b.split(part)
				ids = encode(ids, part[:n])
				part = part[n:]
			}
		})
	})
	return ids, nil
}

// names is a set of added tokens, as a tree over their bytes. Nil is an empty one.
type names struct {
	id   int // of the token that ends here, −1 for none
	next map[byte]*names
}

// put adds a token.
func (n *names) put(name string, id int) {
	for i := range len(name) {
		after := n.next[name[i]]
		if after == nil {
			after = &names{id: -1, next: map[byte]*names{}}
			n.next[name[i]] = after
		}
		n = after
	}
	n.id = id
}

// cut goes through the text from the left: it calls token for each name, of several that begin at one
// place the longest, and part for what is between them.
func (n *names) cut(text string, token func(id int), part func(text string)) {
	from := 0
	for i := 0; n != nil && i < len(text); {
		id, length := n.longest(text[i:])
		if id < 0 {
			i++
			continue
		}
		if from < i {
			part(text[from:i])
		}
		token(id)
		i += length
		from = i
	}
	if from < len(text) {
		part(text[from:])
	}
}

// longest returns the longest name that text begins with and its length in bytes, −1 if there is none.
func (n *names) longest(text string) (id, length int) {
	id = -1
	for i := range len(text) {
		if n = n.next[text[i]]; n == nil {
			break
		}
		if n.id >= 0 {
			id, length = n.id, i+1
		}
	}
	return id, length
}
