package rwkv

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"microrwkv/tokenizer"
)

// Vocabulary returns the tokenizer, of those that models of its kind are trained with and the program
// imports, that the model's number of ids fits. The error tells the numbers.
func (m *Model) Vocabulary() (tokenizer.Entry, error) {
	ids := m.config.VocabSize
	var reasons []string
	for _, name := range m.family.vocabularies {
		e, err := tokenizer.Lookup(name)
		switch {
		case err != nil:
			reasons = append(reasons, err.Error())
		case e.Fits(ids):
			return e, nil
		default:
			reasons = append(reasons, fmt.Sprintf("%s has %d", name, e.VocabSize))
		}
	}
	return tokenizer.Entry{}, fmt.Errorf("no tokenizer for a model of %d ids: %s", ids, strings.Join(reasons, ", "))
}

// Tokenizer returns the tokenizer of the model: that in its file, which GGUF files have, or that of a
// tokenizer.json beside it, which a Hugging Face folder has, or else the one that fits of Vocabulary, or the character vocabulary in a
// meta.pkl beside the file. The program must import the packages of tokenizer.json and of Vocabulary. If there is none that
// fits, the error tells the numbers.
func (m *Model) Tokenizer() (tokenizer.Tokenizer, error) {
	if m.ownTokenizer != nil {
		if tok, err := m.ownTokenizer(); tok != nil || err != nil {
			return tok, err
		}
	}
	tok, problem := m.beside("tokenizer.json", tokenizer.OpenJSON)
	if tok != nil {
		return tok, nil
	}
	e, err := m.Vocabulary()
	if err == nil {
		return e.Open()
	}
	if problem != nil {
		return nil, problem
	}
	if tok, problem = m.beside("meta.pkl", tokenizer.Char); tok != nil || problem != nil {
		return tok, problem
	}
	return nil, fmt.Errorf("%w, and no meta.pkl lies beside it", err)
}

// beside returns the tokenizer in a file of that name in the model's folder, nil if there is no such file.
// One that doesn't fit the model is an error.
func (m *Model) beside(name string, open func(path string) (tokenizer.Tokenizer, error)) (tokenizer.Tokenizer, error) {
	if m.path == "" {
		return nil, nil
	}
	path := filepath.Join(filepath.Dir(m.path), name)
	if _, err := os.Stat(path); err != nil {
		return nil, nil
	}
	tok, err := open(path)
	if err != nil {
		return nil, err
	}
	if ids := m.config.VocabSize; !tokenizer.Padded(tok.VocabSize(), ids) {
		return nil, fmt.Errorf("no tokenizer for a model of %d ids: %s has %d", ids, path, tok.VocabSize())
	}
	return tok, nil
}
