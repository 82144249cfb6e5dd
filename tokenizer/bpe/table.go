package bpe

import (
	"fmt"
	"maps"
	"slices"

	"microrwkv/tokenizer"
)

type rule struct {
	name, pattern string
	whole         bool
}

// rules are the patterns that tables name, and whether pieces that are tokens are these whatever the merges
// say.
var rules = []rule{{"gpt-2", gpt2Pattern, false}, {"qwen2", qwenPattern, false}, {"llama-bpe", llamaPattern, true}}

// New returns the tokenizer of a table. Errors say what of it isn't supported.
func New(p *tokenizer.BytePairs) (tokenizer.Tokenizer, error) {
	i := slices.IndexFunc(rules, func(r rule) bool { return r.name == p.Pattern })
	if i < 0 {
		return nil, unsupported("the pattern", p.Pattern)
	}
	if p.EndOfText < -1 || p.EndOfText >= len(p.Tokens) || len(p.Types) != len(p.Tokens) {
		return nil, fmt.Errorf("%d tokens with %d types, of which %d ends a document", len(p.Tokens), len(p.Types), p.EndOfText)
	}
	f := file{Model: modelPart{Type: "BPE", IgnoreMerges: rules[i].whole, Vocab: map[string]int{}}, Decoder: &step{Type: "ByteLevel"}}
	for id, token := range p.Tokens {
		if token == "" {
			continue
		}
		if p.Types[id] != tokenizer.Normal {
			special := p.Types[id] == tokenizer.Special
			f.AddedTokens = append(f.AddedTokens, added{ID: id, Content: token, Normalized: !special, Special: special})
			continue
		}
		if other, ok := f.Model.Vocab[token]; ok {
			return nil, fmt.Errorf("tokens %d and %d are both %q", other, id, token)
		}
		f.Model.Vocab[token] = id
	}
	for _, a := range f.AddedTokens { // as in published files: merges may make them too
		if _, ok := f.Model.Vocab[a.Content]; !ok {
			f.Model.Vocab[a.Content] = a.ID
		}
	}
	for _, m := range p.Merges {
		f.Model.Merges = append(f.Model.Merges, merge{joined: m})
	}
	no := false
	f.PreTokenizer = &step{Type: "Sequence", PreTokenizers: []step{{Type: "Split", Behavior: "Isolated"}, {Type: "ByteLevel", UseRegex: &no}}}
	f.PreTokenizer.PreTokenizers[0].Pattern.Regex = rules[i].pattern
	if p.NFC {
		f.Normalizer = &step{Type: "NFC"}
	}
	b, err := f.tokenizer()
	if err != nil {
		return nil, err
	}
	b.endOfText = p.EndOfText
	return b, nil
}

// BytePairs implements tokenizer.BytePairer.
func (b *bpe) BytePairs() (*tokenizer.BytePairs, bool) {
	p := &tokenizer.BytePairs{NFC: b.nfc, EndOfText: b.endOfText, Tokens: make([]string, len(b.tokens)), Types: make([]tokenizer.TokenType, len(b.tokens))}
	for _, r := range rules {
		if r.pattern == b.pattern && r.whole == b.whole {
			p.Pattern = r.name
		}
	}
	for id, token := range b.tokens {
		p.Tokens[id] = toByteLevel(token)
	}
	for _, n := range []*names{b.raw, b.normal} {
		n.each("", func(name string, id int) {
			p.Tokens[id], p.Types[id] = name, tokenizer.Added
			if b.tokens[id] == "" {
				p.Types[id] = tokenizer.Special
			}
		})
	}
	for _, m := range b.merges.Pairs() {
		p.Merges = append(p.Merges, toByteLevel(b.tokens[m.Left])+" "+toByteLevel(b.tokens[m.Right]))
	}
	return p, p.Pattern != ""
}

// each calls f for each name, which begins with prefix.
func (n *names) each(prefix string, f func(name string, id int)) {
	if n == nil {
		return
	}
	if n.id >= 0 {
		f(prefix, n.id)
	}
	for _, c := range slices.Sorted(maps.Keys(n.next)) {
		n.next[c].each(prefix+string([]byte{c}), f)
	}
}
