// Package greedy is the encoding of the official RWKV models: from the left, the longest token that the
// text starts with.
package greedy

import (
	"slices"

	"microrwkv/tokenizer/internal/vocab"
)

// Trie finds the longest token that a text starts with. It is a double array: the child of a node
// along byte c lies in slot base + c of the node's base, and is there if that slot's label is c.
// No two nodes have one base, so the label is proof enough. (Aoe, IEEE TSE 15(9), 1989)
type Trie struct {
	root  uint32 // the root's base
	slots []slot // up to the largest base + 255
}

type slot struct {
	base  uint32 // 0 without children: the slots up to 255 are empty
	id    uint16 // of the token that ends here, 0 if none does
	label uint16 // 1 + c, 0 if the slot is empty
}

// Longest returns the id and length of the longest token that text starts with, 0 and 0 if none.
func (t *Trie) Longest(text string) (id, n int) {
	base := t.root
	for i := 0; i < len(text); i++ {
		c := text[i]
		s := &t.slots[base+uint32(c)]
		if s.label != uint16(c)+1 {
			break
		}
		if s.id != 0 {
			id, n = int(s.id), i+1
		}
		base = s.base
	}
	return id, n
}

// New returns the Trie of v's tokens with their ids, which must fit 16 bits; empty tokens are
// left out.
func New(v *vocab.Vocab) *Trie {
	nodes := newTree(v)

	// Nodes with many children are the hardest to place and come first, each after the one before it;
	// those with one, by far the most, then fill the holes.
	var byDegree [257][]uint32
	for i := range nodes {
		if n := &nodes[i]; n.degree > 0 {
			byDegree[n.degree] = append(byDegree[n.degree], uint32(i))
		}
	}
	p := &placer{slots: make([]slot, 2*len(nodes)+1024), bases: make([]bool, 2*len(nodes)+1024), free: 512, from: 512}
	for degree, same := range slices.Backward(byDegree[:]) {
		if degree == 1 {
			p.from = p.free
		}
		for _, i := range same {
			p.place(nodes, i)
		}
	}

	for i := range nodes {
		for c := nodes[i].child; c != 0; c = nodes[c].sibling {
			s := &p.slots[nodes[i].base+uint32(nodes[c].label)]
			s.base, s.id = nodes[c].base, nodes[c].id
		}
	}
	return &Trie{nodes[0].base, slices.Clip(p.slots[:max(p.end, 256)])}
}

// node is a node of the tree that becomes a trie.
type node struct {
	child, sibling uint32 // its first child and the next of its parent's children; 0 for none
	base           uint32
	id             uint16
	degree         uint16 // the number of children
	label          byte
}

// newTree returns the nodes of v's tree, the root first. It is fast when tokens start mostly like
// the one before, as in a sorted vocabulary.
func newTree(v *vocab.Vocab) []node {
	nodes := make([]node, 1, 2*v.VocabSize()+1)
	path := []uint32{0} // the nodes of the token before, from the root on
	prev := ""
	for id := range v.VocabSize() {
		token := v.Token(id)
		if token == "" {
			continue
		}
		n := 0
		for n < len(token) && n < len(prev) && token[n] == prev[n] {
			n++
		}
		path = path[:n+1]
		at := path[n]
		for _, c := range []byte(token[n:]) {
			next := nodes[at].child
			for next != 0 && nodes[next].label != c {
				next = nodes[next].sibling
			}
			if next == 0 {
				next = uint32(len(nodes))
				nodes = append(nodes, node{sibling: nodes[at].child, label: c})
				nodes[at].child = next
				nodes[at].degree++
			}
			at = next
			path = append(path, at)
		}
		nodes[at].id = uint16(id)
		prev = token
	}
	return nodes
}

// placer gives nodes their bases.
type placer struct {
	slots []slot // labels only
	bases []bool // those taken
	free  uint32 // no slot from 512 to here is empty
	from  uint32 // the slot last tried for a node's first child
	end   uint32 // the largest base + 256
}

// place takes the first base at which all children of node i meet empty slots.
func (p *placer) place(nodes []node, i uint32) {
	first := nodes[i].child
	for {
		p.from++
		if int(p.from)+256 > len(p.slots) {
			p.slots = append(p.slots, make([]slot, len(p.slots))...)
			p.bases = append(p.bases, make([]bool, len(p.bases))...)
		}
		base := p.from - uint32(nodes[first].label)
		if p.slots[p.from].label == 0 && !p.bases[base] && p.fits(nodes, base, first) {
			nodes[i].base = base
			p.bases[base] = true
			p.end = max(p.end, base+256)
			break
		}
	}
	for c := first; c != 0; c = nodes[c].sibling {
		p.slots[nodes[i].base+uint32(nodes[c].label)].label = uint16(nodes[c].label) + 1
	}
	for p.slots[p.free].label != 0 {
		p.free++
	}
}

// fits reports whether the slots of node c and its siblings are empty if their parent has this base.
func (p *placer) fits(nodes []node, base, c uint32) bool {
	for ; c != 0; c = nodes[c].sibling {
		if p.slots[base+uint32(nodes[c].label)].label != 0 {
			return false
		}
	}
	return true
}
