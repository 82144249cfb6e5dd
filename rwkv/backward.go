package rwkv

import (
	"errors"
	"fmt"

	"microrwkv/nn"
	"microrwkv/tensor"
)

// LossOptions say what is trained for.
type LossOptions struct {
	AuxCoef float64 // what the mean over the sequences of the blocks' auxiliary losses counts
	L2Wrap  float64 // what half the mean square of the largest logits counts (RWKV-LM's L2Wrap)
	Scale   float64 // what the whole loss counts in the gradients
}

// Losses are those of a batch.
type Losses struct {
	Entropy float64 // mean cross entropy over the targets that count
	Aux     float64 // mean over the sequences of the sum of the blocks' auxiliary losses, without its coefficient
	Targets int     // that count
}

// ErrNoTarget is the error for a batch none of whose targets count.
var ErrNoTarget = errors.New("no target counts")

// trainBlock is a block that can go back.
type trainBlock interface {
	block
	// record runs the block on x, which stays as it is, and keeps in the tape what backward needs.
	record(p *pass, x *tensor.Tensor, t *blockTape) *tensor.Tensor
	// backward turns dx, the gradient of the output, into that of the input, in place, and adds to the
	// gradients in grad, which is nil if the weights are frozen.
	backward(p *pass, dx *tensor.Tensor, t *blockTape, grad block)
	// changed makes what record and backward need that is derived from the parameters.
	changed()
}

// blockTape is what a block keeps for going back; it has the parts that its layers need.
type blockTape struct {
	x                [5]*tensor.Tensor // inputs of the residual steps
	tmix             [2]nn.TimeMixTape
	tmix5            nn.TimeMix5Tape
	tmix6            nn.TimeMix6Tape
	tmix7            nn.TimeMix7Tape
	cmix             nn.ChannelMixTape
	sliding, grouped nn.AttentionTape
	moe              nn.MoETape
}

// pass is one pass forward and back.
type pass struct {
	spans   nn.Spans
	ids     []int
	rows    []int // whose targets count
	targets []int // of those
	tape    tensor.Tape
	scratch tensor.Scratch
	blocks  []blockTape
	aux     []float64 // of the running block, by sequence
	auxSum  []float64
	entropy tensor.Entropy

	auxScale       float64        // what a sequence's auxiliary loss counts
	vFirst, dFirst *tensor.Tensor // RWKV-7's v of the first block, and its gradient
	positions      []int          // of each row
}

// context returns what layers get; add says that they add to their output.
func (p *pass) context(add bool) nn.Context {
	return nn.Context{Spans: p.spans, Add: add, Scratch: &p.scratch}
}

// set takes a batch.
func (p *pass) set(c Config, x, y [][]int) error {
	p.ids, p.rows, p.targets, p.positions, p.spans = p.ids[:0], p.rows[:0], p.targets[:0], p.positions[:0], append(p.spans[:0], 0)
	if len(x) == 0 {
		return errors.New("no sequence")
	}
	if len(x) != len(y) {
		return fmt.Errorf("%d sequences of ids, %d of targets", len(x), len(y))
	}
	for i, ids := range x {
		switch {
		case len(ids) == 0:
			return fmt.Errorf("sequence %d: empty", i)
		case len(ids) != len(y[i]):
			return fmt.Errorf("sequence %d: %d ids, %d targets", i, len(ids), len(y[i]))
		case c.BlockSize > 0 && len(ids) > c.BlockSize:
			return fmt.Errorf("sequence %d: %d ids, but the model has %d positions (block_size)", i, len(ids), c.BlockSize)
		}
		for t, id := range ids {
			if id < 0 || id >= c.VocabSize {
				return fmt.Errorf("sequence %d: id %d at position %d: want 0 to %d", i, id, t, c.VocabSize-1)
			}
			target := y[i][t]
			if target < -1 || target >= c.VocabSize {
				return fmt.Errorf("sequence %d: target %d at position %d: want -1 to %d", i, target, t, c.VocabSize-1)
			}
			if target >= 0 {
				p.rows, p.targets = append(p.rows, len(p.ids)), append(p.targets, target)
			}
			p.ids, p.positions = append(p.ids, id), append(p.positions, t)
		}
		p.spans = append(p.spans, len(p.ids))
	}
	if len(p.rows) == 0 {
		return ErrNoTarget
	}
	return nil
}

// CheckBatch reports what is wrong with a batch for Loss or Backward.
func (t *Trainee) CheckBatch(x, y [][]int) error { return t.pass.set(t.config, x, y) }

// Loss computes the losses of a batch: sequences of ids and for each id the target, -1 for none. The
// lengths may differ; each sequence is computed alone.
func (t *Trainee) Loss(x, y [][]int) (Losses, error) { return t.run(x, y, LossOptions{}, false) }

// Backward computes the losses of a batch, as Loss does, and adds the gradients of
//
//	Scale · (Entropy + AuxCoef·Aux + L2Wrap·½·mean (largest logit)²)
//
// to those of the parameters, or of the states after TuneStates.
func (t *Trainee) Backward(x, y [][]int, o LossOptions) (Losses, error) { return t.run(x, y, o, true) }

// run goes forward over a batch, and back if back is set.
func (t *Trainee) run(x, y [][]int, o LossOptions, back bool) (Losses, error) {
	p := &t.pass
	if err := p.set(t.config, x, y); err != nil {
		return Losses{}, err
	}
	p.tape.Reset()
	p.scratch.Release(tensor.Mark{})
	sequences := p.spans.Len()
	p.aux, p.auxSum = grow(p.aux, sequences), grow(p.auxSum, sequences)
	clear(p.auxSum)
	p.auxScale = o.Scale * o.AuxCoef / float64(sequences)
	if p.blocks == nil {
		p.blocks = make([]blockTape, len(t.net.blocks))
	}
	for i := range t.states {
		tuning := nn.StateTuning{State: t.states[i].Value, Grad: t.states[i].Grad}
		b := &p.blocks[i]
		b.tmix[0].Tuning, b.tmix5.Tuning, b.tmix6.Tuning, b.tmix7.Tuning = tuning, tuning, tuning, tuning
	}

	rows, c := len(p.ids), t.config.EmbedDim
	embedded := p.tape.New(rows, c)
	t.net.emb.Forward(embedded, p.ids)
	h := embedded
	if t.net.in.Gain != nil {
		h = p.tape.New(rows, c)
		t.net.in.Forward(h, embedded)
	}
	if t.net.pos.Weight != nil {
		pos := p.scratch.New(rows, c)
		t.net.pos.Forward(pos, p.positions)
		tensor.Add(h, h, pos)
		p.scratch.Release(tensor.Mark{})
	}
	p.vFirst = nil
	for i, b := range t.net.blocks {
		clear(p.aux)
		h = b.(trainBlock).record(p, h, &p.blocks[i])
		for q, a := range p.aux {
			p.auxSum[q] += a
		}
	}
	last := p.gather(h)
	normed := p.tape.New(len(p.rows), c)
	t.net.out.Forward(normed, last)

	n := float64(len(p.rows))
	e := &p.entropy
	*e = tensor.Entropy{X: normed, W: t.net.head, Targets: p.targets, Scale: float32(o.Scale / n), L2: float32(o.L2Wrap)}
	dHidden := p.scratch.New(len(p.rows), c)
	if back {
		e.DX = dHidden
		if !t.frozen {
			e.DW = t.grads.head
		}
	}
	e.Run(&p.scratch)
	out := Losses{Entropy: e.Loss / n, Targets: len(p.rows)}
	for _, a := range p.auxSum {
		out.Aux += a / float64(sequences)
	}
	if !back {
		return out, nil
	}
	t.backward(last, embedded, dHidden)
	return out, nil
}

// gather returns the rows whose targets count: h itself if all do, else a copy.
func (p *pass) gather(h *tensor.Tensor) *tensor.Tensor {
	if len(p.rows) == h.Dim(0) {
		return h
	}
	dst := p.tape.New(len(p.rows), h.Dim(1))
	for i, r := range p.rows {
		copy(dst.Row(i), h.Row(r))
	}
	return dst
}

// backward goes back from d, the gradient of the normalized rows whose targets count.
func (t *Trainee) backward(last, embedded, d *tensor.Tensor) {
	p := &t.pass
	rows, c := len(p.ids), t.config.EmbedDim
	var out, in *nn.LayerNorm
	if !t.frozen {
		out, in = &t.grads.out, &t.grads.in
	}
	t.net.out.Backward(d, d, last, out, false)
	dx := d
	if d.Dim(0) < rows {
		dx = p.scratch.New(rows, c)
		clear(dx.Data())
		for i, r := range p.rows {
			copy(dx.Row(r), d.Row(i))
		}
	}
	p.dFirst = nil
	if p.vFirst != nil {
		p.dFirst = p.scratch.New(rows, c)
		clear(p.dFirst.Data())
	}
	for i := len(t.net.blocks) - 1; i >= 0; i-- {
		var grad block
		if !t.frozen {
			grad = t.grads.blocks[i]
		}
		t.net.blocks[i].(trainBlock).backward(p, dx, &p.blocks[i], grad)
	}
	if t.frozen {
		return
	}
	if t.net.pos.Weight != nil {
		tensor.ScatterAdd(t.grads.pos.Weight, dx, p.positions)
	}
	if t.net.in.Gain != nil {
		t.net.in.Backward(dx, dx, embedded, in, false)
	}
	t.net.emb.Backward(dx, p.ids, &t.grads.emb)
	for _, c := range t.changes {
		c.backward(c.grad, c.dField, c.value)
		clear(c.dField)
	}
}

// grow returns n numbers of any content, in s if it has room.
func grow(s []float64, n int) []float64 {
	if cap(s) < n {
		return make([]float64, n)
	}
	return s[:n]
}

// Memory returns the bytes that passes keep between calls.
func (t *Trainee) Memory() int { return 4 * (t.pass.tape.Size() + t.pass.scratch.Size()) }

// step returns a copy of x for a residual step to add to.
func (p *pass) step(x *tensor.Tensor) *tensor.Tensor {
	y := p.tape.New(x.Shape()...)
	y.CopyFrom(x)
	return y
}

// residual records a step x + mix(norm(x)) of a block, and keeps x in kept. mix adds to its first argument.
func (p *pass) residual(x *tensor.Tensor, kept **tensor.Tensor, norm, mix func(dst, x *tensor.Tensor)) *tensor.Tensor {
	*kept = x
	h := p.tape.New(x.Shape()...)
	norm(h, x)
	x = p.step(x)
	mix(x, h)
	return x
}

// record implements trainBlock.
func (m *nanoBlock) record(p *pass, x *tensor.Tensor, t *blockTape) *tensor.Tensor {
	x = p.residual(x, &t.x[0], m.ln1.Forward, func(dst, x *tensor.Tensor) { m.tmix.Record(dst, x, &t.tmix[0], &p.tape, p.context(true)) })
	return p.residual(x, &t.x[1], m.ln2.Forward, func(dst, x *tensor.Tensor) { m.cmix.Record(dst, x, &t.cmix, &p.tape, p.context(true)) })
}

// backward implements trainBlock.
func (m *nanoBlock) backward(p *pass, dx *tensor.Tensor, t *blockTape, grad block) {
	defer p.scratch.Release(p.scratch.Mark())
	dh := p.scratch.New(dx.Shape()...)
	var cmix *nn.ChannelMix
	var tmix *nn.TimeMix
	var ln1, ln2 *nn.LayerNorm
	if g, ok := grad.(*nanoBlock); ok {
		cmix, tmix, ln1, ln2 = &g.cmix, &g.tmix, &g.ln1, &g.ln2
	}
	m.cmix.Backward(dh, dx, &t.cmix, cmix, p.context(false))
	m.ln2.Backward(dx, dh, t.x[1], ln2, true)
	m.tmix.Backward(dh, dx, &t.tmix[0], tmix, p.context(false))
	m.ln1.Backward(dx, dh, t.x[0], ln1, true)
}

// changed implements trainBlock.
func (m *nanoBlock) changed() { m.tmix.Derive() }

// record implements trainBlock.
func (m *microBlock) record(p *pass, x *tensor.Tensor, t *blockTape) *tensor.Tensor {
	causal := m.config.Kind == Causal
	x = p.residual(x, &t.x[0], m.norm.Forward, func(dst, x *tensor.Tensor) { m.tmix.Record(dst, x, &t.tmix[0], &p.tape, p.context(true)) })
	x = p.residual(x, &t.x[1], m.norm.Forward, func(dst, x *tensor.Tensor) { m.cmix.Record(dst, x, &t.cmix, &p.tape, p.context(true)) })
	in := x
	x = p.step(x)
	m.sliding.Record(x, in, causal, &t.sliding, &p.tape, p.context(true))
	h := p.tape.New(x.Shape()...)
	m.tmix.Record(h, x, &t.tmix[1], &p.tape, p.context(false))
	x = p.step(x)
	m.grouped.Record(x, h, causal, &t.grouped, &p.tape, p.context(true))
	in = x
	x = p.step(x)
	m.moe.Record(x, in, p.aux, &t.moe, &p.tape, p.context(true))
	return x
}

// backward implements trainBlock.
func (m *microBlock) backward(p *pass, dx *tensor.Tensor, t *blockTape, grad block) {
	defer p.scratch.Release(p.scratch.Mark())
	causal := m.config.Kind == Causal
	dh := p.scratch.New(dx.Shape()...)
	var cmix *nn.ChannelMix
	var tmix *nn.TimeMix
	var moe *nn.MoE
	var sliding *nn.SlidingWindowAttention
	var grouped *nn.GroupedQueryAttention
	if g, ok := grad.(*microBlock); ok {
		cmix, tmix, moe, sliding, grouped = &g.cmix, &g.tmix, &g.moe, &g.sliding, &g.grouped
	}
	m.moe.Backward(dx, dx, p.auxScale, &t.moe, moe, p.context(true))
	m.grouped.Backward(dh, dx, causal, &t.grouped, grouped, p.context(false))
	m.tmix.Backward(dx, dh, &t.tmix[1], tmix, p.context(true))
	m.sliding.Backward(dx, dx, causal, &t.sliding, sliding, p.context(true))
	m.cmix.Backward(dh, dx, &t.cmix, cmix, p.context(false))
	m.norm.Backward(dx, dh, t.x[1], true)
	m.tmix.Backward(dh, dx, &t.tmix[0], tmix, p.context(false))
	m.norm.Backward(dx, dh, t.x[0], true)
}

// changed implements trainBlock.
func (m *microBlock) changed() { m.tmix.Derive() }

// record implements trainBlock.
func (m *gooseBlock) record(p *pass, x *tensor.Tensor, t *blockTape) *tensor.Tensor {
	if p.vFirst == nil {
		p.vFirst = p.tape.New(x.Shape()...)
	}
	x = p.residual(x, &t.x[0], m.ln1.Forward, func(dst, x *tensor.Tensor) { m.att.Record(dst, x, p.vFirst, &t.tmix7, &p.tape, p.context(true)) })
	return p.residual(x, &t.x[1], m.ln2.Forward, func(dst, x *tensor.Tensor) { m.ffn.Record(dst, x, &t.cmix, &p.tape, p.context(true)) })
}

// backward implements trainBlock.
func (m *gooseBlock) backward(p *pass, dx *tensor.Tensor, t *blockTape, grad block) {
	defer p.scratch.Release(p.scratch.Mark())
	dh := p.scratch.New(dx.Shape()...)
	var ffn *nn.ChannelMix7
	var att *nn.TimeMix7
	var ln1, ln2 *nn.LayerNorm
	if g, ok := grad.(*gooseBlock); ok {
		ffn, att, ln1, ln2 = &g.ffn, &g.att, &g.ln1, &g.ln2
	}
	m.ffn.Backward(dh, dx, &t.cmix, ffn, p.context(false))
	m.ln2.Backward(dx, dh, t.x[1], ln2, true)
	m.att.Backward(dh, dx, p.vFirst, p.dFirst, &t.tmix7, att, p.context(false))
	m.ln1.Backward(dx, dh, t.x[0], ln1, true)
}

// changed implements trainBlock: training uses the narrow products' weights as they are.
func (m *gooseBlock) changed() {}
