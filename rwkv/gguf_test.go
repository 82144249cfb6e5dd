package rwkv

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"microrwkv/tokenizer"
)

const ggufData = "testdata/golden/gguf/"

// Every hostile GGUF file is refused with an error that names the file and what is wrong.
func TestOpenRefusesHostileGGUF(t *testing.T) {
	var cases []struct {
		File  string
		Must  string
		Words []string `json:"error_should_name"`
	}
	readJSON(t, checkpointData+"gguf/hostile/cases.json", &cases)
	for _, c := range cases {
		m, err := Open(checkpointData + "gguf/hostile/" + c.File)
		if err == nil {
			m.Close()
			if c.Must == "error" {
				t.Errorf("%s: opened", c.File)
			}
			continue
		}
		for _, word := range append(c.Words, c.File) {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%s: error %q doesn't name %q", c.File, err, word)
			}
		}
	}
}

// The vocabulary of the file's metadata.
func TestGGUFTokenizer(t *testing.T) {
	m, err := Open(ggufData + "rwkv7-q8_0.gguf")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	tok, err := m.Tokenizer()
	if err != nil {
		t.Fatal(err)
	}
	var want struct {
		Cases []struct {
			Text string
			IDs  []int
		}
	}
	readJSON(t, checkpointData+"gguf/meta/tokens.json", &want)
	for _, c := range want.Cases {
		ids, err := tok.Encode(c.Text)
		if err != nil || !slices.Equal(ids, c.IDs) || tok.Decode(ids) != c.Text {
			t.Errorf("Encode(%q) = %v, %v, want %v", c.Text, ids, err, c.IDs)
		}
	}
	if len(want.Cases) == 0 || tok.EndOfText() != 0 || tok.Decode([]int{0}) != "" {
		t.Errorf("%d cases; the end is %d", len(want.Cases), tok.EndOfText())
	}
	if ids, err := tok.Encode("<s>"); err != nil || len(ids) != 3 {
		t.Errorf("<s> is a special token: %v, %v", ids, err)
	}
}

func TestUnescape(t *testing.T) {
	for in, want := range map[string]string{
		`a`: "a", `\t\n\r\\\'`: "\t\n\r\\'", `\x41\xe7\x8C`: "A\xe7\x8c", `\q"`: `q"`, "猫": "猫",
	} {
		if got, err := unescape(in); got != want || err != nil {
			t.Errorf("unescape(%q) = %q, %v, want %q", in, got, err, want)
		}
	}
	for _, in := range []string{`\`, `a\x`, `\x4`, `\x4g`} {
		if got, err := unescape(in); err == nil {
			t.Errorf("unescape(%q) = %q", in, got)
		}
	}
}

// patched returns a model of the golden data with bytes of its file replaced by as many others.
func patched(t *testing.T, name, from, to string) []byte {
	t.Helper()
	b, err := os.ReadFile(ggufData + name)
	if err != nil || len(from) != len(to) || strings.Count(string(b), from) != 1 {
		t.Fatalf("%s: %v, %d times %q", name, err, strings.Count(string(b), from), from)
	}
	return []byte(strings.Replace(string(b), from, to, 1))
}

// What is wrong with a model is told by the names that its file has.
func TestGGUFErrors(t *testing.T) {
	const file = "rwkv7-q8_0.gguf"
	for _, c := range []struct{ from, to, want string }{
		{"general.architecture\x08\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00rwkv7", "general.architecture\x08\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00rwkv9", `"rwkv9": want rwkv6 or rwkv7`},
		{"rwkv7.wkv.head_size\x04\x00\x00\x00\x40", "rwkv7.wkv.head_size\x04\x00\x00\x00\x30", "rwkv7.wkv.head_size = 48"},
		{"rwkv7.block_count\x04\x00\x00\x00\x02", "rwkv7.block_count\x04\x00\x00\x00\x03", "rwkv7.block_count = 3, but by the tensors it is 2"},
		{"blk.1.time_mix_k_k.weight", "blk.1.time_mix_k_q.weight", `"blk.1.time_mix_k_k.weight": no such tensor`},
		{"blk.1.time_mix_lerp_fused.weight", "blk.1.time_mix_lerp_fusad.weight", `"blk.1.time_mix_lerp_fused.weight": no such tensor`},
		{"token_embd.weight", "token_embe.weight", `"token_embd.weight": no such tensor`},
		{"rwkv7.attention.layer_norm_epsilon\x06\x00\x00\x00\xac\xc5\x27\x37", "rwkv7.attention.layer_norm_epsilon\x06\x00\x00\x00\x00\x00\x80\x3f", "layer_norm_epsilon is 1"},
	} {
		_, err := OpenBytes("x.gguf", patched(t, file, c.from, c.to))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: error %v, want one with %q", c.to, err, c.want)
		}
	}
	m, err := OpenBytes("x.gguf", patched(t, file, `\x7f`, `\xzz`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Tokenizer(); err == nil || !strings.Contains(err.Error(), "tokenizer.ggml.tokens: token 128") {
		t.Errorf("a broken escape: %v", err)
	}
	for name := range ggufRefused {
		if ggufModels[name] != nil {
			t.Errorf("%s is refused and isn't", name)
		}
	}
}

// A GGUF file in a folder of its own is the folder's model.
func TestGGUFFolder(t *testing.T) {
	dir := t.TempDir()
	b, err := os.ReadFile(ggufData + "rwkv7-q8_0.gguf")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a.gguf"), b, 0o666); err != nil {
		t.Fatal(err)
	}
	m, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	var tok tokenizer.Tokenizer
	if tok, err = m.Tokenizer(); err != nil || tok.VocabSize() != m.Config().VocabSize {
		t.Errorf("%v", err)
	}
}
