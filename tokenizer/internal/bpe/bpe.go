// Package bpe is byte pair encoding (Sennrich et al., arXiv:1508.07909) of pieces of bytes: of all
// neighbours that may be joined, the pair of the lowest rank is, the leftmost of equals, until there is
// none.
package bpe

import (
	"cmp"
	"math"
	"slices"
)

// Merges says which pairs of tokens may be joined, to which, and in which order.
type Merges struct {
	bytes [256]int32     // the ids of single bytes, or -1
	whole map[string]int // ids by their bytes
	table []entry        // open addressing by hash of the pair; a power of 2
	used  int
}

// entry is a pair of tokens, with what they become.
type entry struct {
	pair pair
	rank int32
	id   int32
}

// pair is two ids: the left one in the high 32 bits, plus 1, so that 0 is an empty entry.
type pair uint64

func pairOf(left, right int32) pair { return pair(left+1)<<32 | pair(uint32(right)) }

// New returns Merges without any pair. tokens are the ids of all tokens by their bytes; n is about how
// many pairs there will be.
func New(tokens map[string]int, n int) *Merges {
	m := &Merges{whole: tokens}
	size := 1024
	for size < 2*n {
		size *= 2
	}
	m.table = make([]entry, size)
	for b := range m.bytes {
		m.bytes[b] = -1
		if id, ok := tokens[string([]byte{byte(b)})]; ok {
			m.bytes[b] = int32(id)
		}
	}
	return m
}

// Ranked returns the Merges of a vocabulary in which a token's id is its rank, whichever two tokens it
// is joined of: tiktoken's.
func Ranked(tokens map[string]int) *Merges {
	m := New(tokens, 3*len(tokens))
	for token, id := range tokens {
		for i := 1; i < len(token); i++ {
			left, ok := tokens[token[:i]]
			if !ok {
				continue
			}
			if right, ok := tokens[token[i:]]; ok {
				m.Add(left, right, id, id)
			}
		}
	}
	return m
}

// Complete reports whether every byte is a token, so that everything can be encoded.
func (m *Merges) Complete() bool {
	for _, id := range m.bytes {
		if id < 0 {
			return false
		}
	}
	return true
}

// Add says that left and right become id, before pairs of higher rank. Of a pair that is added twice the
// last counts.
func (m *Merges) Add(left, right, id, rank int) {
	if 2*m.used >= len(m.table) {
		old := m.table
		m.table = make([]entry, 2*len(old))
		for _, e := range old {
			if e.pair != 0 {
				*m.find(e.pair) = e
			}
		}
	}
	p := pairOf(int32(left), int32(right))
	e := m.find(p)
	if e.pair == 0 {
		m.used++
	}
	*e = entry{p, int32(rank), int32(id)}
}

// Pair is two tokens that may be joined.
type Pair struct{ Left, Right int }

// Pairs returns the pairs, that of the lowest rank first.
func (m *Merges) Pairs() []Pair {
	var list []entry
	for _, e := range m.table {
		if e.pair != 0 {
			list = append(list, e)
		}
	}
	slices.SortFunc(list, func(a, b entry) int { return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.pair, b.pair)) })
	pairs := make([]Pair, len(list))
	for i, e := range list {
		pairs[i] = Pair{int(e.pair>>32) - 1, int(int32(e.pair))}
	}
	return pairs
}

// find returns the entry of a pair, or the empty one where it would be.
func (m *Merges) find(p pair) *entry {
	mask := uint64(len(m.table) - 1)
	h := uint64(p) * 0x9e3779b97f4a7c15
	for i := h >> 20 & mask; ; i = (i + 1) & mask {
		if e := &m.table[i]; e.pair == p || e.pair == 0 {
			return e
		}
	}
}

// shortPiece is the longest piece, in bytes, that is encoded in time quadratic in it.
const shortPiece = 64

// Append appends the ids of a piece to ids. A byte that is no token is left out.
func (m *Merges) Append(ids []int, piece string) []int {
	if id, ok := m.whole[piece]; ok {
		return append(ids, id)
	}
	return m.Join(ids, piece)
}

// Join is Append for a vocabulary that may have a piece as a token which no merges make.
func (m *Merges) Join(ids []int, piece string) []int {
	if len(piece) > shortPiece {
		return m.appendLong(ids, piece)
	}
	var parts, ranks [shortPiece]int32 // ranks[i] is that of parts i and i+1
	n := 0
	for i := range len(piece) {
		if id := m.bytes[piece[i]]; id >= 0 {
			parts[n] = id
			n++
		}
	}
	const none = math.MaxInt32
	rank := func(i int) int32 {
		if e := m.find(pairOf(parts[i], parts[i+1])); e.pair != 0 {
			return e.rank
		}
		return none
	}
	for i := range n - 1 {
		ranks[i] = rank(i)
	}
	for n > 1 {
		best, at := int32(none), 0
		for i, r := range ranks[:n-1] {
			if r < best {
				best, at = r, i
			}
		}
		if best == none {
			break
		}
		parts[at] = m.find(pairOf(parts[at], parts[at+1])).id
		copy(parts[at+1:n-1], parts[at+2:n])
		if at+1 < n-1 {
			copy(ranks[at+1:n-2], ranks[at+2:n-1])
		}
		n--
		if at < n-1 {
			ranks[at] = rank(at)
		}
		if at > 0 {
			ranks[at-1] = rank(at - 1)
		}
	}
	for _, id := range parts[:n] {
		ids = append(ids, int(id))
	}
	return ids
}

// appendLong does the same in O(n log n).
func (m *Merges) appendLong(ids []int, piece string) []int {
	// The parts are a linked list.
	var parts []int32
	for i := range len(piece) {
		if id := m.bytes[piece[i]]; id >= 0 {
			parts = append(parts, id)
		}
	}
	n := int32(len(parts))
	next, prev := make([]int32, n), make([]int32, n)
	for i := range n {
		next[i], prev[i] = i+1, i-1
	}
	var queue heap
	offer := func(i int32) {
		if i < 0 || next[i] >= n {
			return
		}
		if e := m.find(pairOf(parts[i], parts[next[i]])); e.pair != 0 {
			queue.push(candidate(e.rank)<<32 | candidate(i))
		}
	}
	for i := range n {
		offer(i)
	}
	for len(queue) > 0 {
		c := queue.pop()
		i := int32(c & math.MaxUint32)
		if next[i] == 0 || next[i] >= n { // joined to the one before it, or the last
			continue
		}
		e := m.find(pairOf(parts[i], parts[next[i]]))
		if e.pair == 0 || candidate(e.rank) != c>>32 { // part i or the one after it has grown
			continue
		}
		gone := next[i]
		parts[i] = e.id
		next[i] = next[gone]
		if next[i] < n {
			prev[next[i]] = i
		}
		next[gone] = 0
		offer(i)
		offer(prev[i])
	}
	for i := int32(0); i < n; i = next[i] {
		ids = append(ids, int(parts[i]))
	}
	return ids
}

// candidate is a pair to join: its rank in the high 32 bits, its place in the low.
type candidate uint64

// heap is a binary heap with the least candidate first.
type heap []candidate

func (h *heap) push(c candidate) {
	*h = append(*h, c)
	s := *h
	i := len(s) - 1
	for i > 0 && c < s[(i-1)/2] {
		s[i] = s[(i-1)/2]
		i = (i - 1) / 2
	}
	s[i] = c
}

func (h *heap) pop() candidate {
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
