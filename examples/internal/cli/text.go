package cli

import (
	"fmt"
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

// Text returns a text argument: itself, or the text of the file behind "FILE:".
func Text(arg string) (string, error) {
	path, ok := strings.CutPrefix(arg, "FILE:")
	if !ok {
		return arg, nil
	}
	b, err := os.ReadFile(path)
	return string(b), err
}

// EndOfTurn is what a model in a chat writes after its answer, making up the user's next message.
const EndOfTurn = "\n\nUser:"

// Turn puts a message into the form that the official RWKV models chat in: no blank lines in it,
// and no space after the last colon, since that begins the answer's first token. A turn that isn't
// the first is set off from the one before.
func Turn(message string, first bool) string {
	var b strings.Builder
	if !first {
		b.WriteString("\n\n")
	}
	b.WriteString("User: ")
	message = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(strings.TrimSpace(message))
	for i, line := range strings.FieldsFunc(message, func(r rune) bool { return r == '\n' }) {
		if strings.TrimSpace(line) == "" {
			continue
		}
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(line)
	}
	return b.String() + "\n\nAssistant:"
}
