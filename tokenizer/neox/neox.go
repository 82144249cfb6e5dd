// Package neox is the tokenizer of GPT-NeoX-20B, which the Pile and Raven models of RWKV-4 have. Who
// imports it can open it by its name, "neox", as tokenizer.Open and rwkv.Model.Tokenizer do:
//
//	import _ "microrwkv/tokenizer/neox"
package neox

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"io"
	"sync"

	"microrwkv/tokenizer"
	"microrwkv/tokenizer/bpe"
)

// The tokenizer.json of EleutherAI/gpt-neox-20b, without its white space.
//
//go:generate go run gen.go 20B_tokenizer.json
//go:embed tokenizer.json.gz
var packed []byte

func init() { tokenizer.Register("neox", 50277, 0, Tokenizer) }

// Tokenizer returns the tokenizer: 50277 ids, of which 0 is <|endoftext|>, the end of a document, and 1
// <|padding|>. Both are those tokens where a text has their names, and decode to nothing. Runs of 2 to 24
// blanks are tokens of their own. Text is normalized to NFC, so that Decode(Encode(text)) may be another
// spelling of it.
//
// The first call takes some 100 ms.
func Tokenizer() (tokenizer.Tokenizer, error) { return once() }

var once = sync.OnceValues(func() (tokenizer.Tokenizer, error) {
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(z)
	if err != nil {
		return nil, err
	}
	return bpe.Parse(data)
})
