package checkpoint

import (
	"bytes"
	"slices"
	"unicode/utf8"
)

// signatures are the beginnings of files that are sometimes taken for checkpoints.
var signatures = []struct {
	prefix string
	what   string
}{
	{"version https://git-lfs", "a Git LFS pointer, not the checkpoint itself: git lfs pull fetches it"},
	{"\x1f\x8b", "gzip-compressed: unpack it first, a checkpoint is mapped"},
	{"BZh", "bzip2-compressed: unpack it first"},
	{"\xfd7zXZ", "xz-compressed: unpack it first"},
	{"\x28\xb5\x2f\xfd", "zstd-compressed: unpack it first"},
	{"\x89HDF", "an HDF5 file, not a PyTorch or safetensors checkpoint"},
	{"fmgg", "a model of rwkv.cpp (ggmf), not a PyTorch or safetensors checkpoint: convert the one that it was made of"},
	{"tjgg", "an old model of llama.cpp (ggjt), not a PyTorch or safetensors checkpoint"},
	{"lmgg", "a ggml model of unknown kind, not a PyTorch or safetensors checkpoint"},
	{"\x93NUMPY", "a numpy array, not a PyTorch or safetensors checkpoint"},
}

// foreign says what a file is, by its first bytes, that is no checkpoint.
func foreign(head []byte) string {
	if len(head) == 0 {
		return "the file is empty"
	}
	for _, s := range signatures {
		if bytes.HasPrefix(head, []byte(s.prefix)) {
			return s.what
		}
	}
	if len(head) > 262 && string(head[257:262]) == "ustar" {
		return "a tar file, maybe of PyTorch before 0.2, not a checkpoint that can be read"
	}
	text := trimText(head)
	switch {
	case bytes.HasPrefix(text, []byte("<")) && isHTML(text):
		return "an HTML page, not a checkpoint: a download that went wrong?"
	case isText(head):
		return "a text file, not a checkpoint"
	case len(head) > 8 && head[8] == '{':
		return "not a checkpoint: its beginning is like that of safetensors, but the header would have more than 100 MB"
	case head[0] == 0x80:
		return "a pickle that torch.save did not write, or the beginning of one: not a checkpoint"
	}
	return "not a PyTorch or safetensors checkpoint"
}

// isIndex reports whether a file may be the index of several: it begins as JSON does.
func isIndex(head []byte) bool {
	return bytes.HasPrefix(trimText(head), []byte("{")) && isText(head)
}

// trimText returns a text in lower case, without a byte order mark and the space around it.
func trimText(head []byte) []byte {
	return bytes.ToLower(bytes.TrimSpace(bytes.TrimPrefix(head, []byte("\xef\xbb\xbf"))))
}

// isHTML reports whether a text has one of the tags that pages begin with.
func isHTML(text []byte) bool {
	return slices.ContainsFunc([]string{"<!doctype html", "<html", "<head", "<body"}, func(tag string) bool {
		return bytes.Contains(text, []byte(tag))
	})
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
