package tokenizer

import (
	"fmt"
	"unicode/utf8"

	"microrwkv/tokenizer/internal/greedy"
	"microrwkv/tokenizer/internal/vocab"
)

// maxLongest is how many ids LongestMatch has room for.
const maxLongest = 1 << 16

// LongestMatch returns the tokenizer that takes, from the left, the longest token that the text starts
// with, as the World vocabulary of the official RWKV models does. Id i is tokens[i]; an empty token is in
// no text. endOfText is the id that ends a document, −1 for none. It is an error if there are more than
// 65536 ids. Encode fails, with an [UnknownRuneError], where no token fits.
func LongestMatch(tokens []string, endOfText int) (Tokenizer, error) {
	if len(tokens) > maxLongest || endOfText < -1 || endOfText >= len(tokens) {
		return nil, fmt.Errorf("a vocabulary of %d tokens, of which %d ends a document: want at most %d", len(tokens), endOfText, maxLongest)
	}
	m := &longestMatch{Vocab: vocab.New(tokens), end: endOfText}
	m.trie = greedy.New(&m.Vocab)
	return m, nil
}

type longestMatch struct {
	vocab.Vocab
	trie *greedy.Trie
	end  int
}

// EndOfText implements Tokenizer.
func (m *longestMatch) EndOfText() int { return m.end }

// Encode implements Tokenizer.
func (m *longestMatch) Encode(text string) ([]int, error) {
	ids := make([]int, 0, len(text)/3+1)
	for at := 0; at < len(text); {
		id, n := m.trie.Longest(text[at:])
		if n == 0 {
			r, _ := utf8.DecodeRuneInString(text[at:])
			return nil, &UnknownRuneError{r, at}
		}
		ids = append(ids, id)
		at += n
	}
	return ids, nil
}
