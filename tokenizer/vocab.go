package tokenizer

// vocab holds the bytes of every token: id's are text[ends[id-1]:ends[id]], from 0 for the first.
// Ids that stand for no bytes are empty. It is the decoding half of every Tokenizer here.
type vocab struct {
	text string
	ends []uint32
}

// newVocab returns the vocabulary in which id i is tokens[i].
func newVocab(tokens []string) vocab {
	n := 0
	for _, t := range tokens {
		n += len(t)
	}
	text, ends := make([]byte, 0, n), make([]uint32, len(tokens))
	for i, t := range tokens {
		text = append(text, t...)
		ends[i] = uint32(len(text))
	}
	return vocab{string(text), ends}
}

// unpack reads the tokens that gen.go packed and gives them the ids from first on. A token is stored
// as the number of bytes it shares with the start of the token before it, the number of bytes that
// follow, and those bytes.
func unpack(packed string, first int) vocab {
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
	return vocab{string(text), ends}
}

// token returns the bytes of id, none if there is no such id.
func (v *vocab) token(id int) string {
	if id < 0 || id >= len(v.ends) {
		return ""
	}
	start := uint32(0)
	if id > 0 {
		start = v.ends[id-1]
	}
	return v.text[start:v.ends[id]]
}

func (v *vocab) AppendToken(dst []byte, id int) []byte { return append(dst, v.token(id)...) }

func (v *vocab) Decode(ids []int) string {
	n := 0
	for _, id := range ids {
		n += len(v.token(id))
	}
	dst := make([]byte, 0, n)
	for _, id := range ids {
		dst = append(dst, v.token(id)...)
	}
	return string(dst)
}

func (v *vocab) VocabSize() int { return len(v.ends) }
