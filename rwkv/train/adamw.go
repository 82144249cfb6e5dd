package train

import (
	"math"
	"slices"
	"strings"

	"microrwkv/rwkv"
	"microrwkv/tensor"
)

// group is parameters that are stepped alike.
type group struct {
	decay   float64
	scale   float64 // of the learning rate
	members []int   // indices of parameters, in the order of a checkpoint
}

// nanoGPTGroups are the weights that decay, two or more dimensions and no "time_" in the name, and the
// rest, in the order of the modules.
func nanoGPTGroups(params []rwkv.Parameter, decay float64) []group {
	groups := []group{{decay: decay, scale: 1}, {scale: 1}}
	for i, p := range params {
		g := 0
		if len(p.Shape) < 2 || strings.Contains(p.Name, "time_") {
			g = 1
		}
		groups[g].members = append(groups[g].members, i)
	}
	return groups
}

// rwkvLMGroups are the rest, the decays' biases at twice the rate, and the weights that decay, in the
// order of the names.
func rwkvLMGroups(params []rwkv.Parameter, decay float64) []group {
	groups := []group{{scale: 1}, {scale: 2}, {decay: decay, scale: 1}}
	for _, i := range byName(params) {
		p := params[i]
		g := 0
		switch {
		case strings.Contains(p.Name, "att.w0"):
			g = 1
		case wide(p) && strings.Contains(p.Name, ".weight") && decay > 0:
			g = 2
		}
		groups[g].members = append(groups[g].members, i)
	}
	if len(groups[2].members) == 0 {
		groups = groups[:2]
	}
	return groups
}

// rwkvLM5Groups are those of versions 5 and 6: the rest, the decays at twice the rate, the bonus of early 5.0
// at three times, and what has two or more dimensions, which decays, but for the narrow products, the
// mixes and the other bonus; in the order of the names. A group of nothing is left out.
func rwkvLM5Groups(params []rwkv.Parameter, decay float64) []group {
	groups := []group{{scale: 1}, {scale: 2}, {scale: 3}, {decay: decay, scale: 1}}
	for _, i := range byName(params) {
		has := func(parts ...string) bool {
			return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(params[i].Name, part) })
		}
		g := 0
		switch {
		case has("_w1", "_w2", "time_mix", "time_maa", "time_faaaa"):
		case has("time_decay"):
			g = 1
		case has("time_first"):
			g = 2
		case wide(params[i]) && decay > 0:
			g = 3
		}
		groups[g].members = append(groups[g].members, i)
	}
	return slices.DeleteFunc(groups, func(g group) bool { return len(g.members) == 0 })
}

// byName returns the parameters' indices in the order of the names.
func byName(params []rwkv.Parameter) []int {
	order := make([]int, len(params))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return strings.Compare(params[a].Name, params[b].Name) })
	return order
}

// wide reports whether a parameter has two or more dimensions that aren't 1.
func wide(p rwkv.Parameter) bool {
	dims := 0
	for _, d := range p.Shape {
		if d > 1 {
			dims++
		}
	}
	return dims >= 2
}

// adamW is the optimizer (Loshchilov and Hutter, arXiv:1711.05101), with the arithmetic of
// torch.optim.AdamW: factors in float64, elements in float32.
type adamW struct {
	groups []group
	states []adamState // by parameter
	chunks []chunk
	sums   []float64 // Σ g² of each chunk

	beta1, beta2, eps float64
	clip              float32
	norms             bool // this pass is for sums
}

// adamState is a parameter's. Steps counts those done; a parameter without a gradient has none.
type adamState struct {
	steps      int
	m, v       []float32
	param      []float32
	grad       []float32
	decay      float64
	scale      float64
	keep       float32 // 1 − rate·decay of the present step
	step       float32 // rate/(1−β1^t)
	correct    float32 // √(1−β2^t)
	noGradient bool
}

// chunk is a part of a parameter, a piece of work.
type chunk struct{ param, from, to int }

// chunkSize is the numbers of a chunk, whatever the number of threads.
const chunkSize = 1 << 14

// newAdamW returns an optimizer of the parameters, by groups of their indices.
func newAdamW(params []rwkv.Parameter, groups []group) *adamW {
	a := &adamW{groups: groups, states: make([]adamState, len(params))}
	for _, g := range groups {
		for _, i := range g.members {
			a.states[i].decay, a.states[i].scale = g.decay, g.scale
		}
	}
	for i, p := range params {
		s := &a.states[i]
		s.param, s.grad, s.noGradient = p.Value, p.Grad, p.Grad == nil
		if s.noGradient {
			continue
		}
		s.m, s.v = make([]float32, len(p.Value)), make([]float32, len(p.Value))
		for from := 0; from < len(p.Value); from += chunkSize {
			a.chunks = append(a.chunks, chunk{i, from, min(from+chunkSize, len(p.Value))})
		}
	}
	a.sums = make([]float64, len(a.chunks))
	return a
}

// norm returns the Euclidean norm of all gradients, summed in one order.
func (a *adamW) norm() float64 {
	a.norms = true
	tensor.Parallel(len(a.chunks), a)
	var sum float64
	for _, s := range a.sums {
		sum += s
	}
	return math.Sqrt(sum)
}

// step updates all parameters by their gradients times clip.
func (a *adamW) step(rate float64, clip float32, o *Options) {
	a.beta1, a.beta2, a.eps, a.clip, a.norms = o.Beta1, o.Beta2, o.Eps, clip, false
	for i := range a.states {
		s := &a.states[i]
		if s.noGradient {
			continue
		}
		s.steps++
		t, lr := float64(s.steps), rate*s.scale
		s.keep = float32(1 - lr*s.decay)
		s.step = float32(lr / (1 - math.Pow(a.beta1, t)))
		s.correct = float32(math.Sqrt(1 - math.Pow(a.beta2, t)))
	}
	tensor.Parallel(len(a.chunks), a)
}

// Run does one chunk.
func (a *adamW) Run(piece int) {
	c := a.chunks[piece]
	s := &a.states[c.param]
	g := s.grad[c.from:c.to]
	if a.norms {
		a.sums[piece] = sumSquares(g)
		return
	}
	f := tensor.AdamFactors{Clip: a.clip, Rest1: float32(1 - a.beta1), Beta2: float32(a.beta2), Rest2: float32(1 - a.beta2), Correct: 1 / s.correct, Eps: float32(a.eps), Keep: s.keep, Rate: s.step}
	tensor.Adam(s.param[c.from:c.to], s.m[c.from:c.to], s.v[c.from:c.to], g, float32(a.beta1), f)
}

// sumSquares returns Σ x², adding in four chains that don't wait for each other.
func sumSquares(x []float32) float64 {
	var s0, s1, s2, s3 float64
	for ; len(x) >= 4; x = x[4:] {
		a, b, c, d := float64(x[0]), float64(x[1]), float64(x[2]), float64(x[3])
		s0 += a * a
		s1 += b * b
		s2 += c * c
		s3 += d * d
	}
	for _, v := range x {
		s0 += float64(v) * float64(v)
	}
	return (s0 + s1) + (s2 + s3)
}
