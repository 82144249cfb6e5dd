package attention

import (
	"microrwkv/tensor"
	"microrwkv/tensor/internal/freelist"
	"microrwkv/tensor/internal/kernel"
	"microrwkv/tensor/internal/task"
)

// Heads computes attention between heads, for each sequence alone, by the rule of the
// published MicroRWKV's grouped attention. z [R, G·C] has in each group of C columns four slices of
// w = C/4: queries, keys, values and a gate. For a sequence of T rows each slice [T, w] is re-read in
// row-major order as [H, T, d], d = w/H, and for each middle index the H rows attend to each other:
//
//	y = softmax(scale · q·kᵀ)·v ⊙ gate
//
// The results, T·w numbers for each group, one group's after another's, are re-read as [G·T·w/C, C].
// dst gets all those rows of each sequence, one sequence after another, or only the last one of each if
// last is set; then what the others need isn't computed. dst must not overlap z.
// It is computed as a step of in.
func Heads(in *tensor.Sequence, dst, z *tensor.Tensor, heads, groups int, scale float32, spans []int, last bool) {
	c := dst.Dim(-1)
	n := spans[len(spans)-1]
	rows := n * groups / 4
	if last {
		rows = len(spans) - 1
	}
	if heads <= 0 || c%(4*heads) != 0 || z.Dim(-1) != groups*c || z.Matrix().Rows < n || dst.Matrix().Rows != rows || !dst.Contiguous() {
		panic("attention: Heads: dst " + task.FormatShape(dst.Shape()...) + ", z " + task.FormatShape(z.Shape()...) + " in heads of " + task.FormatShape(heads))
	}
	t := headTasks.Get()
	t.dst, t.z, t.c, t.heads, t.groups, t.scale, t.last = dst.Data(), z.Matrix(), c, heads, groups, scale, last
	t.spans = append(t.spans[:0], spans...)
	index := heads * c / 4 // multiplications of a middle index in one of its two products
	t.block = max(headWork/index, (n*groups+4*task.Threads()-1)/(4*task.Threads()), 1)
	longest := 0
	for i := range len(spans) - 1 {
		longest = max(longest, spans[i+1]-spans[i])
	}
	t.blocks = (longest + t.block - 1) / t.block
	in.Add((len(spans)-1)*groups*t.blocks, 4*n*groups*index, t)
}

// End gives the task back.
func (t *headTask) End() {
	t.dst, t.z = nil, task.Matrix{}
	headTasks.Put(t)
}

// headWork is the multiplications, in one of the two products, that are worth a piece.
const headWork = 1 << 14

var headTasks = freelist.New[headTask]()

type headTask struct {
	dst              []float32
	z                task.Matrix
	c, heads, groups int
	scale            float32
	last             bool
	spans            []int
	block, blocks    int // middle indices of a piece, and pieces of a group
}

// Run computes some middle indices of one group of one sequence.
func (t *headTask) Run(piece int) {
	block, g, seq := piece%t.blocks, piece/t.blocks%t.groups, piece/t.blocks/t.groups
	n := t.spans[seq+1] - t.spans[seq]
	w := t.c / 4
	d := w / t.heads
	// Number i of the group is number g·n·w + i of the sequence, which goes to dst[at+i], unless
	// that is before the sequence's place in dst.
	at, least := t.spans[seq]*t.groups*w+g*n*w, 0
	if t.last {
		at = seq*t.c + t.c - (t.groups-g)*n*w
		least = seq*t.c - at
	}
	buf := attentionBuffers.Get()
	size := t.heads * d
	buf.q, buf.k, buf.v, buf.out = freelist.Grown(buf.q, size), freelist.Grown(buf.k, size), freelist.Grown(buf.v, size), freelist.Grown(buf.out, size)
	buf.scores = freelist.Grown(buf.scores, t.heads*t.heads)
	for m := block * t.block; m < min((block+1)*t.block, n); m++ {
		t.attend(buf, t.spans[seq], g, n, m, w, d, at, least)
	}
	attentionBuffers.Put(buf)
}

// attend computes middle index m of group g of the sequence of n rows from row first.
func (t *headTask) attend(buf *attentionBuffer, first, g, n, m, w, d, at, least int) {
	h0 := 0 // heads before it aren't wanted
	for h0 < t.heads && (h0*n+m)*d < least {
		h0++
	}
	if h0 == t.heads {
		return
	}
	heads := t.heads
	for h := range heads {
		i := (h*n + m) * d // number in the slice
		row := t.z.Data[(first+i/w)*t.z.Stride+g*t.c+i%w:]
		copy(buf.q[h*d:][:d], row)
		copy(buf.k[h*d:][:d], row[w:])
		copy(buf.v[h*d:][:d], row[2*w:])
	}
	q, scores, out := buf.q[h0*d:heads*d], buf.scores[:(heads-h0)*heads], buf.out[:(heads-h0)*d]
	kernel.Scale(q, t.scale, q)
	kernel.GemmNT(scores, heads, q, d, buf.k, d, heads-h0, heads, d, false)
	for r := range heads - h0 {
		s := scores[r*heads:][:heads]
		top := s[0]
		for _, v := range s[1:] {
			top = max(top, v)
		}
		for j := range s {
			s[j] -= top
		}
	}
	kernel.Exp(scores, scores)
	kernel.GemmNN(out, d, scores, heads, buf.v, d, heads-h0, d, heads, false)
	for r := range heads - h0 {
		var sum float32
		for _, e := range scores[r*heads:][:heads] {
			sum += e
		}
		i := ((h0+r)*n + m) * d
		gate := t.z.Data[(first+i/w)*t.z.Stride+g*t.c+3*w+i%w:][:d]
		y := t.dst[at+i:][:d]
		for j, o := range out[r*d:][:d] {
			y[j] = o / sum * gate[j]
		}
	}
}
