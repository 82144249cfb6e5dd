package tokenizer

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// Entry is a tokenizer that a package registered.
type Entry struct {
	Name      string
	VocabSize int // one more than the largest id
	EndOfText int // the id that ends a document
	open      func() (Tokenizer, error)
}

// Open returns the tokenizer.
func (e Entry) Open() (Tokenizer, error) { return e.open() }

// Fits reports whether a model with that many ids may be one of this vocabulary: as many ids as it
// has, or more by padding to a multiple of 64, up to that of 1024, as models are for speed.
func (e Entry) Fits(ids int) bool {
	return ids == e.VocabSize || ids%64 == 0 && Padded(e.VocabSize, ids)
}

// Padded reports whether a vocabulary of so many ids may have been padded to those of a model: to the
// next multiple of 1024 at most.
func Padded(vocabSize, ids int) bool {
	const most = 1024
	return ids >= vocabSize && ids <= (vocabSize+most-1)/most*most
}

var (
	registryLock sync.RWMutex
	registry     = map[string]Entry{}
)

// Register makes a tokenizer known by its name to Open and to models. Packages call it in their init; a
// name that is taken panics.
func Register(name string, vocabSize, endOfText int, open func() (Tokenizer, error)) {
	registryLock.Lock()
	defer registryLock.Unlock()
	if _, ok := registry[name]; ok {
		panic("tokenizer: Register of " + name + " twice")
	}
	registry[name] = Entry{name, vocabSize, endOfText, open}
}

// Lookup returns what is registered under a name. An error names the package to import for it.
func Lookup(name string) (Entry, error) {
	registryLock.RLock()
	defer registryLock.RUnlock()
	if e, ok := registry[name]; ok {
		return e, nil
	}
	if slices.Contains([]string{"gpt2", "neox", "world"}, name) {
		return Entry{}, fmt.Errorf("tokenizer %q isn't in this program: import _ \"microrwkv/tokenizer/%s\"", name, name)
	}
	known := "none"
	if len(registry) > 0 {
		known = strings.Join(slices.Sorted(maps.Keys(registry)), ", ")
	}
	return Entry{}, fmt.Errorf("no tokenizer %q: this program has %s", name, known)
}

// readJSON reads a tokenizer.json, if there is a package for that in the program.
var readJSON func(path string) (Tokenizer, error)

// RegisterJSON makes known how a tokenizer.json is read. Package bpe calls it in its init.
func RegisterJSON(open func(path string) (Tokenizer, error)) {
	registryLock.Lock()
	defer registryLock.Unlock()
	readJSON = open
}

// OpenJSON reads a tokenizer.json. If the package that does isn't imported, the error names it.
func OpenJSON(path string) (Tokenizer, error) {
	registryLock.RLock()
	open := readJSON
	registryLock.RUnlock()
	if open == nil {
		return nil, fmt.Errorf("%s: what reads it isn't in this program: import _ \"microrwkv/tokenizer/bpe\"", path)
	}
	return open(path)
}

// Open returns the tokenizer that is registered under a name, or else that of the file of that name: a
// character vocabulary, or a tokenizer.json.
func Open(name string) (Tokenizer, error) {
	e, err := Lookup(name)
	if err == nil {
		return e.Open()
	}
	if strings.HasSuffix(name, ".json") {
		return OpenJSON(name)
	}
	if strings.HasSuffix(name, ".pkl") || strings.ContainsAny(name, `/\`) {
		return Char(name)
	}
	return nil, err
}
