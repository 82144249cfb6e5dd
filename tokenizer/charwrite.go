package tokenizer

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"unicode/utf8"
)

// NewChar returns a character vocabulary in which runes[i] has the id i. It is an error if runes is
// empty, has one twice, or one that isn't a character.
func NewChar(runes []rune) (Tokenizer, error) {
	for _, r := range runes {
		if !utf8.ValidRune(r) {
			return nil, fmt.Errorf("%U is no character", r)
		}
	}
	var b bytes.Buffer
	if err := WriteMeta(&b, runes); err != nil {
		return nil, err
	}
	return ReadMeta(&b) // which checks the rest
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
