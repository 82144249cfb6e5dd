package attention

import (
	"microrwkv/tensor"
	"microrwkv/tensor/internal/freelist"
	"microrwkv/tensor/internal/kernel"
	"microrwkv/tensor/internal/task"
)

// HeadsBackward computes the gradient of z, Heads' input [R, G·C] with G = 4 groups, from that of its
// output, dy [R, C]: dz is written. It goes back through the same re-reading.
func HeadsBackward(dz, dy, z *tensor.Tensor, heads int, scale float32, spans []int) {
	const groups = 4
	c := dy.Dim(-1)
	tensor.SameShape("HeadsBackward", dz, z)
	if heads <= 0 || c%(4*heads) != 0 || z.Dim(-1) != groups*c || z.Dim(0) != dy.Dim(0) || !dy.Contiguous() {
		panic("attention: HeadsBackward: dy " + task.FormatShape(dy.Shape()...) + ", z " + task.FormatShape(z.Shape()...) + " in heads of " + task.FormatShape(heads))
	}
	t := headsBackwardTasks.Get()
	t.dy, t.z, t.dz, t.c, t.heads, t.groups, t.scale = dy.Data(), z.Matrix(), dz.Matrix(), c, heads, groups, scale
	t.spans = append(t.spans[:0], spans...)
	longest := 0
	for i := range len(spans) - 1 {
		longest = max(longest, spans[i+1]-spans[i])
	}
	t.blocks = (longest + headsBlock - 1) / headsBlock
	task.Spread((len(spans)-1)*groups*t.blocks, 8*z.Dim(0)*groups*heads*c/4, t)
	*t = headsBackwardTask{spans: t.spans}
	headsBackwardTasks.Put(t)
}

// headsBlock is the middle indices of a piece.
const headsBlock = 32

var headsBackwardTasks = freelist.New[headsBackwardTask]()

type headsBackwardTask struct {
	dy               []float32
	z, dz            task.Matrix
	c, heads, groups int
	scale            float32
	spans            []int
	blocks           int // of a group
}

// Run computes some middle indices of one group of one sequence.
func (t *headsBackwardTask) Run(piece int) {
	block, g, seq := piece%t.blocks, piece/t.blocks%t.groups, piece/t.blocks/t.groups
	first, n := t.spans[seq], t.spans[seq+1]-t.spans[seq]
	w := t.c / 4
	d, heads := w/t.heads, t.heads
	at := first*t.c + g*n*w // in dy, of the group's numbers
	buf := backwardBuffers.Get()
	for _, b := range [...]*[]float32{&buf.q, &buf.k, &buf.v, &buf.dq, &buf.dk, &buf.dv, &buf.dy, &buf.out} {
		*b = freelist.Grown(*b, heads*d)
	}
	for _, b := range [...]*[]float32{&buf.p, &buf.dp} {
		*b = freelist.Grown(*b, heads*heads)
	}
	for m := block * headsBlock; m < min((block+1)*headsBlock, n); m++ {
		for h := range heads {
			i := (h*n + m) * d // number in the slice
			row := t.z.Data[(first+i/w)*t.z.Stride+g*t.c+i%w:]
			copy(buf.q[h*d:][:d], row)
			copy(buf.k[h*d:][:d], row[w:])
			copy(buf.v[h*d:][:d], row[2*w:])
		}
		q, p := buf.q[:heads*d], buf.p[:heads*heads]
		kernel.Scale(q, t.scale, q)
		kernel.GemmNT(p, heads, q, d, buf.k, d, heads, heads, d, false)
		for h := range heads {
			s := p[h*heads:][:heads]
			kernel.Scale(s, task.ExpRow(s, 0), s)
		}
		kernel.GemmNN(buf.out, d, p, heads, buf.v, d, heads, d, heads, false)
		for h := range heads {
			i := (h*n + m) * d
			zi := (first+i/w)*t.z.Stride + g*t.c + i%w + 3*w
			gate, dgate := t.z.Data[zi:][:d], t.dz.Data[(first+i/w)*t.dz.Stride+g*t.c+i%w+3*w:][:d]
			dy, out, do := t.dy[at+i:][:d], buf.out[h*d:][:d], buf.dy[h*d:][:d]
			for j, x := range dy {
				dgate[j] = x * out[j]
				do[j] = x * gate[j]
			}
		}
		buf.softmax(buf.dy, buf.v, heads, heads, d)
		clear(buf.dk[:heads*d])
		clear(buf.dv[:heads*d])
		kernel.GemmNN(buf.dq, d, buf.dp, heads, buf.k, d, heads, d, heads, false)
		buf.keys(buf.dk, buf.dv, q, buf.dy, heads, heads, d)
		for h := range heads {
			i := (h*n + m) * d
			row := t.dz.Data[(first+i/w)*t.dz.Stride+g*t.c+i%w:]
			kernel.Scale(row[:d], t.scale, buf.dq[h*d:][:d])
			copy(row[w:][:d], buf.dk[h*d:])
			copy(row[2*w:][:d], buf.dv[h*d:])
		}
	}
	backwardBuffers.Put(buf)
}
