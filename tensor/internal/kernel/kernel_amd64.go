//go:build !purego

package kernel

import "golang.org/x/sys/cpu"

// archImpls lists the assembly kernels that this CPU can run. Package cpu reports AVX2 and AVX-512
// only if the operating system saves their registers.
func archImpls() []impl {
	var ims []impl
	if c := &cpu.X86; c.HasAVX2 && c.HasFMA && hasF16C() {
		im := generic
		im.name = "avx2"
		gemmAVX2(&im)
		vecAVX2(&im)
		columnsAVX2(&im)
		rowsAVX2(&im)
		chunk7AVX2(&im)
		q8AVX2.put(&im)
		im.try = tryAVX2
		ims = append(ims, im)
		if c.HasAVX512F && c.HasAVX512BW && c.HasAVX512VL && c.HasAVX512DQ {
			im.name = "avx512"
			gemmAVX512(&im)
			vecAVX512(&im)
			columnsAVX512(&im)
			rowsAVX512(&im)
			chunk7AVX512(&im)
			if hasVNNI {
				q8VNNI.put(&im)
			}
			bf16AVX512(&im)
			ims = append(ims, im)
			if hasAMX() {
				im.name = "amx"
				bf16AMX(&im)
				ims = append(ims, im)
			}
		}
	}
	return ims
}

// hasF16C reports whether the CPU converts half precision, which package cpu leaves out.
func hasF16C() bool {
	const f16c = 1 << 29
	_, _, ecx, _ := cpuid(1, 0)
	return ecx&f16c != 0
}

// cpuid executes the CPUID instruction.
//
//go:noescape
func cpuid(eaxArg, ecxArg uint32) (eax, ebx, ecx, edx uint32)
