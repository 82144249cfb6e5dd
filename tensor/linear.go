package tensor

import (
	"fmt"

	"microrwkv/tensor/internal/freelist"
	"microrwkv/tensor/internal/kernel"
	"microrwkv/tensor/internal/task"
)

// Act is an elementwise function.
type Act uint8

const (
	Identity   Act = iota
	SquareReLU     // max(v, 0)²
	Sigmoid        // 1/(1+exp(−v))
	SiLU           // v·sigmoid(v)
	Tanh
)

// apply computes x = act(x).
func (a Act) apply(x []float32) {
	switch a {
	case SquareReLU:
		kernel.SquareReLU(x, x)
	case Sigmoid:
		kernel.Sigmoid(x, x)
	case SiLU:
		kernel.SiLU(x, x)
	case Tanh:
		kernel.Tanh(x, x)
	}
}

// Product is y = x·wᵀ with what follows it, done while y is in the cache:
//
//	v = Act(x·wᵀ + Bias)
//	Dst = Gate ⊙ v         or Dst += Gate ⊙ v if Add
//
// X is [T, in], W [out, in] of any DType, as PyTorch's Linear stores it, Dst and Gate [T, out],
// Bias [out]. Bias and Gate may be nil (0 and 1). Dst must not overlap X or W; Gate may be Dst.
//
// Turned says that there are many rows and a weight of type F32: it is transposed, part by part, and the
// products are summed in another order, which is faster for a short in.
type Product struct {
	Dst, X *Tensor
	W      *Weight
	Bias   *Tensor
	Act    Act
	Gate   *Tensor
	Add    bool
	Turned bool
}

// turnedMost is the length of sums up to which products of transposed weights are faster.
const turnedMost = 512

// maxProducts is how many products one call of Linear takes.
const maxProducts = 8

// Linear computes products, which must not depend on each other. Given together they are spread
// over the threads in one go. Each weight is read from memory once for some hundreds of rows of
// X. The row of a result doesn't depend on the other rows, not in a single bit.
func Linear(ps ...Product) { (*Sequence)(nil).Linear(ps...) }

// Linear adds products to the sequence; see the function of that name.
func (q *Sequence) Linear(ps ...Product) {
	if len(ps) > maxProducts {
		q.Linear(ps[:maxProducts]...)
		q.Linear(ps[maxProducts:]...)
		return
	}
	for i := range ps {
		if ps[i].W.observe != nil {
			q.Run() // who observes wants to see X
		}
	}
	t := linearTasks.Get()
	t.count, t.partPieces = 0, 0
	t.round(q, ps)
	parts, work := Threads(), 0
	for i := range ps {
		work += ps[i].work()
	}
	if q == nil && work < task.MinSpread {
		parts = 1
	}
	for i := range ps {
		l := &t.products[t.count]
		if l.set(&ps[i], t.rounded[i], parts) {
			l.first = t.partPieces
			t.partPieces += l.rowBlocks * l.colBlocks
			t.count++
		}
	}
	q.Add(parts*t.partPieces, work, t)
}

// End gives the task back.
func (t *linearTask) End() {
	for i := range t.count {
		t.products[i] = product{} // keep no weights alive
	}
	t.free()
	linearTasks.Put(t)
}

var linearTasks = freelist.New[linearTask]()

// linearTask is some products. The columns of each are cut into as many parts as there are threads;
// a thread's pieces are the first part of one product, of the next and so on.
type linearTask struct {
	products   [maxProducts]product
	rounded    [maxProducts]*kernel.Rounded // the rows of each Product's X, nil if they aren't rounded
	count      int
	partPieces int
}

// product is a Product of which each part is cut into pieces of rowBlock rows by colBlock columns.
type product struct {
	dst, x, gate         task.Matrix
	rounded              *kernel.Rounded // in place of x, if not nil
	w                    weights
	bias                 []float32
	act                  Act
	add, turned          bool
	m, n, k              int
	first                int // number of its first piece in a part
	part                 int // columns of a part
	rowBlock, colBlock   int
	rowBlocks, colBlocks int // of a part
}

const (
	maxRowBlock = 256             // rows of x that share one reading of a weight: 256×768 floats fit a L2 cache
	turnedRows  = 4 * maxRowBlock // and one transposing
	epilogueCol = 64              // columns whose epilogue follows at once, of so many rows: 256×64 floats stay in the cache

	// epilogueRows is the rows whose epilogue follows at once if the weights are transposed: 64×64 floats stay
	// in L1 beside the rows of x.
	epilogueRows = 64

	// A piece has whole tiles, at least minColBlock columns, and takes some ten microseconds, by the
	// bytes that a core fetches or the multiplications that it does in one: so long do the other
	// threads wait for the last one at most.
	minColBlock = 32
	pieceBytes  = 256 << 10
	pieceWork   = 1024 << 10
	colAlign    = 16
)

// work is the cost of a product in multiplications: theirs, or if that is more the reading of the
// weights, a byte of which takes as long as some.
func (p *Product) work() int { return p.W.Dim(0) * columnWork(p.X.rows(), p.X.cols(), p.W.dtype) }

// columnWork is the cost of a column of k weights for some rows.
func columnWork(rows, k int, dtype DType) int {
	return max(dtype.Bytes(k)*(pieceWork/pieceBytes), rows*k)
}

// set checks p and plans the pieces of its parts; it reports whether there is anything to compute.
func (l *product) set(p *Product, rounded *kernel.Rounded, parts int) bool {
	l.m, l.n, l.k = p.X.rows(), p.W.Dim(0), p.X.cols()
	if p.W.ndim != 2 || p.W.Dim(1) != l.k || p.Dst.rows() != l.m || p.Dst.cols() != l.n {
		panic(fmt.Sprintf("tensor: Linear: x %s, w %s, dst %s", task.FormatShape(p.X.Shape()...), task.FormatShape(p.W.Shape()...), task.FormatShape(p.Dst.Shape()...)))
	}
	l.dst, l.x, l.w = p.Dst.Matrix(), p.X.Matrix(), weights{p.W.memory(), p.W.stride, p.W.dtype}
	l.bias, l.gate = nil, task.Matrix{}
	if p.Bias != nil {
		if l.bias = p.Bias.Data(); len(l.bias) != l.n {
			panic(fmt.Sprintf("tensor: Linear: w %s, bias %s", task.FormatShape(p.W.Shape()...), task.FormatShape(p.Bias.Shape()...)))
		}
	}
	if p.Gate != nil {
		if p.Gate.rows() != l.m || p.Gate.cols() != l.n {
			panic(fmt.Sprintf("tensor: Linear: dst %s, gate %s", task.FormatShape(p.Dst.Shape()...), task.FormatShape(p.Gate.Shape()...)))
		}
		l.gate = p.Gate.Matrix()
	}
	if p.W.observe != nil {
		x := *p.X // so that headers of others stay on the stack
		p.W.observe(&x)
	}
	l.act, l.add, l.rounded = p.Act, p.Add, rounded
	if l.m == 0 || l.n == 0 {
		return false
	}

	l.turned = p.Turned && p.W.dtype == F32 && 0 < l.k && l.k <= turnedMost
	most, least := maxRowBlock, minColBlock
	if l.turned {
		most, least = turnedRows, epilogueCol
	}
	l.rowBlocks = (l.m + most - 1) / most
	l.rowBlock = (l.m + l.rowBlocks - 1) / l.rowBlocks
	if rounded != nil {
		l.rowBlock = (l.rowBlock + rounded.Group() - 1) / rounded.Group() * rounded.Group()
	}
	l.part = alignCols((l.n + parts - 1) / parts)
	column := max(columnWork(l.rowBlock, l.k, p.W.dtype), 1)
	l.colBlocks = max(l.part/max(pieceWork/column, least), 1)
	l.colBlock = alignCols((l.part + l.colBlocks - 1) / l.colBlocks)
	l.colBlocks = (l.part + l.colBlock - 1) / l.colBlock
	return true
}

// alignCols rounds up to whole tiles of every kernel.
func alignCols(n int) int { return (n + colAlign - 1) / colAlign * colAlign }

// Run computes one piece.
func (t *linearTask) Run(piece int) {
	part, piece := piece/t.partPieces, piece%t.partPieces
	i := t.count - 1
	for t.products[i].first > piece {
		i--
	}
	l := &t.products[i]
	piece -= l.first
	// Row blocks of the same columns follow each other, so that the weights are still in a cache.
	r0 := piece % l.rowBlocks * l.rowBlock
	c0 := part*l.part + piece/l.rowBlocks*l.colBlock
	c1 := min(c0+l.colBlock, (part+1)*l.part, l.n)
	if c0 < c1 {
		l.compute(r0, min(r0+l.rowBlock, l.m), c0, c1)
	}
}

func (l *product) compute(r0, r1, c0, c1 int) {
	if l.turned {
		l.computeTurned(r0, r1, c0, c1)
		return
	}
	cols := maxRowBlock / (r1 - r0) * epilogueCol // as many numbers for few rows, whose weights are read in long runs
	switch {
	case l.act == Identity && l.gate.Data == nil && l.bias == nil:
		l.gemm(l.dst.Data[r0*l.dst.Stride+c0:], l.dst.Stride, r0, r1, c0, c1, l.add)
	case !l.add:
		for c := c0; c < c1; c += cols {
			end := min(c+cols, c1)
			dst := l.dst.Data[r0*l.dst.Stride+c:]
			if l.gate.Same(l.dst) { // the gate would be overwritten before its use
				l.throughBuffer(r0, r1, c, end)
				continue
			}
			l.gemm(dst, l.dst.Stride, r0, r1, c, end, false)
			for r := r0; r < r1; r++ {
				d := dst[(r-r0)*l.dst.Stride:][:end-c]
				l.epilogue(d, r, c, end)
			}
		}
	default:
		for c := c0; c < c1; c += cols {
			l.throughBuffer(r0, r1, c, min(c+cols, c1))
		}
	}
}

// computeTurned is compute with transposed weights, of some columns of y at a time.
func (l *product) computeTurned(r0, r1, c0, c1 int) {
	w := task.Matrix{Data: kernel.View[float32](l.w.data), Stride: l.w.stride / 4}
	turned := turnedBuffers.Get()
	ld := epilogueCol + kernel.TransposeGap
	turned.t = freelist.Grown(turned.t, ld*l.k)
	plain := l.act == Identity && l.gate.Data == nil && (l.bias == nil || !l.add)
	buf, strip := productBuffers.Get(), maxRowBlock
	if !plain || l.bias != nil {
		strip = epilogueRows
	}
	for c := c0; c < c1; c += epilogueCol {
		n := min(epilogueCol, c1-c)
		kernel.Transpose(turned.t, ld, w.Data[c*w.Stride:], w.Stride, n, l.k)
		for r := r0; r < r1; r += strip {
			rows := min(strip, r1-r)
			dst, ldd := l.dst.Data[r*l.dst.Stride+c:], l.dst.Stride
			if !plain {
				dst, ldd = buf[:], n
			}
			for i := 0; i < rows && l.bias != nil; i++ { // which the product is added to
				copy(dst[i*ldd:], l.bias[c:][:n])
			}
			kernel.GemmNN(dst, ldd, l.x.Data[r*l.x.Stride:], l.x.Stride, turned.t, ld, rows, n, l.k, l.bias != nil || plain && l.add)
			if !plain {
				l.put(buf[:rows*n], n, r, c)
			}
		}
	}
	productBuffers.Put(buf)
	turnedBuffers.Put(turned)
}

var turnedBuffers = freelist.New[turnedBuffer]()

// turnedBuffer has the transposed weights of some columns.
type turnedBuffer struct{ t []float32 }

// put does what follows the bias with v, rows of n columns from column c and row r on, and stores them.
// The activation takes all rows at once.
func (l *product) put(v []float32, n, r, c int) {
	l.act.apply(v)
	for i := range len(v) / n {
		x, d := v[i*n:][:n], l.dst.Data[(r+i)*l.dst.Stride+c:][:n]
		switch {
		case l.gate.Data != nil && l.add:
			kernel.Mul(x, x, l.gate.Data[(r+i)*l.gate.Stride+c:][:n])
			kernel.Add(d, d, x)
		case l.gate.Data != nil:
			kernel.Mul(d, x, l.gate.Data[(r+i)*l.gate.Stride+c:][:n])
		case l.add:
			kernel.Add(d, d, x)
		default:
			copy(d, x)
		}
	}
}

// throughBuffer computes a piece of at most maxRowBlock×epilogueCol numbers beside dst, then stores it
// there.
func (l *product) throughBuffer(r0, r1, c0, c1 int) {
	buf := productBuffers.Get()
	n := c1 - c0
	l.gemm(buf[:], n, r0, r1, c0, c1, false)
	for i := 0; i < r1-r0 && l.bias != nil; i++ {
		x := buf[i*n:][:n]
		kernel.Add(x, x, l.bias[c0:c1])
	}
	l.put(buf[:(r1-r0)*n], n, r0, c0)
	productBuffers.Put(buf)
}

var productBuffers = freelist.New[[maxRowBlock * epilogueCol]float32]()

// epilogue applies bias, activation and gate to v, columns c0 to c1 of row r.
func (l *product) epilogue(v []float32, r, c0, c1 int) {
	if l.bias != nil {
		kernel.Add(v, v, l.bias[c0:c1])
	}
	l.act.apply(v)
	if l.gate.Data != nil {
		kernel.Mul(v, v, l.gate.Data[r*l.gate.Stride+c0:][:c1-c0])
	}
}

// gemm computes x[r0:r1]·w[c0:c1]ᵀ into dst.
func (l *product) gemm(dst []float32, ldd, r0, r1, c0, c1 int, acc bool) {
	m, n := r1-r0, c1-c0
	if l.k == 0 {
		kernel.GemmNT(dst, ldd, nil, 0, nil, 0, m, n, 0, acc)
		return
	}
	if l.rounded != nil {
		l.rounded.Product(l.w.dtype, dst, ldd, r0/l.rounded.Group(), l.w.data[c0*l.w.stride:], l.w.stride, m, n, acc)
		return
	}
	kernel.Product(l.w.dtype, dst, ldd, l.x.Data[r0*l.x.Stride:], l.x.Stride, l.w.data[c0*l.w.stride:], l.w.stride, m, n, l.k, acc)
}

// weights is what a task keeps of a Weight.
type weights struct {
	data   []byte
	stride int
	dtype  DType
}
