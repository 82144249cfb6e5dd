// Gen writes the assembly of package kernel, in the folder it runs in, and the Go functions around what
// needs some: the products for AVX-512, AVX2 and NEON, where a few shapes of loop appear at every tile
// size and weight type, the elementwise operations and reductions, and the recurrences. Run it by
// go generate in package kernel; a test holds the committed files against it.
//
// What appears more than once in a file is a macro of the assembler's preprocessor (asm.macro), and so is
// each of the NEON instructions that Go's assembler lacks (neon.go). exp, sigmoid and tanh are written
// once, in text.go, for all instruction sets.
package main

import (
	"log"
	"os"
)

func main() {
	for name, content := range files() {
		if err := os.WriteFile(name, content, 0o644); err != nil {
			log.Fatal(err)
		}
	}
}

// files returns the generated files by name.
func files() map[string][]byte {
	list := map[string][]byte{
		"bf16_avx512_amd64.s":      bf16AVX512(),
		"bf16_amx_amd64.s":         amxBF16(),
		"gemm_nt_neon_arm64.s":     ntNEON(),
		"gemm_nn_neon_arm64.s":     nnNEON(),
		"blocks_neon_arm64.s":      blocksNEON(),
		"q8_neon_arm64.s":          q8NEON(),
		"vec_neon_arm64.s":         vecNEON(),
		"wkv_neon_arm64.s":         wkvNEON(),
		"../../wasmsimd/simd.wasm": moduleWASM(),
	}
	for _, s := range []isa{avx512, avx2} {
		list["gemm_nt_"+s.file+"_amd64.s"] = ntAVX(s)
		list["gemm_nn_"+s.file+"_amd64.s"] = nnAVX(s)
		list["vec_"+s.file+"_amd64.s"] = vecAVX(s)
		list["columns_"+s.file+"_amd64.s"] = avxFile{newFile(false)}.functions(s, columnsAVX)
		list["columns_"+s.file+"_amd64.go"] = goFile(s, "columns", "puts the softmaxes of columns into im.", "", columnsAVX, columnShapes)
		list["rows_"+s.file+"_amd64.s"] = avxFile{newFile(false)}.functions(s, rowFunctionsAVX)
		list["rows_"+s.file+"_amd64.go"] = goFile(s, "rows", "puts the operations on rows into im.", "import \"unsafe\"", rowFunctionsAVX, rowShapes)
		list["chunk7_"+s.file+"_amd64.s"] = avxFile{newFile(false)}.functions(s, chunk7FunctionsAVX)
		list["chunk7_"+s.file+"_amd64.go"] = goFile(s, "chunk7", "puts what chunks of RWKV-7 need into im.", "", chunk7FunctionsAVX, chunk7Shapes)
		list["blocks_"+s.file+"_amd64.s"] = blocksAVX(s)
		list["q8_"+s.file+"_amd64.s"] = q8AVX(s)
		list["vec_"+s.file+"_amd64.go"] = wrappers(s)
	}
	return list
}
