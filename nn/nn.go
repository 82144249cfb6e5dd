// Package nn has the layers that RWKV models and their relatives are made of, one a file with its
// formula. A layer holds weights, which it only reads, so that goroutines share it; what changes
// from token to token is in the states that Forward is given. Layers know no tensor names and no
// files: package rwkv does.
//
// Forward works on the rows of several sequences at once, one after another in x [R, C], so that
// each weight is read once for all of them; [Spans] says where each sequence begins. Every
// sequence is computed as if it were alone. A sequence that goes on from earlier rows has a
// state, which Forward updates; without states every sequence begins at its first row.
//
// What a Forward works with beside its input is in a [Context]. dst and x have the same shape and may
// be the same tensor, for x is read before dst is written. Wrong shapes panic: they are the caller's
// bug.
package nn

import "microrwkv/tensor"

// Context is what a Forward works with beside its input. states, where a Forward has them, gives the
// state of sequence i of Spans; nil begins every sequence at its first row.
type Context struct {
	Spans   Spans           // the sequences in the rows
	Add     bool            // add the layer's output to what dst holds: the residual step
	Scratch *tensor.Scratch // for temporaries, which are given back on return
}

// Spans are the bounds of the sequences in a batch of rows: sequence i has rows Spans[i] to
// Spans[i+1] (excluded). n sequences have n+1 bounds, the first of them 0.
type Spans []int

// Len returns the number of sequences.
func (sp Spans) Len() int { return max(len(sp)-1, 0) }
