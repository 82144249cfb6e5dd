// Package wasmsimd has the products of package tensor for WebAssembly with SIMD, as a module that works in
// a program's own memory.
//
// A program for js/wasm or wasip1/wasm that is built with the tag wasmsimd imports the module's functions
// ntF32, ntBF16 and nn under the module name microrwkv. Since the memory that the module itself imports, as
// go.mem, is the program's, its host gives the program functions that call the module's, which it makes
// then:
//
//	let simd;
//	const late = (name) => (...args) => simd.exports[name](...args);
//	go.importObject.microrwkv = { ntF32: late("ntF32"), ntBF16: late("ntBF16"), nn: late("nn") };
//	const { instance } = await WebAssembly.instantiate(program, go.importObject);
//	simd = await WebAssembly.instantiate(await WebAssembly.compile(module), { go: { mem: instance.exports.mem } });
package wasmsimd

import _ "embed"

// Module is the module, which the generator of all kernels writes.
//
//go:embed simd.wasm
var Module []byte
