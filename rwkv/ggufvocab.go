package rwkv

import (
	"errors"
	"fmt"
	"strings"

	"microrwkv/checkpoint"
	"microrwkv/tokenizer"
)

// Tokenizers in the metadata of GGUF files: "rwkv", which takes the longest token, and "gpt2", which is any
// byte-level BPE.

const (
	ggufPrefix = "tokenizer.ggml."
	// ggufNFC says that text is normalized before it is encoded, which llama.cpp doesn't do and has no key for.
	ggufNFC = "microrwkv.tokenizer.nfc"
)

// The types of tokens.
const (
	ggufNormal, ggufUnknown, ggufControl, ggufDefined, ggufUnused int64 = 1, 2, 3, 4, 5
)

// ggufTokenizer returns the tokenizer in the metadata of a file for a model of so many ids: nil if it has
// none, or one of another kind, which has to be found otherwise.
func ggufTokenizer(f *checkpoint.File, ids int) (tokenizer.Tokenizer, error) {
	model, _ := f.Value(ggufPrefix + "model")
	if model != "rwkv" && model != "gpt2" {
		return nil, nil
	}
	fail := func(format string, args ...any) error {
		return fmt.Errorf("%s: %w", f.Name(), fmt.Errorf(ggufPrefix+format, args...))
	}
	list, err := ggufTexts(f, "tokens")
	if err != nil {
		return nil, err
	}
	if len(list) == 0 || len(list) > ids {
		return nil, fail("tokens: %d tokens for a model of %d ids", len(list), ids)
	}
	v, _ := f.Value(ggufPrefix + "token_type")
	numbers, _ := v.([]any)
	types := make([]int64, len(list))
	for i := range types {
		types[i] = ggufNormal
		if i < len(numbers) {
			types[i], _ = numbers[i].(int64)
		}
	}
	end := -1
	if model == "rwkv" {
		end = 0
	}
	if v, ok := f.Value(ggufPrefix + "eos_token_id"); ok {
		if n, isInt := v.(int64); !isInt || n < 0 || n >= int64(len(list)) {
			return nil, fail("eos_token_id is %s, want 0 to %d", quoted(v), len(list)-1)
		}
		end = int(v.(int64))
	}
	var tok tokenizer.Tokenizer
	if model == "gpt2" {
		tok, err = ggufBytePairs(f, list, types, end)
	} else {
		for i, text := range list {
			if list[i], err = unescape(text); err != nil {
				return nil, fail("tokens: token %d is %s: %w", i, quoted(text), errors.Join(err, errEscape))
			}
			if i == 0 || types[i] == ggufControl || types[i] == ggufUnused {
				list[i] = ""
			}
		}
		tok, err = tokenizer.LongestMatch(list, end)
	}
	if err != nil {
		return nil, fail("model %s: %w", model, err)
	}
	return tok, nil
}

// ggufTexts returns a list of strings of the tokenizer's.
func ggufTexts(f *checkpoint.File, name string) ([]string, error) {
	v, _ := f.Value(ggufPrefix + name)
	list, _ := v.([]any)
	texts := make([]string, len(list))
	for i, v := range list {
		text, ok := v.(string)
		if !ok {
			return nil, fmt.Errorf("%s: %s%s: element %d is %s, want a string", f.Name(), ggufPrefix, name, i, quoted(v))
		}
		texts[i] = text
	}
	return texts, nil
}

// ggufBytePairs returns the tokenizer of model "gpt2".
func ggufBytePairs(f *checkpoint.File, tokens []string, types []int64, end int) (tokenizer.Tokenizer, error) {
	p := &tokenizer.BytePairs{Tokens: tokens, Types: make([]tokenizer.TokenType, len(tokens)), EndOfText: end}
	for i, t := range types {
		switch t {
		case ggufControl, ggufUnknown:
			p.Types[i] = tokenizer.Special
		case ggufDefined:
			p.Types[i] = tokenizer.Added
		case ggufUnused:
			p.Tokens[i] = ""
		}
	}
	for n := len(tokens); n > 0 && p.Tokens[n-1] == "" && n-1 != end; n-- { // padding
		p.Tokens, p.Types = p.Tokens[:n-1], p.Types[:n-1]
	}
	var err error
	if p.Merges, err = ggufTexts(f, "merges"); err != nil {
		return nil, err
	}
	v, _ := f.Value(ggufPrefix + "pre")
	p.Pattern, _ = v.(string)
	v, _ = f.Value(ggufNFC)
	p.NFC = v == true
	return tokenizer.OfBytePairs(p)
}

// ggufVocabulary adds the tokenizer to the metadata: the file's own, that of a tokenizer.json beside it, or
// what the number of ids tells, if the program has it. Others are left out, as those of characters.
func (m *Model) ggufVocabulary(v map[string]any) {
	v[ggufPrefix+"model"] = "none"
	tok, longest := m.fileTokenizer()
	if tok == nil {
		return
	}
	if b, ok := tok.(tokenizer.BytePairer); ok {
		if p, ok := b.BytePairs(); ok && len(p.Tokens) <= m.config.VocabSize {
			m.putBytePairs(v, p)
		}
		return
	}
	if !longest {
		return
	}
	tokens, types := make([]any, m.config.VocabSize), make([]any, m.config.VocabSize)
	for id := range tokens {
		text := tok.Decode([]int{id})
		switch {
		case id == 0:
			tokens[id], types[id] = "<s>", ggufControl
		case text == "":
			tokens[id], types[id] = padName(id), ggufUnused
		default:
			tokens[id], types[id] = escape(text), ggufNormal
		}
		if text == "\n\n" {
			v[ggufPrefix+"eot_token_id"] = id
		}
	}
	v[ggufPrefix+"model"], v[ggufPrefix+"tokens"], v[ggufPrefix+"token_type"] = "rwkv", tokens, types
	v[ggufPrefix+"bos_token_id"], v[ggufPrefix+"eos_token_id"] = 0, 0
	v["tokenizer.chat_template"] = "rwkv-world"
}

// padName is the token of an id that has none.
func padName(id int) string { return fmt.Sprintf("[PAD%d]", id) }

// fileTokenizer returns the tokenizer to put into a file, nil for none, and whether it takes the longest
// token, id 0 being the end.
func (m *Model) fileTokenizer() (tok tokenizer.Tokenizer, longest bool) {
	if m.ownTokenizer != nil {
		if tok, err := m.ownTokenizer(); err == nil && tok != nil && tok.VocabSize() > 0 {
			return tok, true
		}
	}
	if tok, err := m.beside("tokenizer.json", tokenizer.OpenJSON); err == nil && tok != nil {
		return tok, false
	}
	e, err := m.Vocabulary()
	if err != nil {
		return nil, false
	}
	if tok, err = e.Open(); err != nil {
		return nil, false
	}
	return tok, e.Name == "world"
}

// putBytePairs adds a tokenizer of model "gpt2".
func (m *Model) putBytePairs(v map[string]any, p *tokenizer.BytePairs) {
	tokens, types := make([]any, m.config.VocabSize), make([]any, m.config.VocabSize)
	for id := range tokens {
		tokens[id], types[id] = padName(id), ggufUnused
		if id < len(p.Tokens) && p.Tokens[id] != "" {
			tokens[id], types[id] = p.Tokens[id], map[tokenizer.TokenType]int64{
				tokenizer.Normal: ggufNormal, tokenizer.Special: ggufControl, tokenizer.Added: ggufDefined,
			}[p.Types[id]]
		}
	}
	seen := make(map[any]bool, len(tokens))
	for _, text := range tokens {
		if seen[text] {
			return // two tokens of one spelling, an added one and one of bytes: llama.cpp aborts
		}
		seen[text] = true
	}
	merges := make([]any, len(p.Merges))
	for i, text := range p.Merges {
		merges[i] = text
	}
	v[ggufPrefix+"model"], v[ggufPrefix+"pre"], v[ggufPrefix+"add_bos_token"] = "gpt2", p.Pattern, false
	v[ggufPrefix+"tokens"], v[ggufPrefix+"token_type"], v[ggufPrefix+"merges"] = tokens, types, merges
	if p.EndOfText >= 0 {
		v[ggufPrefix+"bos_token_id"], v[ggufPrefix+"eos_token_id"] = p.EndOfText, p.EndOfText
	}
	if p.NFC {
		v[ggufNFC] = true
	}
}

// escape returns what unescape turns into s.
func escape(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		switch {
		case c == '\t':
			b.WriteString(`\t`)
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\r':
			b.WriteString(`\r`)
		case c == '\\' || c == '\'':
			b.WriteString(`\` + string(rune(c)))
		case c < ' ' || c > '~':
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

var errEscape = errors.New(`want text with \t, \n, \r, \xHH and \ before other characters`)

// unescape returns the bytes of a Python byte literal without its quotes.
func unescape(s string) (string, error) {
	if !strings.Contains(s, `\`) {
		return s, nil
	}
	var b []byte
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b = append(b, s[i])
			continue
		}
		if i++; i == len(s) {
			return "", errors.New("an escape without an end")
		}
		switch c := s[i]; c {
		case 't':
			b = append(b, '\t')
		case 'n':
			b = append(b, '\n')
		case 'r':
			b = append(b, '\r')
		case 'x':
			if i+2 >= len(s) {
				return "", errors.New("an escape without an end")
			}
			var x byte
			for _, digit := range []byte(strings.ToLower(s[i+1 : i+3])) {
				d := strings.IndexByte("0123456789abcdef", digit)
				if d < 0 {
					return "", errors.New("an escape of other digits")
				}
				x = x<<4 | byte(d)
			}
			b = append(b, x)
			i += 2
		default:
			b = append(b, c)
		}
	}
	return string(b), nil
}
