package checkpoint

import (
	"encoding/binary"
	"runtime"
)

// bigEndianHost says whether this machine's numbers are the other way round than most files'.
var bigEndianHost = binary.NativeEndian.Uint16([]byte{0, 1}) == 1

// unaligned says whether this machine reads numbers at any address, as Go's compiler and the
// kernels then may: legacy files have no padding, and their views may begin anywhere. (Pointers to
// numbers need no alignment in Go: golang.org/issue/37298.)
const unaligned = runtime.GOARCH == "amd64" || runtime.GOARCH == "arm64"
