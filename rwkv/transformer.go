package rwkv

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"microrwkv/checkpoint"
	"microrwkv/nn"
	"microrwkv/tensor"
)

// What the kinds in nanoGPT's layout share: token and position embeddings, RWKV x051a's time mix
// and channel mix, a final LayerNorm, and a head tied to the embedding.

// configureTransformer derives what the shared tensors' shapes tell.
func configureTransformer(src source, c *Config) error {
	embedding := tiedEmbedding
	if _, ok := src.Shape(embedding); !ok {
		if _, ok := src.Shape(tiedHead); ok {
			embedding = tiedHead
		}
	}
	var position int
	c.NumLayers = countLayers(src, "transformer.h.")
	err := errors.Join(
		sizes(src, embedding, &c.VocabSize, &c.EmbedDim),
		sizes(src, "transformer.wpe.weight", &c.BlockSize, &position),
		sizes(src, "transformer.h.0.tmix.time_decay", &c.NumHeads),
	)
	c.FFNDim = 3 * c.EmbedDim
	c.Bias = slices.ContainsFunc(src.Names(), func(name string) bool {
		always := strings.Contains(name, ".ln_x.") || strings.Contains(name, ".moe.")
		return strings.HasSuffix(name, ".bias") && !always
	})
	return err
}

// sizes stores the first dimensions of a tensor.
func sizes(src source, name string, to ...*int) error {
	shape, ok := src.Shape(name)
	if !ok {
		return fmt.Errorf("tensor %q: %w", name, checkpoint.ErrNotFound)
	}
	if len(shape) < len(to) {
		return fmt.Errorf("tensor %q: shape %v, want %d dimensions", name, shape, len(to))
	}
	for i, p := range to {
		*p = shape[i]
	}
	return nil
}

// readTransformerArgs reads the model_args that the kinds share.
func readTransformerArgs(a *modelArgs, c *Config) {
	a.shape("block_size", &c.BlockSize)
	a.shape("vocab_size", &c.VocabSize)
	a.shape("n_layer", &c.NumLayers)
	a.shape("n_head", &c.NumHeads)
	a.shape("n_embd", &c.EmbedDim)
	a.flag("bias", &c.Bias) // the tensors that this asks for are checked one by one
	a.number("dropout", &c.Dropout)
}

// countLayers returns one more than the largest i in names prefix + i + ".…", 0 without any. There
// are no more layers than names.
func countLayers(src source, prefix string) int {
	n := 0
	for _, name := range src.Names() {
		rest, ok := strings.CutPrefix(name, prefix)
		if !ok {
			continue
		}
		number, _, _ := strings.Cut(rest, ".")
		if i, err := strconv.Atoi(number); err == nil && i >= n && i < len(src.Names()) {
			n = i + 1
		}
	}
	return n
}

// The names of the embedding and of the head, one tensor.
const (
	tiedEmbedding = "transformer.wte.weight"
	tiedHead      = "lm_head.weight"
)

// loadHead returns the embedding, which is the head's weight too: either name may be absent, and
// when both are there they are equal.
func loadHead(l *loader, c Config) *tensor.Tensor {
	const wte, head = tiedEmbedding, tiedHead
	_, hasWTE := l.src.Shape(wte)
	_, hasHead := l.src.Shape(head)
	if !hasHead {
		return l.tensor(wte, c.VocabSize, c.EmbedDim)
	}
	h := l.tensor(head, c.VocabSize, c.EmbedDim)
	if !hasWTE {
		l.ignore(wte)
		return h
	}
	w := l.tensor(wte, c.VocabSize, c.EmbedDim)
	if w != nil && h != nil && !equalBits(w, h) {
		l.fail(head, errors.New("differs from "+wte+", which it must be tied to"))
	}
	return w
}

// equalBits reports whether two tensors of one shape have the same dtype and bits.
func equalBits(a, b *tensor.Tensor) bool {
	if a.DType() != b.DType() {
		return slices.Equal(a.Float32().Data(), b.Float32().Data())
	}
	x, y := rawBytes(a), rawBytes(b)
	return len(x) == len(y) && (len(x) == 0 || &x[0] == &y[0] || bytes.Equal(x, y))
}

// rawBytes returns the memory of a contiguous tensor.
func rawBytes(t *tensor.Tensor) []byte {
	if t.Len() == 0 {
		return nil
	}
	if t.DType() == tensor.F32 {
		return unsafe.Slice((*byte)(unsafe.Pointer(&t.Data()[0])), 4*t.Len())
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&t.Bits()[0])), 2*t.Len())
}

func loadTimeMix(l *loader, p string, c Config) nn.TimeMix {
	d := c.EmbedDim
	return nn.TimeMix{
		MixK: l.vector(p+"time_maa_k", d), MixV: l.vector(p+"time_maa_v", d),
		MixR: l.vector(p+"time_maa_r", d), MixG: l.vector(p+"time_maa_g", d),
		Decay:      l.numbers(p+"time_decay", c.NumHeads, decay),
		Bonus:      l.numbers(p+"time_faaaa", c.NumHeads, func(u float64) float64 { return u }),
		Receptance: l.linear(p+"receptance", c.Bias, d, d), Key: l.linear(p+"key", c.Bias, d, d),
		Value: l.linear(p+"value", c.Bias, d, d), Gate: l.linear(p+"gate", c.Bias, d, d),
		Output: l.linear(p+"output", c.Bias, d, d),
		LnX:    nn.GroupNorm{Groups: c.NumHeads, Gain: l.vector(p+"ln_x.weight", d), Bias: l.vector(p+"ln_x.bias", d), Eps: 64e-5},
	}
}

func loadChannelMix(l *loader, p string, c Config) nn.ChannelMix {
	d := c.EmbedDim
	return nn.ChannelMix{
		MixK: l.vector(p+"time_maa_k", d), MixR: l.vector(p+"time_maa_r", d),
		Key: l.linear(p+"key", c.Bias, 3*d, d), Value: l.linear(p+"value", c.Bias, d, 3*d),
		Receptance: l.linear(p+"receptance", c.Bias, d, d),
	}
}

// embed returns the sum of token and position embeddings, [R, C].
func embed(b *batch, wte, wpe nn.Embedding) *tensor.Tensor {
	x := b.scratch.New(len(b.ids), wte.Weight.Dim(1))
	wte.Forward(x, b.ids)
	defer b.scratch.Release(b.scratch.Mark())
	pos := b.scratch.New(len(b.ids), wte.Weight.Dim(1))
	for i := range b.spans.Len() {
		for r := b.spans[i]; r < b.spans[i+1]; r++ {
			wpe.Weight.RowTo(pos.Row(r), b.starts[i]+r-b.spans[i])
		}
	}
	tensor.Add(x, x, pos)
	b.show("embed", x)
	return x
}

// finish returns the final norm of the wanted rows of x, which may have only those already.
func finish(b *batch, norm nn.LayerNorm, x *tensor.Tensor) *tensor.Tensor {
	if b.last && x.Dim(0) == len(b.ids) {
		x = b.lastRows(x)
	}
	norm.Forward(x, x)
	b.show("ln_f", x)
	return x
}
