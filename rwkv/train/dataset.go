package train

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"

	"microrwkv/rwkv"
)

// Dataset is a Source of windows at random places in token ids, with a part that isn't trained on.
type Dataset struct {
	VocabSize int    // ids that there are, or that a model should have for them
	Tokenizer string // what made the ids: "char", or a name of package tokenizer; "" if nothing tells
	Chars     []rune // of a character vocabulary, by id

	train, val tokens
	guessed    bool // nothing told VocabSize
	name       string
	x, y       [][]int
	window     []byte
	places     []int
	kind       rwkv.Kind // of the model that Check has seen
}

// tokens is a row of ids of 16 bits, in a file or in memory. A file isn't read as a whole: the windows
// that are drawn are, from the operating system's cache.
type tokens struct {
	file   *os.File
	ids    []uint16
	offset int // of the first id in the file, in ids
	n      int
	path   string
}

// read reads len(dst)/2 ids from position at, as bytes.
func (t *tokens) read(dst []byte, at int) error {
	if t.file == nil {
		for i := range len(dst) / 2 {
			binary.LittleEndian.PutUint16(dst[2*i:], t.ids[at+i])
		}
		return nil
	}
	if _, err := t.file.ReadAt(dst, 2*int64(t.offset+at)); err != nil {
		return fmt.Errorf("%s: %w", t.path, err)
	}
	return nil
}

// openBin opens a file of little-endian ids of 16 bits, as nanoGPT's prepare.py writes them.
func openBin(path string) (tokens, error) {
	f, err := os.Open(path)
	if err != nil {
		return tokens{}, err
	}
	info, err := f.Stat()
	if err == nil && info.Size()%2 != 0 {
		err = fmt.Errorf("%s: %d bytes, which aren't ids of 2", path, info.Size())
	}
	if err != nil {
		f.Close()
		return tokens{}, err
	}
	return tokens{file: f, n: int(info.Size() / 2), path: path}, nil
}

// check reads all ids, and reports the first beyond the vocabulary.
func (t *tokens) check(vocab int) error {
	if vocab > 1<<16-1 {
		return nil
	}
	buf := make([]byte, 1<<16)
	for at := 0; at < t.n; at += len(buf) / 2 {
		part := buf[:2*min(len(buf)/2, t.n-at)]
		if err := t.read(part, at); err != nil {
			return err
		}
		for i := 0; i < len(part); i += 2 {
			if id := int(binary.LittleEndian.Uint16(part[i:])); id >= vocab {
				return fmt.Errorf("%s: id %d at byte %d: the vocabulary has %d", t.path, id, 2*(t.offset+at)+i, vocab)
			}
		}
	}
	return nil
}

// split cuts t into the first nine tenths and the rest.
func (t tokens) split() (train, val tokens) {
	train, val = t, t
	train.n = t.n * 9 / 10
	val.n, val.offset = t.n-train.n, t.offset+train.n
	if t.ids != nil {
		train.ids, val.ids, val.offset = t.ids[:train.n], t.ids[train.n:], 0
	}
	return train, val
}

// OpenFolder opens nanoGPT's data: train.bin, val.bin and, if it is there, meta.pkl.
func OpenFolder(dir string) (*Dataset, error) {
	d := &Dataset{name: dir}
	var err error
	if d.train, err = openBin(filepath.Join(dir, "train.bin")); err != nil {
		return nil, err
	}
	if d.val, err = openBin(filepath.Join(dir, "val.bin")); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	if err := d.readMeta(dir); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// Close closes the files.
func (d *Dataset) Close() error {
	var errs []error
	for _, t := range [...]*tokens{&d.train, &d.val} {
		if t.file != nil {
			errs = append(errs, t.file.Close())
		}
		if d.train.file == d.val.file {
			break
		}
	}
	return errors.Join(errs...)
}

// Tokens returns the number of ids to train on and to evaluate on.
func (d *Dataset) Tokens() (train, val int) { return d.train.n, d.val.n }

// Check implements Source.
func (d *Dataset) Check(model *rwkv.Trainee, o *Options) error {
	c := model.Config()
	vocab := d.VocabSize
	if d.guessed {
		vocab = c.VocabSize
	}
	if vocab > c.VocabSize {
		return fmt.Errorf("%s: a vocabulary of %d, but the model has %d ids", d.name, d.VocabSize, c.VocabSize)
	}
	if c.BlockSize > 0 && o.BlockSize > c.BlockSize {
		return fmt.Errorf("block_size = %d, but the model has %d positions", o.BlockSize, c.BlockSize)
	}
	if c.Kind == rwkv.Reference && o.BlockSize < 2 {
		return errors.New("block_size = 1: kind reference is trained on 2 and more tokens")
	}
	for _, t := range [...]*tokens{&d.train, &d.val} {
		path := t.path
		if path == "" {
			path = d.name
		}
		if t.n == 0 {
			return fmt.Errorf("%s: no tokens", path)
		}
		if t.n <= o.BlockSize {
			return fmt.Errorf("%s: %d tokens, want more than block_size = %d", path, t.n, o.BlockSize)
		}
		if err := t.check(vocab); err != nil {
			return err
		}
	}
	d.kind = c.Kind
	return nil
}

// Batch implements Source: windows of BlockSize ids with their next ids as targets. Reference, whose
// positions see what comes after them, is trained on the last target alone, in windows of any length.
func (d *Dataset) Batch(_ int, rng *rand.Rand, o *Options) (x, y [][]int, err error) {
	return d.draw(&d.train, rng, o)
}

// EvalBatch implements Evaluator.
func (d *Dataset) EvalBatch(part string, rng *rand.Rand, o *Options) (x, y [][]int, ok bool, err error) {
	t := &d.train
	if part == "val" {
		t = &d.val
	}
	x, y, err = d.draw(t, rng, o)
	return x, y, true, err
}

// draw reads a batch from t, into the slices of the last one.
func (d *Dataset) draw(t *tokens, rng *rand.Rand, o *Options) (x, y [][]int, err error) {
	reference := d.kind == rwkv.Reference
	n := o.BlockSize
	if reference {
		n = 2 + rng.IntN(o.BlockSize-1)
	}
	if len(d.x) != o.BatchSize {
		d.x, d.y, d.places = make([][]int, o.BatchSize), make([][]int, o.BatchSize), make([]int, o.BatchSize)
	}
	if len(d.window) < 2*(n+1) {
		d.window = make([]byte, 2*(o.BlockSize+1))
	}
	for i := range d.x {
		if cap(d.x[i]) < n {
			d.x[i], d.y[i] = make([]int, o.BlockSize), make([]int, o.BlockSize)
		}
		d.x[i], d.y[i] = d.x[i][:n], d.y[i][:n]
		at := rng.IntN(t.n - n)
		d.places[i] = at
		w := d.window[:2*(n+1)]
		if err := t.read(w, at); err != nil {
			return nil, nil, err
		}
		for j := range n {
			d.x[i][j] = int(binary.LittleEndian.Uint16(w[2*j:]))
			d.y[i][j] = int(binary.LittleEndian.Uint16(w[2*j+2:]))
			if reference && j < n-1 {
				d.y[i][j] = -1
			}
		}
	}
	return d.x, d.y, nil
}

// Place implements Source.
func (d *Dataset) Place() string {
	return fmt.Sprintf("%s: tokens from %v on", d.name, d.places)
}
