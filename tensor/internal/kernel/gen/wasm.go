package main

// The products for WebAssembly with its 128-bit SIMD are a module of their own, since Go's assembler for it
// has no such instructions: it works in the memory of the program, which it imports, and the program
// imports its functions (go:wasmimport).

// Instructions, of the binary format.
const (
	wasmBlock    = 0x02
	wasmLoop     = 0x03
	wasmEnd      = 0x0b
	wasmBr       = 0x0c
	wasmBrIf     = 0x0d
	wasmIf       = 0x04
	wasmElse     = 0x05
	wasmGet      = 0x20
	wasmSet      = 0x21
	wasmLoadF32  = 0x2a
	wasmLoadU16  = 0x2f
	wasmStoreF32 = 0x38
	wasmConstI32 = 0x41
	wasmConstF32 = 0x43
	wasmGeU      = 0x4f
	wasmAdd      = 0x6a
	wasmSub      = 0x6b
	wasmMul      = 0x6c
	wasmShl      = 0x74
	wasmAddF32   = 0x92
	wasmMulF32   = 0x94
	wasmAsF32    = 0xbe // i32 bits to f32
	wasmVoid     = 0x40
	wasmI32      = 0x7f
	wasmF32      = 0x7d
	wasmV128     = 0x7b

	simdLoad      = 0
	simdLoad4x16u = 4 // four of 16 bits to 32
	simdStore     = 11
	simdConst     = 12
	simdSplatF32  = 19
	simdLaneF32   = 31
	simdShl       = 171
	simdAddF32    = 228
	simdMulF32    = 230
)

// leb encodes a number without sign.
func leb(n int) (b []byte) {
	for ; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

// sleb encodes a number with a sign.
func sleb(n int) (b []byte) {
	for n < -64 || n > 63 {
		b, n = append(b, byte(n&0x7f)|0x80), n>>7
	}
	return append(b, byte(n&0x7f))
}

// wasm writes a function.
type wasm struct {
	params int // i32 each
	locals []byte
	code   []byte
}

type local int

// new returns a local of a type.
func (f *wasm) new(kind byte) local {
	f.locals = append(f.locals, kind)
	return local(f.params + len(f.locals) - 1)
}

func (f *wasm) op(b ...byte)  { f.code = append(f.code, b...) }
func (f *wasm) get(l local)   { f.op(append([]byte{wasmGet}, leb(int(l))...)...) }
func (f *wasm) set(l local)   { f.op(append([]byte{wasmSet}, leb(int(l))...)...) }
func (f *wasm) konst(n int)   { f.op(append([]byte{wasmConstI32}, sleb(n)...)...) }
func (f *wasm) simd(code int) { f.op(append([]byte{0xfd}, leb(code)...)...) }
func (f *wasm) memory(code byte, offset int) {
	f.op(append([]byte{code, 0}, leb(offset)...)...)
}

// load loads four numbers from the address on the stack and an offset.
func (f *wasm) load(code, offset int) {
	f.simd(code)
	f.op(append([]byte{0}, leb(offset)...)...)
}

// add sets l to l plus what by pushes.
func (f *wasm) add(l local, by func()) {
	f.get(l)
	by()
	f.op(wasmAdd)
	f.set(l)
}

func (f *wasm) getter(l local) func() { return func() { f.get(l) } }
func (f *wasm) number(n int) func()   { return func() { f.konst(n) } }

// while repeats body while a + step ≤ end, both without sign; body changes a.
func (f *wasm) while(a local, step int, end local, body func()) {
	f.op(wasmBlock, wasmVoid, wasmLoop, wasmVoid)
	f.get(end)
	f.get(a)
	f.op(wasmSub)
	f.konst(step)
	f.op(wasmGeU, 0x45, wasmBrIf, 1) // not: leave
	body()
	f.op(wasmBr, 0, wasmEnd, wasmEnd)
}

// zero pushes four zeros.
func (f *wasm) zero() {
	f.simd(simdConst)
	f.op(make([]byte, 16)...)
}

// zeroF32 pushes 0.
func (f *wasm) zeroF32() { f.op(wasmConstF32, 0, 0, 0, 0) }

// ntWASM writes dst[m,n] = x[m,k]·w[n,k]ᵀ for weights of float32 or bfloat16. Distances are in bytes. A
// tile is two rows of x by four of w, at the edges one. However it is tiled, an element's products are
// summed in four interleaved sums, those as (0+2)+(1+3), and then the products of the last k mod 4.
func ntWASM(bf16 bool) *wasm {
	f := &wasm{params: 10}
	dst, ldd, x, ldx, w, ldw, m, n, k, acc := local(0), local(1), local(2), local(3), local(4), local(5), local(6), local(7), local(8), local(9)
	size := 4
	if bf16 {
		size = 2
	}
	i, j, p := f.new(wasmI32), f.new(wasmI32), f.new(wasmI32)
	xi, di, wp := f.new(wasmI32), f.new(wasmI32), f.new(wasmI32)
	var xs [2]local
	var ws [4]local
	var ds [2]local
	var xv [2]local
	var sums [2][4]local
	var rests [2][4]local
	for r := range 2 {
		xs[r], ds[r], xv[r] = f.new(wasmI32), f.new(wasmI32), f.new(wasmV128)
		for c := range 4 {
			sums[r][c], rests[r][c] = f.new(wasmV128), f.new(wasmF32)
		}
	}
	for c := range 4 {
		ws[c] = f.new(wasmI32)
	}
	wv, xf, wf := f.new(wasmV128), f.new(wasmF32), f.new(wasmF32)

	tile := func(rows, cols int) {
		for r := range rows {
			f.get(xi)
			f.get(di)
			f.set(ds[r])
			f.set(xs[r])
			if r > 0 {
				f.add(xs[r], f.getter(ldx))
				f.add(ds[r], f.getter(ldd))
			}
			for c := range cols {
				f.zero()
				f.set(sums[r][c])
				f.zeroF32()
				f.set(rests[r][c])
			}
		}
		f.get(wp)
		f.set(ws[0])
		for c := 1; c < cols; c++ {
			f.get(ws[c-1])
			f.get(ldw)
			f.op(wasmAdd)
			f.set(ws[c])
		}
		f.konst(0)
		f.set(p)
		step := func(n int, one func(c int), read func(r int), multiply func(r, c int)) {
			f.while(p, n, k, func() {
				for r := range rows {
					read(r)
				}
				for c := range cols {
					one(c)
					for r := range rows {
						multiply(r, c)
					}
				}
				for r := range rows {
					f.add(xs[r], f.number(4*n))
				}
				for c := range cols {
					f.add(ws[c], f.number(size*n))
				}
				f.add(p, f.number(n))
			})
		}
		step(4, func(c int) {
			f.get(ws[c])
			if bf16 {
				f.load(simdLoad4x16u, 0)
				f.konst(16)
				f.simd(simdShl)
			} else {
				f.load(simdLoad, 0)
			}
			f.set(wv)
		}, func(r int) {
			f.get(xs[r])
			f.load(simdLoad, 0)
			f.set(xv[r])
		}, func(r, c int) {
			f.get(sums[r][c])
			f.get(xv[r])
			f.get(wv)
			f.simd(simdMulF32)
			f.simd(simdAddF32)
			f.set(sums[r][c])
		})
		step(1, func(c int) {
			f.get(ws[c])
			if bf16 {
				f.memory(wasmLoadU16, 0)
				f.konst(16)
				f.op(wasmShl, wasmAsF32)
			} else {
				f.memory(wasmLoadF32, 0)
			}
			f.set(wf)
		}, func(int) {}, func(r, c int) {
			f.get(rests[r][c])
			f.get(xs[r])
			f.memory(wasmLoadF32, 0)
			f.get(wf)
			f.op(wasmMulF32, wasmAddF32)
			f.set(rests[r][c])
		})
		for r := range rows {
			for c := range cols {
				f.get(ds[r])
				lane := func(i byte) {
					f.get(sums[r][c])
					f.simd(simdLaneF32)
					f.op(i)
				}
				lane(0)
				lane(2)
				f.op(wasmAddF32)
				lane(1)
				lane(3)
				f.op(wasmAddF32, wasmAddF32)
				f.get(rests[r][c])
				f.op(wasmAddF32)
				f.set(xf)
				f.get(xf)
				f.get(acc)
				f.op(wasmIf, wasmF32)
				f.get(ds[r])
				f.memory(wasmLoadF32, 4*c)
				f.op(wasmElse)
				f.op(wasmConstF32, 0, 0, 0, 0x80) // −0, which changes nothing
				f.op(wasmEnd, wasmAddF32)
				f.memory(wasmStoreF32, 4*c)
			}
		}
	}
	column := func(cols int) {
		f.get(x)
		f.set(xi)
		f.get(dst)
		f.get(j)
		f.konst(4)
		f.op(wasmMul, wasmAdd)
		f.set(di)
		f.konst(0)
		f.set(i)
		for _, rows := range []int{2, 1} {
			f.while(i, rows, m, func() {
				tile(rows, cols)
				for range rows {
					f.add(xi, f.getter(ldx))
					f.add(di, f.getter(ldd))
				}
				f.add(i, f.number(rows))
			})
		}
		for range cols {
			f.add(wp, f.getter(ldw))
		}
		f.add(j, f.number(cols))
	}
	f.get(w)
	f.set(wp)
	f.konst(0)
	f.set(j)
	for _, cols := range []int{4, 1} {
		f.while(j, cols, n, func() { column(cols) })
	}
	return f
}

// nnWASM writes dst[m,n] = a[m,k]·b[k,n]: sixteen columns at a time, then four, then one, each summed in
// the order of k.
func nnWASM() *wasm {
	f := &wasm{params: 10}
	dst, ldd, a, lda, b, ldb, m, n, k, acc := local(0), local(1), local(2), local(3), local(4), local(5), local(6), local(7), local(8), local(9)
	i, j, p, ap, bp, dp := f.new(wasmI32), f.new(wasmI32), f.new(wasmI32), f.new(wasmI32), f.new(wasmI32), f.new(wasmI32)
	av, sum := f.new(wasmV128), f.new(wasmF32)
	var sums [4]local
	for v := range sums {
		sums[v] = f.new(wasmV128)
	}
	f.konst(0)
	f.set(i)
	f.while(i, 1, m, func() {
		f.konst(0)
		f.set(j)
		for _, cols := range []int{16, 4, 1} {
			f.while(j, cols, n, func() {
				for v := range cols / 4 {
					f.zero()
					f.set(sums[v])
				}
				f.zeroF32()
				f.set(sum)
				f.get(a)
				f.set(ap)
				address := func(base, to local) {
					f.get(base)
					f.get(j)
					f.konst(4)
					f.op(wasmMul, wasmAdd)
					f.set(to)
				}
				address(b, bp)
				address(dst, dp)
				f.konst(0)
				f.set(p)
				f.while(p, 1, k, func() {
					if cols == 1 {
						f.get(sum)
						f.get(ap)
						f.memory(wasmLoadF32, 0)
						f.get(bp)
						f.memory(wasmLoadF32, 0)
						f.op(wasmMulF32, wasmAddF32)
						f.set(sum)
					} else {
						f.get(ap)
						f.memory(wasmLoadF32, 0)
						f.simd(simdSplatF32)
						f.set(av)
						for v := range cols / 4 {
							f.get(sums[v])
							f.get(av)
							f.get(bp)
							f.load(simdLoad, 16*v)
							f.simd(simdMulF32)
							f.simd(simdAddF32)
							f.set(sums[v])
						}
					}
					f.add(ap, f.number(4))
					f.add(bp, f.getter(ldb))
					f.add(p, f.number(1))
				})
				f.get(acc)
				f.op(wasmIf, wasmVoid)
				if cols == 1 {
					f.get(sum)
					f.get(dp)
					f.memory(wasmLoadF32, 0)
					f.op(wasmAddF32)
					f.set(sum)
				}
				for v := range cols / 4 {
					f.get(sums[v])
					f.get(dp)
					f.load(simdLoad, 16*v)
					f.simd(simdAddF32)
					f.set(sums[v])
				}
				f.op(wasmEnd)
				if cols == 1 {
					f.get(dp)
					f.get(sum)
					f.memory(wasmStoreF32, 0)
				}
				for v := range cols / 4 {
					f.get(dp)
					f.get(sums[v])
					f.load(simdStore, 16*v)
				}
				f.add(j, f.number(cols))
			})
		}
		f.add(dst, f.getter(ldd))
		f.add(a, f.getter(lda))
		f.add(i, f.number(1))
	})
	return f
}

// moduleWASM returns the module. Its functions take ten i32.
func moduleWASM() []byte {
	vec := func(items ...[]byte) []byte {
		b := leb(len(items))
		for _, i := range items {
			b = append(b, i...)
		}
		return b
	}
	name := func(s string) []byte { return append(leb(len(s)), s...) }
	join := func(parts ...[]byte) (b []byte) {
		for _, p := range parts {
			b = append(b, p...)
		}
		return b
	}
	module := []byte("\x00asm\x01\x00\x00\x00")
	section := func(id byte, content []byte) {
		module = append(append(append(module, id), leb(len(content))...), content...)
	}
	params := make([][]byte, 10)
	for i := range params {
		params[i] = []byte{wasmI32}
	}
	section(1, vec(join([]byte{0x60}, vec(params...), vec())))
	section(2, vec(join(name("go"), name("mem"), []byte{0x02, 0x00, 0x00})))
	functions := []struct {
		name string
		f    *wasm
	}{{"ntF32", ntWASM(false)}, {"ntBF16", ntWASM(true)}, {"nn", nnWASM()}}
	var kinds, exports, bodies [][]byte
	for i, fn := range functions {
		kinds = append(kinds, []byte{0})
		exports = append(exports, join(name(fn.name), []byte{0x00, byte(i)}))
		var locals [][]byte
		for _, kind := range fn.f.locals {
			locals = append(locals, []byte{1, kind})
		}
		body := join(vec(locals...), fn.f.code, []byte{wasmEnd})
		bodies = append(bodies, join(leb(len(body)), body))
	}
	section(3, vec(kinds...))
	section(7, vec(exports...))
	section(10, vec(bodies...))
	return module
}
