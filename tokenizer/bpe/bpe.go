// Package bpe reads the tokenizer.json of Hugging Face's tokenizers library: byte-level BPE (Radford et
// al., "Language Models are Unsupervised Multitask Learners"), as the models of GPT-2, GPT-NeoX, Llama 3
// and Qwen have it. Who imports it can open such a file as tokenizer.Open and rwkv.Model.Tokenizer do:
//
//	import _ "microrwkv/tokenizer/bpe"
//
// Ids are exactly the library's, or the file is refused with an error that names what isn't supported.
package bpe

import (
	"math"
	"sync"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"microrwkv/tokenizer"
)

func init() { tokenizer.RegisterJSON(Open) }

// bpe is a tokenizer.
type bpe struct {
	tokens    []string // by id, their bytes; "" for special ones and ids that there are none of
	endOfText int
	bytes     [256]int32 // ids of the single bytes, −1 for none
	merges    map[pair]merge
	whole     map[string]int32 // pieces that are tokens as they are, whatever the merges say; or nil
	raw       *names           // added tokens that are cut out of the text as it is
	normal    *names           // and out of the normalized one
	nfc       bool
	split     func(text string) int
	room      sync.Pool // of *merger
}

// pair is two neighbours.
type pair struct{ left, right int32 }

// merge is what two neighbours become; of several, that of the lowest rank comes first.
type merge struct{ rank, id int32 }

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
	m, _ := b.room.Get().(*merger)
	if m == nil {
		m = &merger{}
	}
	m.ids = make([]int, 0, len(text)/3+1)
	b.raw.cut(text, m.add, func(part string) {
		if b.nfc && !norm.NFC.IsNormalString(part) {
			part = norm.NFC.String(part)
		}
		b.normal.cut(part, m.add, func(part string) {
			for len(part) > 0 {
				n := b.split(part)
				b.encodePiece(m, part[:n])
				part = part[n:]
			}
		})
	})
	ids := m.ids
	m.ids = nil
	b.room.Put(m)
	return ids, nil
}

// merger is the scratch of Encode: a piece's symbols in a linked list, and the pairs that can be merged.
type merger struct {
	ids        []int
	symbols    []int32
	next, prev []int32
	pairs      heap
}

func (m *merger) add(id int) { m.ids = append(m.ids, id) }

// encodePiece appends the ids of a piece: of all neighbours the pair of the lowest rank is merged, the
// leftmost of equals, until none can be. O(n log n).
func (b *bpe) encodePiece(m *merger, piece string) {
	if id, ok := b.whole[piece]; ok {
		m.add(int(id))
		return
	}
	m.symbols, m.next, m.prev, m.pairs = m.symbols[:0], m.next[:0], m.prev[:0], m.pairs[:0]
	for i := range len(piece) {
		if id := b.bytes[piece[i]]; id >= 0 { // the library drops what it has no token for
			n := int32(len(m.symbols))
			m.symbols, m.next, m.prev = append(m.symbols, id), append(m.next, n+1), append(m.prev, n-1)
		}
	}
	n := int32(len(m.symbols))
	if n == 0 {
		return
	}
	m.next[n-1] = -1
	for i := range n - 1 {
		b.offer(m, i)
	}
	for len(m.pairs) > 0 {
		p := m.pairs.pop()
		i := int32(p & math.MaxUint32)
		if m.symbols[i] < 0 || m.next[i] < 0 {
			continue // merged into the one before, or the last by now
		}
		right := m.next[i]
		found, ok := b.merges[pair{m.symbols[i], m.symbols[right]}]
		if !ok || uint64(found.rank) != p>>32 {
			continue // one of the two has been merged since
		}
		m.symbols[i], m.symbols[right] = found.id, -1
		if m.next[i] = m.next[right]; m.next[i] >= 0 {
			m.prev[m.next[i]] = i
			b.offer(m, i)
		}
		if m.prev[i] >= 0 {
			b.offer(m, m.prev[i])
		}
	}
	for i := int32(0); i >= 0; i = m.next[i] {
		m.add(int(m.symbols[i]))
	}
}

// offer notes that symbol i and the one after it can be merged, if they can.
func (b *bpe) offer(m *merger, i int32) {
	if found, ok := b.merges[pair{m.symbols[i], m.symbols[m.next[i]]}]; ok {
		m.pairs.push(uint64(found.rank)<<32 | uint64(i))
	}
}

// heap is a binary heap of ranks and, in the low 32 bits, places, with the least first.
type heap []uint64

func (h *heap) push(p uint64) {
	*h = append(*h, p)
	s := *h
	i := len(s) - 1
	for i > 0 && p < s[(i-1)/2] {
		s[i] = s[(i-1)/2]
		i = (i - 1) / 2
	}
	s[i] = p
}

func (h *heap) pop() uint64 {
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
