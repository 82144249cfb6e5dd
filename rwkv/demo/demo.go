// Package demo has a small model inside: MicroRWKV of kind Reference, 6 layers of 128, trained on
// little English stories, to be used with the tokenizer of GPT-2. Who imports it carries its 18 MB.
package demo

import (
	_ "embed"
	"sync"

	"microrwkv/rwkv"
)

//go:embed tinystories-reference.pt
var file []byte

var model = sync.OnceValues(func() (*rwkv.Model, error) { return open(nil) })

// Model returns the embedded model. Its weights are the program's own bytes, and without options every
// call returns the same Model. Closing it does nothing.
func Model(opts ...rwkv.OpenOption) (*rwkv.Model, error) {
	if len(opts) == 0 {
		return model()
	}
	return open(opts)
}

// open skips the checks, since the bytes are our own.
func open(opts []rwkv.OpenOption) (*rwkv.Model, error) {
	return rwkv.OpenBytes("the embedded model", file, append([]rwkv.OpenOption{rwkv.SkipChecks()}, opts...)...)
}
