package rwkv

import (
	"encoding/binary"
	"maps"
	"slices"
)

// historyLen is how many of the newest ids of a sequence a State remembers one by one. A penalty that
// decays forgets older ones; at the decay of 0.996 that the official programs use, an occurrence of
// that age counts 1e-28.
const historyLen = 1 << 14

// history is what a State remembers of its sequence for the penalties: the newest ids, and how often
// others occurred before. It doesn't grow with the sequence.
type history struct {
	ids   []int32          // the newest, at most historyLen: a ring when full
	begin int              // where the oldest of a full ring is
	older map[int32]uint32 // how often ids occurred before those; of a copy the original's
	own   bool             // older belongs to this history alone
	made  int              // how many of the newest were generated, not read
	lost  int              // how many are no longer in ids
}

// total returns how many ids were added.
func (h *history) total() int { return h.lost + len(h.ids) }

// add appends an id.
func (h *history) add(id int, generated bool) {
	if generated {
		h.made++
	} else {
		h.made = 0
	}
	if len(h.ids) < historyLen {
		h.ids = append(h.ids, int32(id))
		return
	}
	if !h.own {
		h.own = true
		if h.older = maps.Clone(h.older); h.older == nil {
			h.older = map[int32]uint32{}
		}
	}
	h.older[h.ids[h.begin]]++
	h.lost++
	h.ids[h.begin] = int32(id)
	h.begin = (h.begin + 1) % historyLen
}

// at returns the id of an age, 0 for the newest, below len(h.ids).
func (h *history) at(age int) int32 {
	i := h.begin - 1 - age
	if i < 0 {
		i += len(h.ids)
	}
	return h.ids[i]
}

// reset forgets all.
func (h *history) reset() { *h = history{ids: h.ids[:0]} }

// copyFrom makes h a copy of o.
func (h *history) copyFrom(o *history) {
	o.own = false // both may go on, and the first to count another id makes its own
	*h = history{ids: append(h.ids[:0], o.ids...), begin: o.begin, older: o.older, made: o.made, lost: o.lost}
}

// A saved history, all numbers uint32: the ids, from the oldest, after their number; how many of them
// were generated, at most all; pairs of id and count, ascending by id, after their number.

// size returns the bytes that append appends.
func (h *history) size() int { return 4 + 4*len(h.ids) + 4 + 4 + 8*len(h.older) }

// maxHistorySize is the largest size of a history of a vocabulary.
func maxHistorySize(vocab int) int { return 12 + 4*historyLen + 8*vocab }

// append appends the history to b.
func (h *history) append(b []byte) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(b, uint32(len(h.ids)))
	for age := len(h.ids) - 1; age >= 0; age-- {
		b = le.AppendUint32(b, uint32(h.at(age)))
	}
	b = le.AppendUint32(b, uint32(min(h.made, len(h.ids))))
	b = le.AppendUint32(b, uint32(len(h.older)))
	for _, id := range slices.Sorted(maps.Keys(h.older)) {
		b = le.AppendUint32(le.AppendUint32(b, uint32(id)), h.older[id])
	}
	return b
}

// readHistory reads what append wrote, for ids below vocab. It reports whether that is possible.
func readHistory(r *reader, vocab int) (h history, ok bool) {
	n := r.uint32()
	if n > historyLen {
		return h, false
	}
	h.ids = make([]int32, n)
	for i := range h.ids {
		id := r.uint32()
		if int64(id) >= int64(vocab) {
			return h, false
		}
		h.ids[i] = int32(id)
	}
	made, pairs := r.uint32(), r.uint32()
	if made > n || pairs > uint32(vocab) || (pairs > 0 && n < historyLen) {
		return h, false
	}
	h.made = int(made)
	if pairs > 0 {
		h.older, h.own = make(map[int32]uint32, pairs), true
	}
	next := int64(0)
	for range pairs {
		id, count := r.uint32(), r.uint32()
		if int64(id) < next || int64(id) >= int64(vocab) || count == 0 {
			return h, false
		}
		h.older[int32(id)] = count
		h.lost += int(count)
		next = int64(id) + 1
	}
	return h, r.err == nil
}
