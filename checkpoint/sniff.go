package checkpoint

import (
	"bytes"
	"unicode/utf8"
)

// kind is what a file looks like: one of the formats, or a text that says what else.
type kind string

const (
	isZip        kind = "zip"
	isLegacyFile kind = "legacy"
	isSafe       kind = "safetensors"
	isIndex      kind = "index"
)

// signatures are the beginnings of files that are sometimes taken for checkpoints.
var signatures = []struct {
	prefix string
	what   kind
}{
	{"PK\x03\x04", isZip},
	{"PK\x05\x06", isZip}, // an empty one
	{"version https://git-lfs", "a Git LFS pointer, not the checkpoint itself: git lfs pull fetches it"},
	{"\x1f\x8b", "gzip-compressed: unpack it first, a checkpoint is mapped"},
	{"BZh", "bzip2-compressed: unpack it first"},
	{"\xfd7zXZ", "xz-compressed: unpack it first"},
	{"\x28\xb5\x2f\xfd", "zstd-compressed: unpack it first"},
	{"GGUF", "a GGUF file, not a PyTorch or safetensors checkpoint"},
	{"\x89HDF", "an HDF5 file, not a PyTorch or safetensors checkpoint"},
	{"\x93NUMPY", "a numpy array, not a PyTorch or safetensors checkpoint"},
}

// sniff finds out what a file is from its first bytes and its size.
func sniff(head []byte, size int64) kind {
	if size == 0 {
		return "the file is empty"
	}
	for _, s := range signatures {
		if bytes.HasPrefix(head, []byte(s.prefix)) {
			return s.what
		}
	}
	if isSafetensors(head, size) {
		return isSafe
	}
	if isLegacy(head) {
		return isLegacyFile
	}
	if len(head) > 262 && string(head[257:262]) == "ustar" {
		return "a tar file, maybe of PyTorch before 0.2, not a checkpoint that can be read"
	}
	text := bytes.ToLower(bytes.TrimSpace(bytes.TrimPrefix(head, []byte("\xef\xbb\xbf"))))
	switch {
	case bytes.HasPrefix(text, []byte("<!doctype html")), bytes.HasPrefix(text, []byte("<html")), bytes.HasPrefix(text, []byte("<head")):
		return "an HTML page, not a checkpoint: a download that went wrong?"
	case bytes.HasPrefix(text, []byte("{")) && (bytes.Contains(head, []byte(`"weight_map"`)) || bytes.Contains(head, []byte(`"metadata"`))):
		return isIndex
	case isText(head):
		return "a text file, not a checkpoint"
	case head[0] == 0x80:
		return "a pickle that torch.save did not write, or the beginning of one: not a checkpoint"
	}
	return "not a PyTorch or safetensors checkpoint"
}

// isText reports whether a file's beginning is UTF-8 without control characters.
func isText(head []byte) bool {
	for len(head) > 0 {
		r, n := utf8.DecodeRune(head)
		if r == utf8.RuneError && n == 1 && len(head) >= utf8.UTFMax || r < ' ' && r != '\n' && r != '\r' && r != '\t' && r != '\f' || r == 0x7f {
			return false
		}
		head = head[n:]
	}
	return true
}
