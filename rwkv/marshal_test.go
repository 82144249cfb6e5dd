package rwkv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// Every damaged byte, every length and every field that lies is refused, and changes nothing.
func TestUnmarshalRefusesEveryDamage(t *testing.T) {
	eachRandom(t, allKinds, func(t *testing.T, m *Model, rng *rand.Rand) {
		s, victim := m.NewState(), m.NewState()
		must(t, s, randomIDs(9, m, rng)...)
		must(t, victim, 1, 2)
		twin := victim.Clone()
		saved, err := s.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		refuse := func(what string, b []byte, want error) {
			t.Helper()
			if err := victim.UnmarshalBinary(b); !errors.Is(err, want) {
				t.Fatalf("%s: error %v", what, err)
			}
		}
		step := max(len(saved)/1000, 1) // a saved state is up to a megabyte
		for n := 0; n < len(saved); n++ {
			if n > stateHeader+100 && n < len(saved)-100 && n%step != 0 {
				continue
			}
			refuse(fmt.Sprintf("cut to %d bytes", n), saved[:n], ErrStateFormat)
			bad := slices.Clone(saved)
			bad[n] ^= 1 << rng.IntN(8)
			refuse(fmt.Sprintf("byte %d", n), bad, ErrStateFormat)
		}
		refuse("a byte more", append(slices.Clone(saved), 0), ErrStateFormat)
		refuse("nothing", nil, ErrStateFormat)

		// Fields that make no sense, under a checksum that is right.
		forge := func(at int, v uint32) []byte {
			b := slices.Clone(saved)
			binary.LittleEndian.PutUint32(b[at:], v)
			binary.LittleEndian.PutUint32(b[len(b)-4:], checksum(b[:len(b)-4]))
			return b
		}
		refuse("another version", forge(8, stateVersion+1), ErrStateFormat)
		refuse("no such rule", forge(12, 3), ErrStateFormat)
		refuse("another model", forge(16, 0), ErrStateModel)
		refuse("fewer tokens than in the context", forge(48, 8), ErrStateFormat)
		refuse("negative tokens", forge(52, 1<<31), ErrStateFormat)
		refuse("more in the context than kept or there", forge(56, 10), ErrStateFormat)
		refuse("4 billion in the context", forge(60, 1), ErrStateFormat)
		for _, kept := range []uint32{8, 10, 1 << 31, 1<<32 - 1} {
			refuse(fmt.Sprintf("%d ids", kept), forge(64, kept), ErrStateFormat)
		}
		if m.config.BlockSize > 0 {
			refuse("an id outside the vocabulary", forge(stateHeader, uint32(m.config.VocabSize)), ErrStateFormat)
		}
		if m.Streams() {
			rows := stateHeader + 4*len(s.ids) + 4*m.config.VocabSize + 4*m.config.EmbedDim
			for _, n := range []uint32{1, 1 << 31, 1<<32 - 1} {
				refuse(fmt.Sprintf("a state of fixed size with %d rows", n), forge(rows, n), ErrStateFormat)
			}
		}

		sameBits(t, "the receiver", victim, twin)
		must(t, victim, 3, 4)
		must(t, twin, 3, 4)
		sameBits(t, "the receiver, going on", victim, twin)
	})
}
