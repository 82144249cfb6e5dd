package cli

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"microrwkv/rwkv"
	"microrwkv/tokenizer"
	_ "microrwkv/tokenizer/bpe"  // reads tokenizer.json
	_ "microrwkv/tokenizer/gpt2" // those that --tokenizer knows by name
	_ "microrwkv/tokenizer/neox"
	_ "microrwkv/tokenizer/world"
)

// EndOfText returns the id that ends a document in the vocabulary that the model's kind and size
// suggest, for programs that use no tokenizer; -1 if they suggest none.
func EndOfText(m *rwkv.Model) int {
	v, err := m.Vocabulary()
	if err != nil {
		return -1
	}
	return v.EndOfText
}

// Tokenizer returns the tokenizer of that name, "gpt2", "world", "neox" or the path of a
// tokenizer.json or a character vocabulary. Without a name it is the model's own.
func Tokenizer(name string, m *rwkv.Model) (tokenizer.Tokenizer, error) {
	if name != "" {
		return tokenizer.Open(name)
	}
	tok, err := m.Tokenizer()
	if err != nil {
		return nil, fmt.Errorf("%w; --tokenizer names another one, --tokens takes ids", err)
	}
	return tok, nil
}

// TokenizerUsage describes a flag for Tokenizer's name.
const TokenizerUsage = "gpt2, world, neox, or the path of a tokenizer.json or meta.pkl (default: what the number of ids tells, or lies beside the model)"

// Encode returns the ids of a text, which the model must have; special is for
// tokenizer.EncodeSpecial.
func Encode(t tokenizer.Tokenizer, m *rwkv.Model, text string, special bool) ([]int, error) {
	encode := t.Encode
	if special {
		encode = func(text string) ([]int, error) { return tokenizer.EncodeSpecial(t, text) }
	}
	ids, err := encode(text)
	if err != nil {
		return nil, err
	}
	if err := m.CheckIDs(ids); err != nil {
		return nil, fmt.Errorf("the tokenizer has %d ids, the model %d: %w; --tokenizer names another one", t.VocabSize(), m.Config().VocabSize, err)
	}
	return ids, nil
}

// IDs parses token ids separated by commas.
func IDs(list string) ([]int, error) {
	var ids []int
	for _, f := range strings.Split(list, ",") {
		id, err := strconv.Atoi(strings.TrimSpace(f))
		if err != nil {
			return nil, fmt.Errorf("token id %q: want integers separated by commas", f)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// Text returns a text argument: itself, or the text of the file behind "FILE:", of stdin behind
// "FILE:-".
func Text(arg string, binary bool) (string, error) {
	path, ok := strings.CutPrefix(arg, "FILE:")
	if !ok {
		return arg, nil
	}
	return ReadText(path, binary)
}

// ReadText returns the text of a file, of stdin for "-", with the ends of lines as \n unless binary is
// set.
func ReadText(path string, binary bool) (string, error) {
	var b []byte
	var err error
	if path == "-" {
		b, err = io.ReadAll(os.Stdin)
	} else {
		b, err = os.ReadFile(path)
	}
	text := string(b)
	if !binary {
		text = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text)
	}
	return text, err
}

// Piped returns the text on stdin, if that is a file or a pipe, and not a terminal.
func Piped(binary bool) (string, error) {
	info, err := os.Stdin.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice != 0 {
		return "", nil
	}
	text, err := ReadText("-", binary)
	if !binary { // as the shell's $(…) does with what a command prints
		text = strings.TrimSuffix(text, "\n")
	}
	return text, err
}
