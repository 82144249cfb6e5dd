package train

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"

	"microrwkv/rwkv"
)

// Batches is a Source of exact batches: a file with a JSON line for each micro-batch,
//
//	{"x": [[ids] …], "y": [[targets] …]}
//
// with sequences of any lengths and -1 for targets that don't count. Step i takes lines i·A to
// i·A + A − 1, A being Options.Accumulation. There is nothing to evaluate on.
type Batches struct {
	path  string
	lines [][2][][]int
	at    int
}

// OpenBatches reads a file of batches. Errors name the file and the line.
func OpenBatches(path string) (*Batches, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := &Batches{path: path}
	r := bufio.NewReaderSize(f, 1<<16)
	for n := 1; ; n++ {
		line, err := r.ReadBytes('\n')
		if err != nil && err != io.EOF {
			return nil, err
		}
		last := err == io.EOF
		if line = bytes.TrimSpace(line); len(line) > 0 {
			var batch struct{ X, Y [][]int }
			if err := json.Unmarshal(line, &batch); err != nil {
				return nil, fmt.Errorf("%s: line %d: %w", path, n, err)
			}
			b.lines = append(b.lines, [2][][]int{batch.X, batch.Y})
		} else if !last {
			return nil, fmt.Errorf("%s: line %d: blank, want a batch", path, n)
		}
		if last {
			break
		}
	}
	if len(b.lines) == 0 {
		return nil, fmt.Errorf("%s: line 1: no batches, the file is empty", path)
	}
	return b, nil
}

// EvaluateOn returns the batches as a Source whose evaluations are on other data.
func (b *Batches) EvaluateOn(d *Dataset) Evaluator { return batchesAndData{b, d} }

// batchesAndData are batches to train on, and data to evaluate on.
type batchesAndData struct {
	*Batches
	data *Dataset
}

// Check implements Source.
func (b batchesAndData) Check(model *rwkv.Trainee, o *Options) error {
	return errors.Join(b.Batches.Check(model, o), b.data.Check(model, o))
}

// EvalBatch implements Evaluator.
func (b batchesAndData) EvalBatch(part string, rng *rand.Rand, o *Options) (x, y [][]int, ok bool, err error) {
	return b.data.EvalBatch(part, rng, o)
}

// Batch implements Source.
func (b *Batches) Batch(micro int, _ *rand.Rand, _ *Options) (x, y [][]int, err error) {
	b.at = micro
	if micro >= len(b.lines) {
		return nil, nil, fmt.Errorf("%s: line %d: the file has only %d", b.path, micro+1, len(b.lines))
	}
	return b.lines[micro][0], b.lines[micro][1], nil
}

// Place implements Source.
func (b *Batches) Place() string { return fmt.Sprintf("%s: line %d", b.path, b.at+1) }

// Check implements Source: it checks every line.
func (b *Batches) Check(model *rwkv.Trainee, o *Options) error {
	for i, l := range b.lines {
		if err := model.CheckBatch(l[0], l[1]); err != nil {
			return fmt.Errorf("%s: line %d: %w", b.path, i+1, err)
		}
	}
	if need := o.MaxIters * o.Accumulation; need > len(b.lines) {
		return fmt.Errorf("%s: line %d: %d lines, but %d steps of %d batches need %d", b.path, len(b.lines)+1, len(b.lines), o.MaxIters, o.Accumulation, need)
	}
	return nil
}
