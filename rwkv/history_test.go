package rwkv

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestHistory compares with the whole sequence, beyond what is remembered one by one, after saving and
// for copies that go their own ways.
func TestHistory(t *testing.T) {
	const vocab = 50
	rng := rand.New(rand.NewPCG(1, 2))
	var h, copied history
	var seq []int32
	check := func(h *history, seq []int32) {
		t.Helper()
		counts := make([]int, vocab)
		for age := range len(h.ids) {
			if want := seq[len(seq)-1-age]; h.at(age) != want {
				t.Fatalf("of %d ids, age %d: %d, want %d", len(seq), age, h.at(age), want)
			}
			counts[h.at(age)]++
		}
		if len(h.ids) != min(len(seq), historyLen) || h.total() != len(seq) {
			t.Fatalf("%d ids: %d kept, %d counted", len(seq), len(h.ids), h.total())
		}
		for id, n := range h.older {
			counts[id] += int(n)
		}
		for _, id := range seq {
			counts[id]--
		}
		if slices.ContainsFunc(counts, func(n int) bool { return n != 0 }) {
			t.Fatalf("%d ids: counts are wrong by %v", len(seq), counts)
		}
	}
	for i := range 3*historyLen + 7 {
		id := int32(rng.IntN(vocab))
		h.add(int(id), i%100 > 10)
		seq = append(seq, id)
		if i%5000 == 0 || i >= 3*historyLen {
			check(&h, seq)
			copied.copyFrom(&h)
			copied.add(3, true)
			check(&copied, append(slices.Clone(seq), 3))
			b := h.append(nil)
			if len(b) != h.size() || len(b) > maxHistorySize(vocab) {
				t.Fatalf("%d bytes, want %d, at most %d", len(b), h.size(), maxHistorySize(vocab))
			}
			read, ok := readHistory(&reader{b: b}, vocab)
			if !ok || read.made != h.made {
				t.Fatalf("read: %v, %d made, want %d", ok, read.made, h.made)
			}
			check(&read, seq)
		}
	}
	good := h.append(nil)
	for at := 0; at < len(good); at += 4 {
		if at > 40 && at < 4*historyLen-40 && at%1000 > 0 {
			continue
		}
		for _, v := range []byte{0x7f, 0xff} {
			b := slices.Clone(good)
			b[at+3] = v // a huge number, of ids, of an id, of pairs; counts may be large
			if _, ok := readHistory(&reader{b: b}, vocab); ok && (at < len(good)-8*len(h.older) || (len(good)-at)%8 == 0) {
				t.Fatalf("a number of %x000000 at %d is taken", v, at)
			}
		}
	}
	for n := range good[:len(good)-1] {
		if n%9973 == 0 {
			if _, ok := readHistory(&reader{b: good[:n]}, vocab); ok {
				t.Fatalf("%d of %d bytes are taken", n, len(good))
			}
		}
	}
}

// TestSkip jumps where the generator would have come.
func TestSkip(t *testing.T) {
	for _, n := range []uint64{0, 1, 2, 3, 64, 1000, 12345} {
		a, b := rand.NewPCG(7, 8), rand.NewPCG(7, 8)
		for range n {
			a.Uint64()
		}
		skip(b, n)
		if x, y := a.Uint64(), b.Uint64(); x != y {
			t.Errorf("after %d: %x, want %x", n, y, x)
		}
	}
	// 2^40 steps are 2^20 times 2^20 of them.
	a, b := rand.NewPCG(1, 1), rand.NewPCG(1, 1)
	for range 1 << 20 {
		skip(a, 1<<20)
	}
	skip(b, 1<<40)
	if x, y := a.Uint64(), b.Uint64(); x != y {
		t.Errorf("after 2^40: %x, want %x", y, x)
	}
}
