//go:build wasm && wasmsimd && !purego

package kernel

import "unsafe"

// Programs for WebAssembly that are built with the tag wasmsimd import the functions of simd.wasm, from a
// module named microrwkv: see package tensor/wasmsimd.

//go:wasmimport microrwkv ntF32
func ntF32WASM(dst unsafe.Pointer, ldd uint32, x unsafe.Pointer, ldx uint32, w unsafe.Pointer, ldw, m, n, k, acc uint32)

//go:wasmimport microrwkv ntBF16
func ntBF16WASM(dst unsafe.Pointer, ldd uint32, x unsafe.Pointer, ldx uint32, w unsafe.Pointer, ldw, m, n, k, acc uint32)

//go:wasmimport microrwkv nn
func nnWASM(dst unsafe.Pointer, ldd uint32, a unsafe.Pointer, lda uint32, b unsafe.Pointer, ldb, m, n, k, acc uint32)

// archImpls lists the kernels of the module.
func archImpls() []impl {
	im := generic
	im.name = "simd128"
	im.roundings[Q8Activations] = rounding{} // widened for the module's float32 products blocks are faster
	im.products[F32] = func(dst []float32, ldd int, x []float32, ldx int, w []byte, ldw int, m, n, k int, acc bool) {
		ntF32WASM(unsafe.Pointer(&dst[0]), uint32(4*ldd), unsafe.Pointer(&x[0]), uint32(4*ldx), unsafe.Pointer(&w[0]), uint32(ldw), uint32(m), uint32(n), uint32(k), u32(acc))
	}
	im.products[BF16] = func(dst []float32, ldd int, x []float32, ldx int, w []byte, ldw int, m, n, k int, acc bool) {
		ntBF16WASM(unsafe.Pointer(&dst[0]), uint32(4*ldd), unsafe.Pointer(&x[0]), uint32(4*ldx), unsafe.Pointer(&w[0]), uint32(ldw), uint32(m), uint32(n), uint32(k), u32(acc))
	}
	im.gemmNN = func(dst []float32, ldd int, a []float32, lda int, b []float32, ldb int, m, n, k int, acc bool) {
		nnWASM(unsafe.Pointer(&dst[0]), uint32(4*ldd), unsafe.Pointer(&a[0]), uint32(4*lda), unsafe.Pointer(&b[0]), uint32(4*ldb), uint32(m), uint32(n), uint32(k), u32(acc))
	}
	return []impl{im}
}

func u32(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}
