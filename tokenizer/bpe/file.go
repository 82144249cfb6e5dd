package bpe

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"golang.org/x/text/unicode/norm"

	"microrwkv/tokenizer"
	bytepair "microrwkv/tokenizer/internal/bpe"
)

const (
	maxFile = 128 << 20 // bytes of a tokenizer.json; the largest published ones have some 20 million
	maxID   = 1 << 22
	maxName = 4 << 20 // bytes of all added tokens together
)

// Open reads a tokenizer.json. Errors name the file and what of it isn't supported.
func Open(path string) (tokenizer.Tokenizer, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("more than %d bytes", maxFile)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	tok, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return tok, nil
}

// file is a tokenizer.json.
type file struct {
	AddedTokens  []added   `json:"added_tokens"`
	Normalizer   *step     `json:"normalizer"`
	PreTokenizer *step     `json:"pre_tokenizer"`
	PostProcess  *step     `json:"post_processor"`
	Decoder      *step     `json:"decoder"`
	Model        modelPart `json:"model"`
}

// added is a token that isn't made by merging.
type added struct {
	ID         int    `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"`
	LStrip     bool   `json:"lstrip"`
	RStrip     bool   `json:"rstrip"`
	Normalized bool   `json:"normalized"`
	Special    bool   `json:"special"`
}

// step is a normalizer, a pre-tokenizer, a post-processor or a decoder.
type step struct {
	Type           string `json:"type"`
	Normalizers    []step `json:"normalizers"`
	PreTokenizers  []step `json:"pretokenizers"`
	Decoders       []step `json:"decoders"`
	Processors     []step `json:"processors"`
	AddPrefixSpace *bool  `json:"add_prefix_space"`
	UseRegex       *bool  `json:"use_regex"`
	Pattern        struct {
		Regex  string
		String string
	} `json:"pattern"`
	Behavior string `json:"behavior"`
	Invert   bool   `json:"invert"`
}

type modelPart struct {
	Type         string         `json:"type"`
	Dropout      *float64       `json:"dropout"`
	Unknown      *string        `json:"unk_token"`
	Prefix       *string        `json:"continuing_subword_prefix"`
	Suffix       *string        `json:"end_of_word_suffix"`
	ByteFallback bool           `json:"byte_fallback"`
	IgnoreMerges bool           `json:"ignore_merges"`
	Vocab        map[string]int `json:"vocab"`
	Merges       []merge        `json:"merges"`
}

// merge is two tokens that may be joined: "a b" or ["a", "b"].
type merge struct {
	joined string
	both   []string // nil if they are joined
	err    error    // it is neither
}

// UnmarshalJSON implements json.Unmarshaler. What is wrong is told with the merge's number.
func (m *merge) UnmarshalJSON(data []byte) error {
	if err := json.Unmarshal(data, &m.joined); err != nil {
		m.err = json.Unmarshal(data, &m.both)
	}
	return nil
}

// parts returns the two tokens.
func (m *merge) parts() []string {
	if m.both == nil {
		return strings.Split(m.joined, " ")
	}
	return m.both
}

// Parse reads the content of a tokenizer.json.
func Parse(data []byte) (tokenizer.Tokenizer, error) {
	var f file
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, err
	}
	b, err := f.tokenizer()
	if err != nil {
		return nil, err
	}
	return b, nil
}

// tokenizer returns the tokenizer that the file describes.
func (f *file) tokenizer() (*bpe, error) {
	b := &bpe{whole: f.Model.IgnoreMerges, endOfText: -1}
	if err := errors.Join(b.normalizer(f.Normalizer), b.preTokenizer(f.PreTokenizer), f.checkRest()); err != nil {
		return nil, err
	}
	ids, err := b.vocabulary(f)
	if err == nil {
		err = b.readMerges(f.Model.Merges, ids)
	}
	if err == nil {
		err = b.added(f.AddedTokens)
	}
	if err != nil {
		return nil, err
	}
	return b, nil
}

// unsupported is the error for what the file asks for and this package doesn't do.
func unsupported(what string, v any) error {
	return fmt.Errorf("%s %q isn't supported", what, fmt.Sprint(v))
}

// normalizer accepts none and NFC.
func (b *bpe) normalizer(s *step) error {
	switch {
	case s == nil:
		return nil
	case s.Type == "NFC":
		b.nfc = true
		return nil
	case s.Type == "Sequence":
		for i := range s.Normalizers {
			if err := b.normalizer(&s.Normalizers[i]); err != nil {
				return err
			}
		}
		return nil
	}
	return unsupported("normalizer", s.Type)
}

// preTokenizer accepts ByteLevel with its own expression, or a Split by a known one before it.
func (b *bpe) preTokenizer(s *step) error {
	if s == nil {
		return errors.New("no pre_tokenizer: want ByteLevel")
	}
	steps := []step{*s}
	if s.Type == "Sequence" {
		steps = s.PreTokenizers
	}
	for i, p := range steps {
		switch {
		case p.Type == "Split" && i == 0:
			split, ok := patterns[p.Pattern.Regex]
			if !ok {
				return unsupported("pre_tokenizer's pattern", p.Pattern.Regex+p.Pattern.String)
			}
			if p.Behavior != "Isolated" || p.Invert {
				return unsupported("pre_tokenizer's Split", fmt.Sprintf("%s, invert %v", p.Behavior, p.Invert))
			}
			b.split, b.pattern = split, p.Pattern.Regex
		case p.Type == "ByteLevel" && i == len(steps)-1:
			if p.AddPrefixSpace != nil && *p.AddPrefixSpace {
				return unsupported("pre_tokenizer's", "add_prefix_space")
			}
			if p.UseRegex == nil || *p.UseRegex {
				if b.split != nil {
					return unsupported("pre_tokenizer", "Split and use_regex together")
				}
				b.split, b.pattern = splitGPT2, gpt2Pattern
			}
			if b.split == nil { // the text as a whole
				b.split = func(text string) int { return len(text) }
			}
			return nil
		default:
			return unsupported("pre_tokenizer", p.Type)
		}
	}
	return errors.New("no ByteLevel pre_tokenizer")
}

// checkRest checks what must be as it usually is. A post-processor adds tokens around a text, which
// Encode doesn't.
func (f *file) checkRest() error {
	m := f.Model
	var errs []error
	check := func(ok bool, what string, v any) {
		if !ok {
			errs = append(errs, unsupported(what, v))
		}
	}
	check(m.Type == "BPE" || m.Type == "" && len(m.Merges) > 0, "model", m.Type)
	check(m.Dropout == nil || *m.Dropout == 0, "model's", "dropout")
	check(m.Prefix == nil || *m.Prefix == "", "model's continuing_subword_prefix", text(m.Prefix))
	check(m.Suffix == nil || *m.Suffix == "", "model's end_of_word_suffix", text(m.Suffix))
	check(!m.ByteFallback, "model's", "byte_fallback")
	if d := f.Decoder; d == nil {
		errs = append(errs, errors.New("no decoder: want ByteLevel"))
	} else {
		single := d.Type == "Sequence" && len(d.Decoders) == 1 && d.Decoders[0].Type == "ByteLevel"
		check(d.Type == "ByteLevel" || single, "decoder", d.Type)
	}
	if p := f.PostProcess; p != nil {
		for _, q := range append([]step{*p}, p.Processors...) {
			known := []string{"ByteLevel", "TemplateProcessing", "Sequence"}
			check(slices.Contains(known, q.Type), "post_processor", q.Type)
		}
	}
	return errors.Join(errs...)
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// vocabulary takes the model's tokens, and returns their ids by their spelling in the file.
func (b *bpe) vocabulary(f *file) (map[string]int, error) {
	if len(f.Model.Vocab) == 0 {
		return nil, errors.New("the model has no vocab")
	}
	size := 0
	for _, id := range f.Model.Vocab {
		size = max(size, id+1)
	}
	for _, a := range f.AddedTokens {
		size = max(size, a.ID+1)
	}
	if size > maxID {
		return nil, fmt.Errorf("id %d, want at most %d", size-1, maxID-1)
	}
	b.tokens = make([]string, size)
	ids := make(map[string]int, len(f.Model.Vocab))
	taken := make([]bool, size)
	whole := make(map[string]int, len(f.Model.Vocab)) // by their bytes
	for _, spelled := range slices.Sorted(maps.Keys(f.Model.Vocab)) {
		id := f.Model.Vocab[spelled]
		if id < 0 || taken[id] {
			return nil, fmt.Errorf("token %q has the id %d of another, or none", spelled, id)
		}
		taken[id] = true
		ids[spelled] = id
		bytes, ok := fromByteLevel(spelled)
		if ok {
			whole[bytes] = id
		} else { // no token of bytes: an added one, which it must be
			bytes = spelled
		}
		b.tokens[id] = bytes
	}
	b.merges = bytepair.New(whole, len(f.Model.Merges))
	if unknown := f.Model.Unknown; unknown != nil && *unknown != "" && !b.merges.Complete() {
		return nil, unsupported("a token for some bytes is missing, and model's unk_token", *unknown)
	}
	return ids, nil
}

// readMerges takes the merges, in the order of their ranks.
func (b *bpe) readMerges(merges []merge, ids map[string]int) error {
	for rank, m := range merges {
		both := m.parts()
		if m.err != nil {
			return fmt.Errorf("merge %d: %w", rank, m.err)
		}
		if len(both) != 2 {
			return fmt.Errorf("merge %d has %d parts, want 2", rank, len(both))
		}
		left, ok1 := ids[both[0]]
		right, ok2 := ids[both[1]]
		id, ok3 := ids[both[0]+both[1]]
		if !ok1 || !ok2 || !ok3 {
			return fmt.Errorf("merge %d of %q and %q: it or one of them is no token", rank, both[0], both[1])
		}
		b.merges.Add(left, right, id, rank) // of equal ones the last counts, as in the library
	}
	return nil
}

// endNames are how published models call the token that ends a document.
var endNames = []string{tokenizer.EndOfTextName, "<|end_of_text|>", "<|im_end|>", "</s>"}

// added takes the added tokens.
func (b *bpe) added(list []added) error {
	ends := map[string]int{}
	room := maxName
	for _, a := range list {
		if room -= len(a.Content); room < 0 {
			return fmt.Errorf("added tokens of more than %d bytes", maxName)
		}
		if a.ID < 0 || a.Content == "" {
			return fmt.Errorf("added token %q has the id %d", a.Content, a.ID)
		}
		for _, flag := range []struct {
			name string
			on   bool
		}{{"single_word", a.SingleWord}, {"lstrip", a.LStrip}, {"rstrip", a.RStrip}} {
			if flag.on {
				return unsupported(fmt.Sprintf("added token %q with", a.Content), flag.name)
			}
		}
		to, name := &b.raw, a.Content
		if a.Normalized {
			to = &b.normal
			if b.nfc {
				name = norm.NFC.String(name)
			}
		}
		b.tokens[a.ID] = name
		if bytes, ok := fromByteLevel(name); ok { // sic: the library decodes them as if they were spelled bytes
			b.tokens[a.ID] = bytes
		}
		if a.Special {
			ends[a.Content] = a.ID
			b.tokens[a.ID] = ""
		}
		if *to == nil {
			*to = &names{id: -1, next: map[byte]*names{}}
		}
		(*to).put(name, a.ID)
	}
	for _, name := range endNames {
		if id, ok := ends[name]; ok {
			b.endOfText = id
			break
		}
	}
	return nil
}

// byteOf is how files spell bytes: printable ones of Latin-1 as themselves, the others as the
// characters from U+0100 on, in order.
var byteOf = func() map[rune]byte {
	bytes := map[rune]byte{}
	more := rune(0x100)
	for i := range 256 {
		if r := rune(i); r >= '!' && r <= '~' || r >= '¡' && r <= '¬' || r >= '®' {
			bytes[r] = byte(i)
		} else {
			bytes[more] = byte(i)
			more++
		}
	}
	return bytes
}()

// spelling is byteOf the other way.
var spelling = func() (s [256]rune) {
	for r, b := range byteOf {
		s[b] = r
	}
	return s
}()

// toByteLevel returns how files spell a token.
func toByteLevel(token string) string {
	runes := make([]rune, len(token))
	for i := range len(token) {
		runes[i] = spelling[token[i]]
	}
	return string(runes)
}

// fromByteLevel returns the bytes that a token stands for, and whether it stands for any.
func fromByteLevel(spelled string) (string, bool) {
	bytes := make([]byte, 0, len(spelled))
	for _, r := range spelled {
		b, ok := byteOf[r]
		if !ok {
			return "", false
		}
		bytes = append(bytes, b)
	}
	return string(bytes), true
}
