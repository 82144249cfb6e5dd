package tokenizer_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"microrwkv/tokenizer"
)

// story is 1 MB of English words in the characters of tiny Shakespeare.
var story = shuffled(strings.SplitAfter(`Once upon a time, in a little house by the river, there lived an old
clockmaker who could not sleep. Every night he wound the clocks: the tall one in the hall, the round
one above the stove, and the small silver one that nobody had ever heard strike. 'What are you
waiting for?' he asked it - and one evening, very quietly, it answered.

`, " "))

// chinese is 1 MB of clauses in a script of three bytes a character.
var chinese = shuffled(strings.SplitAfter("从前，有一个老钟表匠，住在河边的小房子里，他总是睡不着，每天晚上，他都给钟上发条，"+
	"然后听它们走动的声音，直到有一天，最小的那个银钟，轻轻地回答了他，", "，"))

// code is 1 MB of lines of a program.
var code = shuffled(strings.SplitAfter(`func (c *clock) wind(turns int) error {
	if turns <= 0 || c.spring+turns > maxTurns {
		return fmt.Errorf("clock %q: %d turns: %w", c.name, turns, errBroken)
	}
	for i := 0; i < turns; i++ {
		c.spring++ // one more
		select {
		case c.ticks <- struct{}{}:
		default:
		}
	}

	return nil
}
`, "\n"))

// noise is 1 MB of random bytes.
var noise = func() string {
	rng := rand.New(rand.NewPCG(7, 8))
	b := make([]byte, 1<<20)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return string(b)
}()

// shuffled joins parts in random order, each many times, so that branches can't be learnt by heart.
func shuffled(parts []string) string {
	rng := rand.New(rand.NewPCG(5, 6))
	var text strings.Builder
	for text.Len() < 1<<20 {
		text.WriteString(parts[rng.IntN(len(parts))])
	}
	return text.String()
}

func loadAll(b *testing.B) map[string]tokenizer.Tokenizer {
	char, err := tokenizer.Char("testdata/meta_p4.pkl")
	if err != nil {
		b.Fatal(err)
	}
	return map[string]tokenizer.Tokenizer{"gpt2": open(b, "gpt2"), "world": open(b, "world"), "char": char}
}

func eachCase(b *testing.B, run func(b *testing.B, tok tokenizer.Tokenizer, text string)) {
	all := loadAll(b)
	for _, c := range []struct{ name, text, lang string }{
		{"gpt2", story, "en"}, {"gpt2", chinese, "zh"}, {"gpt2", code, "go"},
		{"world", story, "en"}, {"world", chinese, "zh"}, {"world", code, "go"}, {"world", noise, "random"},
		{"char", story, "en"},
	} {
		b.Run("tokenizer="+c.name+"/text="+c.lang, func(b *testing.B) {
			b.SetBytes(int64(len(c.text)))
			run(b, all[c.name], c.text)
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	eachCase(b, func(b *testing.B, tok tokenizer.Tokenizer, text string) {
		for b.Loop() {
			if _, err := tok.Encode(text); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	eachCase(b, func(b *testing.B, tok tokenizer.Tokenizer, text string) {
		ids, err := tok.Encode(text)
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			tok.Decode(ids)
		}
	})
}

func BenchmarkDecoder(b *testing.B) {
	eachCase(b, func(b *testing.B, tok tokenizer.Tokenizer, text string) {
		ids, err := tok.Encode(text)
		if err != nil {
			b.Fatal(err)
		}
		d, dst := tokenizer.NewDecoder(tok), make([]byte, 0, 64)
		for b.Loop() {
			for _, id := range ids {
				dst = d.Append(dst[:0], id)
			}
		}
	})
}
