//go:build purego || !(amd64 || arm64 || (wasm && wasmsimd))

package kernel

// archImpls lists the assembly kernels that this CPU can run.
func archImpls() []impl { return nil }
