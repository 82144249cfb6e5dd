package rwkv

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
)

// skip makes p go on as if n numbers had been drawn: in 64 steps, not n. A PCG's state is a linear
// congruential generator modulo 2^128, so n steps are one multiplication and one addition, which are
// made by squaring (Brown, "Random Number Generation with Arbitrary Strides", 1994).
func skip(p *rand.PCG, n uint64) {
	b, err := p.MarshalBinary() // "pcg:" and the state, its high half first
	if err != nil {
		panic("rwkv: " + err.Error()) // it never fails
	}
	s := uint128{binary.BigEndian.Uint64(b[4:]), binary.BigEndian.Uint64(b[12:])}
	// The constants of math/rand/v2's PCG, which are part of what a seed means.
	mul := uint128{2549297995355413924, 4865540595714422341}
	inc := uint128{6364136223846793005, 1442695040888963407}
	for ; n > 0; n >>= 1 {
		if n&1 == 1 {
			s = s.mul(mul).add(inc)
		}
		inc = mul.add(uint128{0, 1}).mul(inc)
		mul = mul.mul(mul)
	}
	binary.BigEndian.PutUint64(b[4:], s.hi)
	binary.BigEndian.PutUint64(b[12:], s.lo)
	if err := p.UnmarshalBinary(b); err != nil {
		panic("rwkv: " + err.Error()) // it is what MarshalBinary wrote
	}
}

// uint128 is a number modulo 2^128.
type uint128 struct{ hi, lo uint64 }

func (a uint128) add(b uint128) uint128 {
	lo, carry := bits.Add64(a.lo, b.lo, 0)
	return uint128{a.hi + b.hi + carry, lo}
}

func (a uint128) mul(b uint128) uint128 {
	hi, lo := bits.Mul64(a.lo, b.lo)
	return uint128{hi + a.hi*b.lo + a.lo*b.hi, lo}
}
