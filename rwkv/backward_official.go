package rwkv

import (
	"microrwkv/nn"
	"microrwkv/tensor"
)

// RWKV-5 and RWKV-6 backwards.

// record implements trainBlock.
func (m *eagleBlock) record(p *pass, x *tensor.Tensor, t *blockTape) *tensor.Tensor {
	x = p.residual(x, &t.x[0], m.ln1.Forward, func(dst, x *tensor.Tensor) { m.att.Record(dst, x, &t.tmix5, &p.tape, p.context(true)) })
	return p.residual(x, &t.x[1], m.ln2.Forward, func(dst, x *tensor.Tensor) { m.ffn.Record(dst, x, &t.cmix, &p.tape, p.context(true)) })
}

// backward implements trainBlock.
func (m *eagleBlock) backward(p *pass, dx *tensor.Tensor, t *blockTape, grad block) {
	defer p.scratch.Release(p.scratch.Mark())
	dh := p.scratch.New(dx.Shape()...)
	var ffn *nn.ChannelMix
	var att *nn.TimeMix5
	var ln1, ln2 *nn.LayerNorm
	if g, ok := grad.(*eagleBlock); ok {
		ffn, att, ln1, ln2 = &g.ffn, &g.att, &g.ln1, &g.ln2
	}
	m.ffn.Backward(dh, dx, &t.cmix, ffn, p.context(false))
	m.ln2.Backward(dx, dh, t.x[1], ln2, true)
	m.att.Backward(dh, dx, &t.tmix5, att, p.context(false))
	m.ln1.Backward(dx, dh, t.x[0], ln1, true)
}

// changed implements trainBlock: Trainee.Changed makes the decays and shares.
func (m *eagleBlock) changed() {}

// record implements trainBlock.
func (m *finchBlock) record(p *pass, x *tensor.Tensor, t *blockTape) *tensor.Tensor {
	x = p.residual(x, &t.x[0], m.ln1.Forward, func(dst, x *tensor.Tensor) { m.att.Record(dst, x, &t.tmix6, &p.tape, p.context(true)) })
	return p.residual(x, &t.x[1], m.ln2.Forward, func(dst, x *tensor.Tensor) { m.ffn.Record(dst, x, &t.cmix, &p.tape, p.context(true)) })
}

// backward implements trainBlock.
func (m *finchBlock) backward(p *pass, dx *tensor.Tensor, t *blockTape, grad block) {
	defer p.scratch.Release(p.scratch.Mark())
	dh := p.scratch.New(dx.Shape()...)
	var ffn *nn.ChannelMix
	var att *nn.TimeMix6
	var ln1, ln2 *nn.LayerNorm
	if g, ok := grad.(*finchBlock); ok {
		ffn, att, ln1, ln2 = &g.ffn, &g.att, &g.ln1, &g.ln2
	}
	m.ffn.Backward(dh, dx, &t.cmix, ffn, p.context(false))
	m.ln2.Backward(dx, dh, t.x[1], ln2, true)
	m.att.Backward(dh, dx, &t.tmix6, att, p.context(false))
	m.ln1.Backward(dx, dh, t.x[0], ln1, true)
}

// changed implements trainBlock: training uses the narrow products' weights as they are.
func (m *finchBlock) changed() {}
