package checkpoint

import (
	"cmp"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"microrwkv/checkpoint/internal/store"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

// checkBlock is how many bytes one goroutine checks at a time: the checksum brings them into its
// cache, and the search for NaN and Inf finds them there.
const checkBlock = 1 << 20

// Verify reads the tensors of these names, of all if there are none, and checks that the file has
// all of their elements, that records match their CRC-32 where the file has one (zip), and that
// no float is NaN or infinite. Anything else in the file, an optimizer's state, is not touched, nor
// are sparse and quantized tensors and their like, unless they are named. It returns one error that
// names everything wrong; of tied tensors the first one.
//
// It reads each byte once, on GOMAXPROCS goroutines. If progress is not nil it is called now and
// then with the bytes read and to read, from one goroutine at a time.
func (f *File) Verify(progress func(done, total int64), names ...string) error {
	all := len(names) == 0
	if all {
		names = f.names
	}
	v := &verifier{progress: progress}
	errs := v.collect(f, names, all)
	for _, job := range v.jobs {
		job.plan(v)
	}
	v.run()
	errs = append(errs, v.report(f)...)
	return errors.Join(errs...)
}

// verifier is one run of Verify.
type verifier struct {
	progress func(done, total int64)
	jobs     []*recordJob
	blocks   []block
	total    int64

	next atomic.Int64
	mu   sync.Mutex // for progress
	done int64
}

// recordJob is what is to be checked of one record.
type recordJob struct {
	rec     *store.Record
	tensors []*namedTensor
	runs    [F64 + 1][]*run // of floats, by dtype: in order, without overlaps
	sums    []uint32        // of its blocks, if there is a checksum
	failed  atomic.Pointer[error]
}

// namedTensor is a tensor to check. One that is alone is searched for NaN and Inf by itself: there
// are gaps between its elements, which don't count, or their bytes are in the other order.
type namedTensor struct {
	name     string
	tensor   *store.Tensor
	from, to int64 // bytes in its record
	alone    bool
	bad      atomic.Bool // a scale of a block is not finite
}

// run is bytes of a record that tensors fill with floats of one type.
type run struct {
	from, to int64
	bad      atomic.Bool
}

// block is a part of a record, from a multiple of checkBlock on.
type block struct {
	job      *recordJob
	from, to int64
	tensor   *namedTensor // whose quantized blocks these are, nil for floats
}

// collect finds out which bytes to read, and reports the tensors that are not there.
func (v *verifier) collect(f *File, names []string, all bool) (errs []error) {
	jobs := map[*store.Record]*recordJob{}
	seen := map[store.Identity]bool{}
	for _, name := range names {
		if len(errs) >= maxErrors {
			return append(errs, fmt.Errorf("%s: there may be more", f.name))
		}
		t, ok := f.tensors[name]
		if !ok {
			errs = append(errs, f.fail(name, ErrNotFound))
			continue
		}
		if all && t.Special != "" {
			continue
		}
		if err := t.Check(); err != nil {
			errs = append(errs, f.fail(name, err))
			continue
		}
		id := t.Identity()
		if seen[id] {
			continue
		}
		seen[id] = true
		job := jobs[t.Rec]
		if job == nil {
			job = &recordJob{rec: t.Rec}
			jobs[t.Rec] = job
			v.jobs = append(v.jobs, job)
		}
		n, last, _ := store.Extent(t.Shape, t.Stride)
		from := store.Bytes(t.DType, t.Offset)
		alone := n != last || t.Rec.Swap && !store.Blocked(t.DType)
		job.tensors = append(job.tensors, &namedTensor{name: name, tensor: t, from: from, to: from + store.Bytes(t.DType, last), alone: alone})
	}
	return errs
}

// plan cuts what is to be read of a record into blocks: all of it if there is a checksum, else
// where there are runs.
func (job *recordJob) plan(v *verifier) {
	slices.SortStableFunc(job.tensors, func(a, b *namedTensor) int { return cmp.Compare(a.from, b.from) })
	for _, t := range job.tensors {
		d := t.tensor.DType
		if store.Blocked(d) {
			step := checkBlock / store.Size(d) * store.Size(d)
			for from := t.from; from < t.to; from += step {
				v.addBlock(block{job, from, min(t.to, from+step), t})
			}
			continue
		}
		if store.IsWeight(d) && !t.alone && t.from < t.to {
			runs := &job.runs[d]
			if n := len(*runs); n > 0 && (*runs)[n-1].to >= t.from {
				(*runs)[n-1].to = max((*runs)[n-1].to, t.to)
			} else {
				*runs = append(*runs, &run{from: t.from, to: t.to})
			}
		}
	}
	if job.rec.Sum {
		job.sums = make([]uint32, (job.rec.Size+checkBlock-1)/checkBlock)
		v.add(job, 0, job.rec.Size)
		return
	}
	var all []*run
	for _, runs := range job.runs {
		all = append(all, runs...)
	}
	slices.SortFunc(all, func(a, b *run) int { return cmp.Compare(a.from, b.from) })
	var end int64
	for _, r := range all {
		from := max(end, r.from&^(checkBlock-1))
		if from < r.to {
			v.add(job, from, r.to)
			end = (r.to + checkBlock - 1) &^ (checkBlock - 1)
		}
	}
}

// add adds the blocks from a multiple of checkBlock to that of byte to-1 of a record.
func (v *verifier) add(job *recordJob, from, to int64) {
	for ; from < to; from += checkBlock {
		v.addBlock(block{job, from, min(job.rec.Size, from+checkBlock), nil})
	}
}

func (v *verifier) addBlock(b block) {
	v.blocks = append(v.blocks, b)
	v.total += b.to - b.from
}

// run checks all blocks.
func (v *verifier) run() {
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(v.blocks)) {
		wg.Go(func() {
			for {
				i := int(v.next.Add(1)) - 1
				if i >= len(v.blocks) {
					return
				}
				b := v.blocks[i]
				if err := store.Guard(b.check); err != nil {
					b.job.failed.CompareAndSwap(nil, &err)
				}
				v.count(b.to - b.from)
			}
		})
	}
	wg.Wait()
}

// count reports progress, at every hundredth.
func (v *verifier) count(n int64) {
	if v.progress == nil {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	step := v.total/100 + 1
	before := v.done / step
	v.done += n
	if v.done/step > before || v.done == v.total {
		v.progress(v.done, v.total)
	}
}

// check reads a block: its checksum, and whether floats in it are finite.
func (b block) check() error {
	rec := b.job.rec
	data, err := rec.Src.Bytes(rec.Off+b.from, b.to-b.from)
	if err != nil {
		return err
	}
	if b.tensor != nil {
		if !store.Finite(data, b.tensor.tensor.DType) {
			b.tensor.bad.Store(true)
		}
		return nil
	}
	if rec.Sum {
		sum := &b.job.sums[b.from/checkBlock]
		if r, d := b.only(); r != nil {
			var finite bool
			if *sum, finite = store.SumFinite(data, d); !finite {
				r.bad.Store(true)
			}
			return nil
		}
		*sum = crc32.ChecksumIEEE(data)
	}
	for d, runs := range b.job.runs {
		for i := b.firstOf(runs); i < len(runs) && runs[i].from < b.to; i++ {
			r := runs[i]
			from, to := max(r.from, b.from), min(r.to, b.to)
			if !store.Finite(data[from-b.from:to-b.from], DType(d)) {
				r.bad.Store(true)
			}
		}
	}
	return nil
}

// firstOf returns the first of the runs that ends in the block or after it.
func (b block) firstOf(runs []*run) int {
	i, _ := slices.BinarySearchFunc(runs, b.from+1, func(r *run, from int64) int { return cmp.Compare(r.to, from) })
	return i
}

// only returns the run that all of the block is in, and its type; nil if there is none or another one beside it.
func (b block) only() (only *run, d DType) {
	for dtype, runs := range b.job.runs {
		i := b.firstOf(runs)
		if i == len(runs) || runs[i].from >= b.to {
			continue
		}
		if only != nil || runs[i].from > b.from || runs[i].to < b.to {
			return nil, 0
		}
		only, d = runs[i], DType(dtype)
	}
	return only, d
}

// report says what was wrong, once for each tensor.
func (v *verifier) report(f *File) (errs []error) {
	for _, job := range v.jobs {
		if err := job.failed.Load(); err != nil {
			errs = append(errs, f.fail(job.tensors[0].name, *err))
			continue
		}
		if job.rec.Sum && job.sumOf() != job.rec.CRC {
			errs = append(errs, f.fail(job.tensors[0].name, fmt.Errorf("record %q: %w", store.Clip(job.rec.Name), store.ErrChecksum)))
		}
		for _, t := range job.tensors {
			if !job.suspect(t) {
				continue
			}
			if err := store.Guard(t.locate); err != nil {
				errs = append(errs, f.fail(t.name, err))
			}
			if len(errs) >= maxErrors {
				return append(errs, fmt.Errorf("%s: there may be more", f.name))
			}
		}
	}
	return errs
}

// maxErrors is how many things that are wrong are told at once.
const maxErrors = 100

// suspect reports whether a tensor must be searched for what is not finite.
func (job *recordJob) suspect(t *namedTensor) bool {
	if !store.IsWeight(t.tensor.DType) || t.from == t.to {
		return false
	}
	if store.Blocked(t.tensor.DType) {
		return t.bad.Load()
	}
	return t.alone || slices.ContainsFunc(job.runs[t.tensor.DType], func(r *run) bool {
		return r.bad.Load() && r.from <= t.from && t.to <= r.to
	})
}

// sumOf combines the checksums of a record's blocks.
func (job *recordJob) sumOf() uint32 {
	var sum uint32
	left := job.rec.Size
	shift := store.PowCRC(8 * checkBlock) // of nearly all blocks
	for _, s := range job.sums {
		if n := min(left, checkBlock); n == checkBlock {
			sum = store.MulCRC(sum, shift) ^ s
		} else {
			sum = store.CombineCRC(sum, s, n)
		}
		left -= checkBlock
	}
	return sum
}

// locate names the first element of a tensor that is not finite, if there is one.
func (t *namedTensor) locate() error {
	b, err := t.tensor.Packed()
	if err != nil {
		return err
	}
	d := t.tensor.DType
	if store.Finite(b, d) {
		return nil
	}
	at, count := -1, 0
	for i := range len(b) / int(store.Size(d)) {
		if x := store.Float(b, i, d); math.IsNaN(x) || math.IsInf(x, 0) {
			if at < 0 {
				at = i
			}
			count++
		}
	}
	x := store.Float(b, at, d)
	index := make([]int, len(t.tensor.Shape))
	numbers, _ := d.Block()
	for i, rest := len(index)-1, at*numbers; i >= 0; i-- {
		index[i] = rest % int(t.tensor.Shape[i])
		rest /= int(t.tensor.Shape[i])
	}
	more := ""
	if count > 1 {
		more = fmt.Sprintf(", and %d more that are not finite", count-1)
	}
	if numbers > 1 {
		return fmt.Errorf("the block from element %v on has the scale %v%s", index, x, more)
	}
	return fmt.Errorf("element %v is %v%s", index, x, more)
}
