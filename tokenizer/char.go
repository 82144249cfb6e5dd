package tokenizer

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"unicode/utf8"

	"microrwkv/checkpoint/pickle"
	"microrwkv/tokenizer/internal/vocab"
)

// maxChars bounds the ids of a character vocabulary: there are no more characters than that.
const maxChars = utf8.MaxRune + 1

// What a vocabulary of all Unicode's 150,000 assigned characters stays below, in the file and to
// decode.
const (
	maxMetaBytes  = 8 << 20
	maxMetaMemory = 256 << 20
)

// Char reads the character vocabulary in a meta.pkl, as nanoGPT's data/shakespeare_char/prepare.py
// writes it. Errors name the file.
func Char(path string) (Tokenizer, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	tok, err := ReadMeta(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return tok, nil
}

// ReadMeta is Char for an open file. The pickle is a dict with stoi (character to id), itos (id to
// character, a dict or a list) or both, which must then agree, and perhaps vocab_size, no less than
// the ids need. Anything else in it is ignored. There is no end of a document.
//
// The file may come from anywhere: a pickle that names a class, or wants more memory than a
// vocabulary of all Unicode needs, is refused. ReadMeta reads r to its end.
func ReadMeta(r io.Reader) (Tokenizer, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxMetaBytes+1))
	if err != nil {
		return nil, err
	}
	meta, err := unpickle(data)
	if err != nil {
		return nil, err
	}
	top, ok := meta.(*pickle.Dict)
	if !ok {
		return nil, errors.New("meta pickle: not a dict")
	}
	return charsOf(top)
}

// metaDecoder decodes plain values only.
var metaDecoder = pickle.Decoder{
	FindClass: func(module, name string) (any, error) {
		return nil, fmt.Errorf("class %q is not allowed, only plain values are", module+"."+name)
	},
	PersistentLoad: func(any) (any, error) { return nil, errors.New("objects from elsewhere are not allowed") },
	MaxMemory:      maxMetaMemory,
	Binary:         true,
}

// unpickle decodes a pickle of plain values.
func unpickle(data []byte) (any, error) {
	if len(data) > maxMetaBytes {
		return nil, fmt.Errorf("meta pickle: larger than %d bytes", maxMetaBytes)
	}
	value, _, err := metaDecoder.Decode(data)
	if err != nil {
		return nil, fmt.Errorf("meta %w", err)
	}
	return value, nil
}

// chars is a character vocabulary. Entries of more than one character, <UNK> for one, are decoded and
// never encoded, as by nanoGPT.
type chars struct {
	vocab.Vocab
	ids map[rune]int // of the entries of one character
}

func (c *chars) EndOfText() int { return -1 }

// Encode gives one id for each character. It fails with an [UnknownRuneError] on the first that the
// vocabulary lacks.
func (c *chars) Encode(text string) ([]int, error) {
	ids := make([]int, 0, len(text))
	for i, r := range text {
		id, ok := c.ids[r]
		if r == utf8.RuneError {
			_, n := utf8.DecodeRuneInString(text[i:])
			ok = ok && n > 1 // U+FFFD itself, not a byte that isn't UTF-8
		}
		if !ok {
			return nil, &UnknownRuneError{Rune: r, Offset: i}
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// charsOf builds the vocabulary that meta describes.
func charsOf(meta *pickle.Dict) (*chars, error) {
	stoi, _ := meta.Get("stoi")
	itos, _ := meta.Get("itos")
	size, _ := meta.Get("vocab_size")
	if stoi == nil && itos == nil {
		return nil, errors.New("meta pickle: neither stoi nor itos")
	}
	byText, err := readStoi(stoi)
	if err != nil {
		return nil, fmt.Errorf("meta pickle: stoi: %w", err)
	}
	byID, err := readItos(itos)
	if err != nil {
		return nil, fmt.Errorf("meta pickle: itos: %w", err)
	}
	switch {
	case itos == nil:
		byID, err = invert(byText)
	case stoi == nil:
		byText, err = invert(byID)
	default:
		err = agree(byText, byID)
	}
	if err != nil {
		return nil, fmt.Errorf("meta pickle: %w", err)
	}

	n := 0
	for id := range byID {
		n = max(n, id+1)
	}
	if size != nil {
		k, ok := size.(int64)
		if !ok || k < int64(n) || k > maxChars {
			return nil, fmt.Errorf("meta pickle: vocab_size is %v, the largest id %d", describe(size), n-1)
		}
		n = int(k)
	}
	if len(byID) == 0 {
		return nil, errors.New("meta pickle: no characters")
	}
	tokens := make([]string, n)
	for id, text := range byID {
		tokens[id] = text
	}
	c := &chars{vocab.New(tokens), make(map[rune]int, len(byText))}
	for text, id := range byText {
		if r, n := utf8.DecodeRuneInString(text); n == len(text) {
			c.ids[r] = id
		}
	}
	return c, nil
}

func readStoi(v any) (map[string]int, error) {
	ids := map[string]int{}
	if v == nil {
		return ids, nil
	}
	dict, ok := v.(*pickle.Dict)
	if !ok {
		return nil, fmt.Errorf("%s, want a dict", describe(v))
	}
	for i, key := range dict.Keys {
		text, id, err := entry(key, dict.Values[i])
		if err != nil {
			return nil, err
		}
		ids[text] = id
	}
	return ids, nil
}

func readItos(v any) (map[int]string, error) {
	texts := map[int]string{}
	switch v := v.(type) {
	case nil:
	case *pickle.Dict:
		for i, key := range v.Keys {
			text, id, err := entry(v.Values[i], key)
			if err != nil {
				return nil, err
			}
			texts[id] = text
		}
	case pickle.List:
		for i, s := range v {
			text, id, err := entry(s, int64(i))
			if err != nil {
				return nil, err
			}
			texts[id] = text
		}
	default:
		return nil, fmt.Errorf("%s, want a dict or a list", describe(v))
	}
	return texts, nil
}

// maxEntry is the most bytes of an entry.
const maxEntry = 1000

// entry checks one pair of a text and an id.
func entry(text, id any) (string, int, error) {
	s, ok := text.(string)
	if !ok || s == "" || len(s) > maxEntry || !utf8.ValidString(s) {
		return "", 0, fmt.Errorf("%s, want a character", describe(text))
	}
	i, ok := id.(int64)
	if !ok || i < 0 || i >= maxChars {
		return "", 0, fmt.Errorf("the id of %q is %s, want 0 to %d", s, describe(id), maxChars-1)
	}
	return s, int(i), nil
}

func invert[K, V comparable](m map[K]V) (map[V]K, error) {
	inverse := make(map[V]K, len(m))
	for k, v := range m {
		inverse[v] = k
	}
	if len(inverse) != len(m) {
		return nil, errors.New("two characters have one id, or two ids one character")
	}
	return inverse, nil
}

// agree reports how byText and byID are not the inverse of each other; the error doesn't depend on
// the order of the maps.
func agree(byText map[string]int, byID map[int]string) error {
	var bad []string
	for text, id := range byText {
		if s, ok := byID[id]; !ok || s != text {
			bad = append(bad, text)
		}
	}
	if len(bad) > 0 {
		return fmt.Errorf("stoi and itos disagree about %q", slices.Min(bad))
	}
	if len(byText) != len(byID) {
		return fmt.Errorf("stoi has %d characters, itos %d", len(byText), len(byID))
	}
	return nil
}

// describe is a short form of a pickled value, whatever its size and even if it contains itself.
func describe(v any) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case string:
		if len(v) > 32 {
			return fmt.Sprintf("%q…", v[:32])
		}
		return fmt.Sprintf("%q", v)
	case int64, bool, float64:
		return fmt.Sprint(v)
	}
	return fmt.Sprintf("a %T", v)
}
