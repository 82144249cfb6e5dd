package store

import (
	"encoding/binary"
	"runtime"
)

// BigEndianHost says whether this machine's numbers are the other way round than most files'.
var BigEndianHost = binary.NativeEndian.Uint16([]byte{0, 1}) == 1

// Unaligned says whether this machine reads numbers at any address, as Go's compiler and the
// kernels then may: legacy files have no padding, and their views may begin anywhere. (Pointers to
// numbers need no alignment in Go: golang.org/issue/37298.)
const Unaligned = runtime.GOARCH == "amd64" || runtime.GOARCH == "arm64"
