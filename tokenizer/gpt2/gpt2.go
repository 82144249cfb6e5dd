// Package gpt2 is the tokenizer of GPT-2. Who imports it can open it by its name, "gpt2", as
// tokenizer.Open and rwkv.Model.Tokenizer do:
//
//	import _ "microrwkv/tokenizer/gpt2"
//
// It splits text with tiktoken-go, which links net/http.
package gpt2

import (
	_ "embed"
	"math"
	"sync"
	"unicode/utf8"

	"github.com/pkoukk/tiktoken-go"

	"microrwkv/tokenizer"
	"microrwkv/tokenizer/internal/vocab"
)

const (
	endOfText = 50256

	// pattern is what tiktoken calls r50k_base; pieceLen is the same in Go.
	pattern = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`

	// maxPiece is the longest piece, in bytes, that is left to tiktoken-go: its merge takes time
	// quadratic in the piece, half a second for 40,000 letters without a space.
	maxPiece = 512
)

//go:embed gpt2.vocab
var packed string

func init() { tokenizer.Register("gpt2", endOfText+1, endOfText, Tokenizer) }

// Tokenizer returns the tokenizer of GPT-2: 50257 ids, of which 50256 is <|endoftext|>, the end of a
// document. That one decodes to its name, as it does in tiktoken, but no text encodes to it. Encode
// reads invalid UTF-8 as Go's range does, each bad byte as U+FFFD; for valid text
// Decode(Encode(text)) is text.
//
// The first call takes some 20 ms.
func Tokenizer() (tokenizer.Tokenizer, error) { return once() }

var once = sync.OnceValues(func() (tokenizer.Tokenizer, error) { return newGPT2() })

type gpt2 struct {
	vocab.Vocab
	ranks    map[string]int // by the bytes of the token; a token's rank is its id
	bpe      *tiktoken.Tiktoken
	maxPiece int
}

func newGPT2() (*gpt2, error) {
	g := &gpt2{Vocab: vocab.Unpack(packed, 0), maxPiece: maxPiece}
	g.ranks = make(map[string]int, g.VocabSize())
	for id := range g.VocabSize() {
		g.ranks[g.Token(id)] = id
	}
	g.Add(tokenizer.EndOfTextName)

	core, err := tiktoken.NewCoreBPE(g.ranks, map[string]int{tokenizer.EndOfTextName: endOfText}, pattern)
	if err != nil {
		return nil, err
	}
	g.bpe = tiktoken.NewTiktoken(core, nil, nil)
	return g, nil
}

// EndOfText implements tokenizer.Tokenizer.
func (g *gpt2) EndOfText() int { return endOfText }

// Encode looks each piece up, since most are tokens, and gives tiktoken-go those that aren't, but
// merges by itself pieces beyond maxPiece. A piece alone splits no further than in the text: only
// runs of spaces look at what follows them, and one at the end of a text stays whole.
func (g *gpt2) Encode(text string) ([]int, error) {
	if !utf8.ValidString(text) {
		text = string([]rune(text))
	}
	ids := make([]int, 0, len(text)/3+1)
	for len(text) > 0 {
		n := pieceLen(text)
		piece := text[:n]
		text = text[n:]
		if id, ok := g.ranks[piece]; ok {
			ids = append(ids, id)
		} else if n > g.maxPiece {
			ids = g.appendPiece(ids, piece)
		} else {
			ids = append(ids, g.bpe.EncodeOrdinary(piece)...)
		}
	}
	return ids, nil
}

// appendPiece appends the ids of one piece: of all neighbours whose joined bytes are a token, the
// pair of lowest rank is joined, the leftmost of equals, until none is left. O(n log n).
func (g *gpt2) appendPiece(ids []int, piece string) []int {
	// The parts are a linked list over their first bytes: part i is piece[i:next[i]]. The one that
	// starts at len(piece) is empty.
	n := len(piece)
	next, prev := make([]int32, n+1), make([]int32, n+1)
	for i := range next {
		next[i], prev[i] = int32(i+1), int32(i-1)
	}
	rank := func(i int32) (int, bool) { // of part i joined with the one after it
		if i < 0 || int(next[i]) >= n {
			return 0, false
		}
		r, ok := g.ranks[piece[i:next[next[i]]]]
		return r, ok
	}
	var pairs pairHeap
	offer := func(i int32) {
		if r, ok := rank(i); ok {
			pairs.push(pair(r)<<32 | pair(i))
		}
	}
	for i := range int32(n) {
		offer(i)
	}
	for len(pairs) > 0 {
		p := pairs.pop()
		i := int32(p & math.MaxUint32)
		if next[i] == 0 { // part i was joined to the one before it
			continue
		}
		if r, ok := rank(i); !ok || pair(r) != p>>32 { // part i or the one after it has grown
			continue
		}
		gone := next[i]
		next[i] = next[gone]
		prev[next[i]] = i
		next[gone] = 0
		offer(i)
		offer(prev[i])
	}
	for i := 0; i < n; i = int(next[i]) {
		ids = append(ids, g.ranks[piece[i:next[i]]])
	}
	return ids
}

// pair is a candidate of appendPiece: the rank in the high 32 bits, the position in the low.
type pair uint64

// pairHeap is a binary heap with the least pair first.
type pairHeap []pair

func (h *pairHeap) push(p pair) {
	*h = append(*h, p)
	s := *h
	i := len(s) - 1
	for i > 0 && p < s[(i-1)/2] {
		s[i] = s[(i-1)/2]
		i = (i - 1) / 2
	}
	s[i] = p
}

func (h *pairHeap) pop() pair {
	s := *h
	least, last := s[0], s[len(s)-1]
	s = s[:len(s)-1]
	*h = s
	for i := 0; len(s) > 0; {
		child := 2*i + 1
		if child+1 < len(s) && s[child+1] < s[child] {
			child++
		}
		if child >= len(s) || last <= s[child] {
			s[i] = last
			break
		}
		s[i] = s[child]
		i = child
	}
	return least
}
