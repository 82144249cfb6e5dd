// Package world is the tokenizer of the official RWKV models from World on. Who imports it can open it
// by its name, "world", as tokenizer.Open and rwkv.Model.Tokenizer do:
//
//	import _ "microrwkv/tokenizer/world"
package world

import (
	_ "embed"
	"sync"

	"microrwkv/tokenizer"
	"microrwkv/tokenizer/internal/greedy"
	"microrwkv/tokenizer/internal/vocab"
)

//go:embed world.vocab
var packed string

func init() { tokenizer.Register("world", 65530, 0, Tokenizer) }

// Tokenizer returns the tokenizer of the official RWKV models, the World vocabulary of 2023-04-24. From
// the left, the longest token that the text starts with is taken. All single bytes are tokens, so
// any bytes, UTF-8 or not, encode and decode to themselves.
//
// Ids run from 1 to 65529. Id 0 ends a document and stands for no bytes; the models' vocabulary is
// padded to 65536.
//
// The first call takes some 10 ms.
func Tokenizer() (tokenizer.Tokenizer, error) { return once(), nil }

var once = sync.OnceValue(newWorld)

type world struct {
	vocab.Vocab
	trie *greedy.Trie
}

func newWorld() *world {
	w := &world{Vocab: vocab.Unpack(packed, 1)}
	w.trie = greedy.New(&w.Vocab)
	return w
}

// EndOfText implements tokenizer.Tokenizer.
func (w *world) EndOfText() int { return 0 }

// Encode never fails.
func (w *world) Encode(text string) ([]int, error) {
	ids := make([]int, 0, len(text)/3+1)
	for len(text) > 0 {
		id, n := w.trie.Longest(text)
		ids, text = append(ids, id), text[n:]
	}
	return ids, nil
}
