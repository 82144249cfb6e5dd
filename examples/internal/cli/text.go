package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"microrwkv/rwkv"
	"microrwkv/tokenizer"
)

// vocabulary is the one that models of a kind are usually trained with. A model has it if it has
// at least so many ids.
type vocabulary struct {
	name      string
	ids       int
	endOfText int
}

func vocabularyOf(m *rwkv.Model) vocabulary {
	if m.Config().Kind.Vocabulary() == "world" {
		return vocabulary{"world", 65530, 0}
	}
	return vocabulary{"gpt2", 50257, 50256}
}

// EndOfText returns the id that ends a document in the vocabulary that the model's kind and size
// suggest, for programs that use no tokenizer; -1 if they suggest none.
func EndOfText(m *rwkv.Model) int {
	v := vocabularyOf(m)
	if m.Config().VocabSize < v.ids {
		return -1
	}
	return v.endOfText
}

// Tokenizer returns the tokenizer of that name, "gpt2", "world" or the path of a character
// vocabulary. Without a name it is the one of the model's kind, or if the model has too few ids
// for that, the meta.pkl beside its file, where there is one.
func Tokenizer(name string, m *rwkv.Model, modelPath string) (tokenizer.Tokenizer, error) {
	if name == "" {
		v := vocabularyOf(m)
		name = v.name
		if modelPath != "" && m.Config().VocabSize < v.ids {
			meta := filepath.Join(filepath.Dir(modelPath), "meta.pkl")
			if _, err := os.Stat(meta); err == nil {
				name = meta
			}
		}
	}
	switch name {
	case "gpt2":
		return tokenizer.GPT2()
	case "world":
		return tokenizer.World()
	}
	return tokenizer.Char(name)
}

// TokenizerUsage describes a flag for Tokenizer's name.
const TokenizerUsage = "gpt2, world, or the path of a meta.pkl (default: gpt2, world for RWKV-7; for a model with too few ids the meta.pkl beside it)"

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
