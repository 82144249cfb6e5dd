package train

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"microrwkv/tokenizer"
)

// DataOptions say how data is read.
type DataOptions struct {
	Tokenizer string // "char", a name of package tokenizer such as "gpt2", or the path of a meta.pkl; "" is "char"
	VocabSize int    // of a .bin file without a meta.pkl; 0: 50304
}

// gptVocab is the vocabulary of nanoGPT's data without a meta.pkl: GPT-2's, padded.
const gptVocab = 50304

// Open opens the data to train on: a .bin file of ids, a .jsonl file with a document a line
// ({"text": …}), a folder whose text files are taken in the order of their names, all files below it
// that are UTF-8, or a file of text. The last tenth isn't trained on. After each document comes the
// vocabulary's end of a document, if it has one.
func Open(path string, o DataOptions) (*Dataset, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	d := &Dataset{name: path}
	if !info.IsDir() && strings.EqualFold(filepath.Ext(path), ".bin") {
		all, err := openBin(path)
		if err != nil {
			return nil, err
		}
		d.train, d.val = all.split()
		if err := d.readMeta(filepath.Dir(path)); err != nil {
			return nil, errors.Join(err, d.Close())
		}
		if d.guessed && o.VocabSize > 0 {
			d.VocabSize, d.guessed = o.VocabSize, false
		}
		return d, nil
	}
	docs := textFile
	switch {
	case info.IsDir():
		docs = textFolder
	case strings.EqualFold(filepath.Ext(path), ".jsonl"):
		docs = jsonLines
	}
	all, err := d.encode(path, docs, o.Tokenizer)
	if err != nil {
		return nil, err
	}
	d.train, d.val = all.split()
	return d, nil
}

// readMeta takes the vocabulary of the meta.pkl in a folder, GPT-2's if there is none.
func (d *Dataset) readMeta(dir string) error {
	path := filepath.Join(dir, "meta.pkl")
	if _, err := os.Stat(path); err != nil {
		d.VocabSize, d.Tokenizer, d.guessed = gptVocab, "gpt2", true
		return nil
	}
	tok, err := tokenizer.Char(path)
	if err != nil {
		return err
	}
	d.Tokenizer = "char"
	d.setChars(tok)
	return nil
}

// setChars takes the characters of a vocabulary.
func (d *Dataset) setChars(tok tokenizer.Tokenizer) {
	d.VocabSize = tok.VocabSize()
	d.Chars = nil
	for id := range d.VocabSize {
		r, n := utf8.DecodeRuneInString(tok.Decode([]int{id}))
		if n == 0 {
			d.Chars = nil // a gap: there is no list by id
			return
		}
		d.Chars = append(d.Chars, r)
	}
}

// documents calls f with each document of path, and where it is.
type documents func(path string, f func(place, text string) error) error

// textFile is one document: the file.
func textFile(path string, f func(place, text string) error) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !utf8.Valid(b) {
		return fmt.Errorf("%s: byte %d isn't UTF-8 text", path, firstInvalid(b))
	}
	return f(path, string(b))
}

// firstInvalid returns where b isn't UTF-8 any more.
func firstInvalid(b []byte) int {
	at := 0
	for at < len(b) {
		r, n := utf8.DecodeRune(b[at:])
		if r == utf8.RuneError && n == 1 {
			break
		}
		at += n
	}
	return at
}

// textFolder are the files below a folder that are text.
func textFolder(path string, f func(place, text string) error) error {
	return filepath.WalkDir(path, func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if !utf8.Valid(b) || bytes.IndexByte(b, 0) >= 0 {
			return nil // not text
		}
		return f(name, string(b))
	})
}

// jsonLines are the texts of a file's lines.
func jsonLines(path string, f func(place, text string) error) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	r := bufio.NewReaderSize(file, 1<<16)
	for n := 1; ; n++ {
		line, err := r.ReadBytes('\n')
		if err != nil && err != io.EOF {
			return err
		}
		if len(bytes.TrimSpace(line)) > 0 {
			place := fmt.Sprintf("%s: line %d", path, n)
			var doc struct{ Text *string }
			if err := json.Unmarshal(line, &doc); err != nil {
				return fmt.Errorf("%s: %w", place, err)
			}
			if doc.Text == nil {
				return fmt.Errorf("%s: no \"text\"", place)
			}
			if err := f(place, *doc.Text); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
	}
}

// encode reads all documents as ids.
func (d *Dataset) encode(path string, docs documents, name string) (tokens, error) {
	all := tokens{path: path, ids: []uint16{}}
	tok, err := d.vocabulary(path, docs, name)
	if err != nil {
		return all, err
	}
	end := tok.EndOfText()
	err = docs(path, func(place, text string) error {
		ids, err := tok.Encode(text)
		if err != nil {
			return fmt.Errorf("%s: %w", place, err)
		}
		for _, id := range ids {
			all.ids = append(all.ids, uint16(id))
		}
		if end >= 0 {
			all.ids = append(all.ids, uint16(end))
		}
		return nil
	})
	all.n = len(all.ids)
	if err == nil && all.n == 0 {
		err = fmt.Errorf("%s: no text", path)
	}
	return all, err
}

// vocabulary returns the tokenizer of that name; a character vocabulary is made of the text's own.
func (d *Dataset) vocabulary(path string, docs documents, name string) (tokenizer.Tokenizer, error) {
	if name != "" && name != "char" {
		tok, err := tokenizer.Open(name)
		if err != nil {
			return nil, err
		}
		d.Tokenizer, d.VocabSize = name, tok.VocabSize()
		if strings.HasSuffix(name, ".pkl") {
			d.Tokenizer = "char"
			d.setChars(tok)
		}
		if e, err := tokenizer.Lookup(name); err == nil && e.Fits(gptVocab) {
			d.VocabSize = gptVocab // GPT-2's, padded
		}
		if d.VocabSize > 1<<16 {
			return nil, fmt.Errorf("tokenizer %s: %d ids, want at most %d", name, d.VocabSize, 1<<16)
		}
		return tok, nil
	}
	seen := map[rune]bool{}
	err := docs(path, func(_, text string) error {
		for _, r := range text {
			seen[r] = true
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(seen) == 0 {
		return nil, fmt.Errorf("%s: no text", path)
	}
	for r := range seen {
		d.Chars = append(d.Chars, r)
	}
	slices.Sort(d.Chars)
	if len(d.Chars) > 1<<16 {
		return nil, fmt.Errorf("%s: %d different characters, want at most %d", path, len(d.Chars), 1<<16)
	}
	d.Tokenizer, d.VocabSize = "char", len(d.Chars)
	return tokenizer.NewChar(d.Chars)
}
