package train

import (
	"microrwkv/checkpoint"
	"microrwkv/rwkv"
	"microrwkv/tensor"
)

// NewStates returns a trainer of the model's initial states: the state that each block's time mix begins
// a sequence with. The weights stay as they are, and only the states are saved, as a file of
// blocks.N.att.time_state. It is for all kinds that are trained but reference; a block of causal has two time
// mixes, of which the first is tuned. rwkv.InitialState loads the files of kinds rwkv5, rwkv6 and rwkv7. A
// learning rate some times that of training fits.
func NewStates(model *rwkv.Trainee, o Options, source Source) (*Trainer, error) {
	return newTrainer(model, o, source, true)
}

// stateGroup is one group without decay.
func stateGroup(params []rwkv.Parameter, _ float64) []group {
	g := group{scale: 1}
	for i := range params {
		g.members = append(g.members, i)
	}
	return []group{g}
}

// saveStates writes blocks.N.att.time_state [H, N, N] by head, value and key, as RWKV-PEFT and
// RWKV-Runner have them. The time mix of kinds causal and x051a computes by key and value.
func (t *Trainer) saveStates(path string) error {
	var list []checkpoint.Named
	for _, p := range t.params {
		v := p.Value
		if k := t.model.Config().Kind; k == rwkv.Causal || k == rwkv.X051a {
			v = make([]float32, len(p.Value))
			n := p.Shape[1]
			for i := range v {
				h, row, col := i/(n*n), i/n%n, i%n
				v[(h*n+col)*n+row] = p.Value[i]
			}
		}
		list = append(list, checkpoint.Named{Name: p.Name, Tensor: tensor.FromSlice(v, p.Shape...).Weight()})
	}
	return checkpoint.Write(path, list, nil)
}
