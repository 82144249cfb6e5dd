package tokenizer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"microrwkv/tokenizer/internal/vocab"
)

// NewChar returns a character vocabulary in which runes[i] has the id i. It is an error if runes is
// empty, has one twice, or one that isn't a character.
func NewChar(runes []rune) (Tokenizer, error) {
	if len(runes) == 0 {
		return nil, errors.New("a character vocabulary without characters")
	}
	c := &chars{ids: make(map[rune]int, len(runes))}
	tokens := make([]string, len(runes))
	for i, r := range runes {
		if _, ok := c.ids[r]; ok || !utf8.ValidRune(r) {
			return nil, fmt.Errorf("character %q (%U) twice, or none", r, r)
		}
		c.ids[r], tokens[i] = i, string(r)
	}
	c.Vocab = vocab.New(tokens)
	return c, nil
}

// WriteMeta writes the meta.pkl of a character vocabulary in which runes[i] has the id i: what ReadMeta
// and nanoGPT read.
func WriteMeta(w io.Writer, runes []rune) error {
	p := []byte{0x80, 2, '}', '('}
	text := func(s string) {
		p = append(p, 'X')
		p = binary.LittleEndian.AppendUint32(p, uint32(len(s)))
		p = append(p, s...)
	}
	number := func(n int) {
		p = append(p, 'J')
		p = binary.LittleEndian.AppendUint32(p, uint32(n))
	}
	text("vocab_size")
	number(len(runes))
	for _, name := range [...]string{"itos", "stoi"} {
		text(name)
		p = append(p, '}', '(')
		for i, r := range runes {
			if name == "itos" {
				number(i)
				text(string(r))
			} else {
				text(string(r))
				number(i)
			}
		}
		p = append(p, 'u')
	}
	_, err := w.Write(append(p, 'u', '.'))
	return err
}
