// Package vocab is the decoding half of the tokenizers: the bytes of every id.
package vocab

//go:generate go run gen.go r50k_base.tiktoken rwkv_vocab_v20230424.txt

// Vocab holds the bytes of every token: id's are text[ends[id-1]:ends[id]], from 0 for the first.
// Ids that stand for no bytes are empty.
type Vocab struct {
	text string
	ends []uint32
}

// New returns the vocabulary in which id i is tokens[i].
func New(tokens []string) Vocab {
	n := 0
	for _, t := range tokens {
		n += len(t)
	}
	text, ends := make([]byte, 0, n), make([]uint32, len(tokens))
	for i, t := range tokens {
		text = append(text, t...)
		ends[i] = uint32(len(text))
	}
	return Vocab{string(text), ends}
}

// Unpack reads the tokens that gen.go packed and gives them the ids from first on. A token is stored
// as the number of bytes it shares with the start of the token before it, the number of bytes that
// follow, and those bytes.
func Unpack(packed string, first int) Vocab {
	text := make([]byte, 0, 2*len(packed))
	ends := make([]uint32, first, 1<<16)
	prev := 0
	for len(packed) > 0 {
		shared, n := int(packed[0]), int(packed[1])
		start := len(text)
		text = append(text, text[prev:prev+shared]...)
		text = append(text, packed[2:2+n]...)
		ends = append(ends, uint32(len(text)))
		prev, packed = start, packed[2+n:]
	}
	return Vocab{string(text), ends}
}

// Token returns the bytes of id, none if there is no such id.
func (v *Vocab) Token(id int) string {
	if id < 0 || id >= len(v.ends) {
		return ""
	}
	start := uint32(0)
	if id > 0 {
		start = v.ends[id-1]
	}
	return v.text[start:v.ends[id]]
}

// AppendToken appends the bytes of id to dst.
func (v *Vocab) AppendToken(dst []byte, id int) []byte { return append(dst, v.Token(id)...) }

// Decode returns the bytes of all ids, joined.
func (v *Vocab) Decode(ids []int) string {
	n := 0
	for _, id := range ids {
		n += len(v.Token(id))
	}
	dst := make([]byte, 0, n)
	for _, id := range ids {
		dst = append(dst, v.Token(id)...)
	}
	return string(dst)
}

// VocabSize returns one more than the largest id.
func (v *Vocab) VocabSize() int { return len(v.ends) }

// Add gives the next id to a token.
func (v *Vocab) Add(token string) {
	v.text += token
	v.ends = append(v.ends, uint32(len(v.text)))
}
