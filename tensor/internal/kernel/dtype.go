package kernel

import (
	"fmt"
	"math"
	"unsafe"
)

// DType says how numbers are stored: one of the rows of dtypes. The zero value is none.
//
// A new format of weights is a constant here, a row in dtypes, and a function that widens it, which is
// the reference that everything else is tested against. With these alone its products work: rows of
// it are widened, a few at a time, for the float32 product. An instruction set that can do better gets
// an entry in its impl's widen, and where the memory is what few rows of x wait for in its few, beside
// those of blocks_amd64.go, or in products if it takes any number of rows: a type without blocks always
// does. A format of blocks says where its scales are, and one that weights are rounded to has a row in
// grids. One whose products may take activations of 8 bits has a row in q8Formats, and the instruction sets
// a function that takes rows of it apart, in gen's q8 files.
type DType uint8

// Weights come in the first three and in blocks; tensors of the others can be listed, and copied from file
// to file.
const (
	F32  DType = iota + 1 // IEEE 754 binary32
	BF16                  // bfloat16: the upper half of a binary32
	F16                   // IEEE 754 binary16
	F64                   // IEEE 754 binary64
	Int64
	Int32
	Int16
	Int8
	Uint64
	Uint32
	Uint16
	Uint8
	Bool
	Complex64
	Complex128
	F8E4M3     // torch.float8_e4m3fn
	F8E5M2     // torch.float8_e5m2
	F8E8M0     // torch.float8_e8m0fnu
	F8E4M3FNUZ // torch.float8_e4m3fnuz
	F8E5M2FNUZ // torch.float8_e5m2fnuz
	F4x2       // two numbers in a byte
	Complex32
	Bits8
	Bits16
	QUint8 // quantized
	QInt8
	QInt32
	QUint4x2
	QUint2x4

	// Blocks of quantized weights, named as in GGUF: see blocks.go.
	Q8_0
	Q4_0
	Q4_1
	Q5_0
	Q5_1
	IQ4_NL
	IQ4_XS
	Q2_K
	Q3_K
	Q4_K
	Q5_K
	Q6_K

	numDTypes
)

// widening converts len(dst) numbers, whole blocks, to float32.
type widening func(dst []float32, src []byte)

// dtypes has for each DType its name, the numbers and the bytes of a block, and how to widen it: nil
// for what can't be a weight. Formats of quantized weights have scales.
var dtypes = [numDTypes]struct {
	name         string
	block, bytes int
	widen        widening
	scales       []int // where in a block its half-precision scales begin
}{
	F32:        {"f32", 1, 4, func(dst []float32, src []byte) { copy(dst, View[float32](src)) }, nil},
	BF16:       {"bf16", 1, 2, halves(widenBF16Generic), nil},
	F16:        {"f16", 1, 2, halves(widenF16Generic), nil},
	F64:        {"f64", 1, 8, nil, nil},
	Int64:      {"int64", 1, 8, nil, nil},
	Int32:      {"int32", 1, 4, nil, nil},
	Int16:      {"int16", 1, 2, nil, nil},
	Int8:       {"int8", 1, 1, nil, nil},
	Uint64:     {"uint64", 1, 8, nil, nil},
	Uint32:     {"uint32", 1, 4, nil, nil},
	Uint16:     {"uint16", 1, 2, nil, nil},
	Uint8:      {"uint8", 1, 1, nil, nil},
	Bool:       {"bool", 1, 1, nil, nil},
	Complex64:  {"complex64", 1, 8, nil, nil},
	Complex128: {"complex128", 1, 16, nil, nil},
	F8E4M3:     {"f8_e4m3", 1, 1, nil, nil},
	F8E5M2:     {"f8_e5m2", 1, 1, nil, nil},
	F8E8M0:     {"f8_e8m0", 1, 1, nil, nil},
	F8E4M3FNUZ: {"f8_e4m3fnuz", 1, 1, nil, nil},
	F8E5M2FNUZ: {"f8_e5m2fnuz", 1, 1, nil, nil},
	F4x2:       {"f4_x2", 1, 1, nil, nil}, // an element is the pair
	Complex32:  {"complex32", 1, 4, nil, nil},
	Bits8:      {"bits8", 1, 1, nil, nil},
	Bits16:     {"bits16", 1, 2, nil, nil},
	QUint8:     {"quint8", 1, 1, nil, nil},
	QInt8:      {"qint8", 1, 1, nil, nil},
	QInt32:     {"qint32", 1, 4, nil, nil},
	QUint4x2:   {"quint4x2", 1, 1, nil, nil},
	QUint2x4:   {"quint2x4", 1, 1, nil, nil},
	Q8_0:       {"q8_0", 32, 34, blocks(32, 34, widenQ8_0), []int{0}},
	Q4_0:       {"q4_0", 32, 18, blocks(32, 18, widenQ4_0), []int{0}},
	Q4_1:       {"q4_1", 32, 20, blocks(32, 20, widenQ4_1), []int{0, 2}},
	Q5_0:       {"q5_0", 32, 22, blocks(32, 22, widenQ5_0), []int{0}},
	Q5_1:       {"q5_1", 32, 24, blocks(32, 24, widenQ5_1), []int{0, 2}},
	IQ4_NL:     {"iq4_nl", 32, 18, blocks(32, 18, widenIQ4_NL), []int{0}},
	IQ4_XS:     {"iq4_xs", 256, 136, blocks(256, 136, widenIQ4_XS), []int{0}},
	Q2_K:       {"q2_k", 256, 84, blocks(256, 84, widenQ2_K), []int{80, 82}},
	Q3_K:       {"q3_k", 256, 110, blocks(256, 110, widenQ3_K), []int{108}},
	Q4_K:       {"q4_k", 256, 144, blocks(256, 144, widenQ4_K), []int{0, 2}},
	Q5_K:       {"q5_k", 256, 176, blocks(256, 176, widenQ5_K), []int{0, 2}},
	Q6_K:       {"q6_k", 256, 210, blocks(256, 210, widenQ6_K), []int{208}},
}

// String returns a short name: "f32", "bf16", "f16", "f64", "int64", "bool" …
func (d DType) String() string {
	if d == 0 || d >= numDTypes {
		return fmt.Sprintf("DType(%d)", uint8(d))
	}
	return dtypes[d].name
}

// Block returns how many numbers are stored together, and the bytes that they take: 1 and the size of
// a number for all but quantized formats.
func (d DType) Block() (numbers, bytes int) { return dtypes[d].block, dtypes[d].bytes }

// Bytes returns the bytes of n numbers. It panics unless they are whole blocks and their bytes an int.
func (d DType) Bytes(n int) int {
	r := &dtypes[d]
	if blocks := n / r.block; blocks*r.block != n || blocks > math.MaxInt/r.bytes {
		panic(fmt.Sprintf("kernel: %d numbers of %v, which has blocks of %d", n, d, r.block))
	}
	return n / r.block * r.bytes
}

// Float reports whether elements stand for real numbers: floating-point ones of any size, and blocks of
// quantized ones.
func (d DType) Float() bool { return d.Weight() || d == F64 || d >= F8E4M3 && d <= F4x2 }

// Weight reports whether weights may have the type: whether Widen and Product take it.
func (d DType) Weight() bool { return d < numDTypes && dtypes[d].widen != nil }

// Scales returns where in a block of a quantized format its half-precision scales begin, in bytes; nil for
// formats without. If they are finite, so are the numbers.
func (d DType) Scales() []int { return dtypes[d].scales }

// size returns the bytes of one number of a format without blocks.
func (d DType) size() int { return dtypes[d].bytes }

// aligned returns x from its first element whose address is a multiple of 64. An element's size divides 64.
func aligned[E byte | float32](x []E) []E {
	behind := uintptr(unsafe.Pointer(unsafe.SliceData(x))) & 63
	return x[(64-behind)%64/unsafe.Sizeof(x[0]):]
}

// View returns the numbers that are stored in b, whose start must be aligned for them.
func View[E any](b []byte) []E {
	if len(b) == 0 {
		return nil
	}
	var e E
	return unsafe.Slice((*E)(unsafe.Pointer(&b[0])), len(b)/int(unsafe.Sizeof(e)))
}

// BytesOf returns the memory of x.
func BytesOf[E any](x []E) []byte {
	if len(x) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&x[0])), len(x)*int(unsafe.Sizeof(x[0])))
}

// halves makes a widening of a function over bit patterns.
func halves(f func(dst []float32, src []uint16)) widening {
	return func(dst []float32, src []byte) { f(dst, View[uint16](src)) }
}

// Widen converts len(dst) numbers of a weight's type d to float32, exactly. src has at least their
// bytes, aligned as the type's numbers are.
func Widen(d DType, dst []float32, src []byte) {
	if need := d.Bytes(len(dst)); len(src) < need {
		panic(fmt.Sprintf("kernel: Widen: %d bytes of %v, want %d", len(src), d, need))
	}
	if len(dst) > 0 {
		active.widen[d](dst, src[:d.Bytes(len(dst))])
	}
}

// Product computes dst[m,n] = x[m,k] · w[n,k]ᵀ, or adds the product to dst if acc, with w of a
// weight's type d, widened exactly as it is read. ldd and ldx are numbers from row to row, ldw is
// bytes. dst must not overlap x or w.
func Product(d DType, dst []float32, ldd int, x []float32, ldx int, w []byte, ldw int, m, n, k int, acc bool) {
	if emptyProduct("Product", dst, ldd, m, n, k, acc) {
		return
	}
	checkMatrix("Product", "x", len(x), ldx, m, k)
	checkMatrix("Product", "w (in bytes)", len(w), ldw, n, d.Bytes(k))
	active.product(d, dst, ldd, x, ldx, w, ldw, m, n, k, acc)
}

// product is Product of an instruction set, by its own entry or through widened rows.
func (im *impl) product(d DType, dst []float32, ldd int, x []float32, ldx int, w []byte, ldw int, m, n, k int, acc bool) {
	if f := &im.few[d]; m <= f.rows {
		f.product(dst, ldd, x, ldx, w, ldw, m, n, k, acc)
		return
	}
	if f := im.products[d]; f != nil {
		f(dst, ldd, x, ldx, w, ldw, m, n, k, acc)
		return
	}
	// Rows of w are widened some at a time, so that they stay in a cache for all rows of x.
	rows := max(wideNumbers/k/16, 1) * 16 // whole tiles of every kernel
	if m <= 32 {                          // they are read soon again: let them stay near
		rows = max(wideNumbers/4/k/8, 1) * 8
	}
	rows = min(rows, n)
	b := getBuffer(rows * k)
	defer b.put()
	wide, row := b.data[:rows*k], d.Bytes(k)
	for j := 0; j < n; j += rows {
		cols := min(rows, n-j)
		for r := range cols {
			im.widen[d](wide[r*k:][:k], w[(j+r)*ldw:][:row])
		}
		im.products[F32](dst[j:], ldd, x, ldx, BytesOf(wide), 4*k, m, cols, k, acc)
	}
}

// wideNumbers is how many widened weights are kept at a time: 128 KiB of them.
const wideNumbers = 32 << 10
