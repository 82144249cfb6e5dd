package rwkv

import (
	"fmt"
	"os"
	"path/filepath"

	"microrwkv/tokenizer"
)

// Tokenizer returns the tokenizer of the model: that of its kind, see Kind.Vocabulary, which the
// program must import, or if the model has another number of ids the character vocabulary in the
// meta.pkl beside its file. If there is none that fits, the error tells the numbers.
func (m *Model) Tokenizer() (tokenizer.Tokenizer, error) {
	ids := m.config.VocabSize
	usual, err := tokenizer.Lookup(m.config.Kind.Vocabulary())
	if err == nil && usual.Fits(ids) {
		return usual.Open()
	}
	if m.path != "" {
		meta := filepath.Join(filepath.Dir(m.path), "meta.pkl")
		if _, err := os.Stat(meta); err == nil {
			tok, err := tokenizer.Char(meta)
			if err != nil {
				return nil, err
			}
			if !tokenizer.Padded(tok.VocabSize(), ids) {
				return nil, fmt.Errorf("no tokenizer for a model of %d ids: %s has %d", ids, meta, tok.VocabSize())
			}
			return tok, nil
		}
	}
	if err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("no tokenizer for a model of %d ids: %s has %d, and no meta.pkl lies beside it", ids, usual.Name, usual.VocabSize)
}
