//go:build !purego && (amd64 || arm64)

package kernel

import "encoding/binary"

// factors are what the assembly widens a block with: for each 16 numbers q a step and a least, for step·q −
// least. They are the products that the references compute.
type factors [16][2]float32

// half is for blocks of 32 numbers with one scale.
func (f *factors) half(b []byte) {
	d := half(b)
	f[0][0], f[1][0] = d, d
}

func (f *factors) iq4XS(b []byte) {
	d, high := half(b), binary.LittleEndian.Uint16(b[2:])
	for j := range 8 {
		scale := int(b[4+j/2]>>(4*(j&1))&15) | int(high>>(2*j)&3)<<4
		dl := float32(d * float32(scale-32))
		f[2*j][0], f[2*j+1][0] = dl, dl
	}
}

func (f *factors) q2K(b []byte) {
	d, dmin := half(b[80:]), half(b[82:])
	for i, s := range b[:16] {
		f[i] = [2]float32{d * float32(s&15), dmin * float32(s>>4)}
	}
}

func (f *factors) q3K(b []byte) {
	d, s := half(b[108:]), b[96:108]
	for i := range f {
		scale := int(s[i%8]>>(4*(i/8))&15) | int(s[8+i%4]>>(2*(i/4))&3)<<4
		f[i][0] = d * float32(scale-32)
	}
}
