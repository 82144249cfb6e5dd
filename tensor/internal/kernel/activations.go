package kernel

import (
	"fmt"

	"microrwkv/tensor/internal/freelist"
)

// Activations says what a product makes of its rows of x before it multiplies. The zero value is Exact.
type Activations uint8

const (
	Exact           Activations = iota // float32, as they are
	Q8Activations                      // 8 bits, with a float32 scale for each 32 numbers
	BF16Activations                    // bfloat16, and so are the weights
	numActivations
)

// String returns a short name: "f32", "q8", "bf16".
func (a Activations) String() string { return [numActivations]string{"f32", "q8", "bf16"}[a] }

// rounding is how an instruction set computes products with rounded activations. Rows of x are rounded
// together in groups, each of which is a run of bytes in a form that the products choose. An element of
// the result has bits that depend on its row of x and its row of w alone, as everywhere.
type rounding struct {
	group int             // rows of a group
	size  func(k int) int // bytes of a group, a multiple of 64
	// round rounds rows of x [m, k] at distance ldx, at most one group of them, into dst. Rows that a
	// group misses are zeros.
	round func(dst []byte, x []float32, ldx, m, k int)
	// products has dst[m,n] = x[m,k]·w[n,k]ᵀ by the type of w, with x from round, the groups one after
	// the other, and ldw in bytes; nil if there is none.
	products [numDTypes]func(dst []float32, ldd int, x []byte, w []byte, ldw int, m, n, k int, acc bool)
}

// Rounds reports whether the kernels in use have products of weights of type d with such activations.
// Exact ones they always have.
func Rounds(a Activations, d DType) bool {
	return a == Exact || active.roundings[a].products[d] != nil
}

// Rounded is rows of activations that are rounded for products of the kernels in use.
type Rounded struct {
	data    []byte // from an address that is a multiple of 64
	backing []byte
	a       Activations
	k       int
	r       *rounding
}

var roundeds = freelist.New[Rounded]()

// NewRounded returns room for m rows of k numbers; give it back by Free. The kernels in use must round
// activations so, see Rounds.
func NewRounded(a Activations, m, k int) *Rounded {
	x := roundeds.Get()
	x.a, x.k, x.r = a, k, &active.roundings[a]
	n := x.Groups(m) * x.r.size(k)
	x.backing = freelist.Grown(x.backing, n+63)
	x.data = aligned(x.backing)[:n]
	return x
}

// Free gives the room back.
func (x *Rounded) Free() {
	x.data, x.r = nil, nil
	roundeds.Put(x)
}

// Groups returns how many groups m rows are, and Group how many rows a group has.
func (x *Rounded) Groups(m int) int { return (m + x.r.group - 1) / x.r.group }

// Group returns how many rows are rounded together: pieces of a product begin at a multiple of it.
func (x *Rounded) Group() int { return x.r.group }

// Round rounds group g of the rows of src, which has m rows of k numbers at distance ld.
func (x *Rounded) Round(g int, src []float32, ld, m int) {
	checkMatrix("Round", "x", len(src), ld, m, x.k)
	first, size := g*x.r.group, x.r.size(x.k)
	x.r.round(x.data[g*size:][:size], src[first*ld:], ld, min(m-first, x.r.group), x.k)
}

// Product computes dst[m,n] = x[m,k] · w[n,k]ᵀ, or adds the product to dst if acc, of m rows of x from the
// start of group g. ldd counts numbers from row to row, ldw bytes. dst must not overlap w.
func (x *Rounded) Product(d DType, dst []float32, ldd, g int, w []byte, ldw int, m, n int, acc bool) {
	if emptyProduct("Product", dst, ldd, m, n, x.k, acc) {
		return
	}
	checkMatrix("Product", "w (in bytes)", len(w), ldw, n, d.Bytes(x.k))
	size := x.r.size(x.k)
	if have := len(x.data)/size - g; g < 0 || have < x.Groups(m) {
		panic(fmt.Sprintf("kernel: Product: %d groups of rounded rows from %d, want %d", have, g, x.Groups(m)))
	}
	x.r.products[d](dst, ldd, x.data[g*size:], w, ldw, m, n, x.k, acc)
}
