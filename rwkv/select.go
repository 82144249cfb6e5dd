package rwkv

import "math"

// Every cut is a prefix of one order: logits from the largest to the smallest, equal ones by id.
// So each is found as a threshold, without sorting, and made by keep.

// selectBins is how many parts the range of logits is divided into to find top-p's threshold.
const selectBins = 1024

// keep returns the candidates with logits above t and the first few of those equal to t. The
// result is in the sampler's storage, where c may be too.
func (s *sampler) keep(c candidates, t float32, ties int) candidates {
	ids, logits := s.ids[:0], s.logits[:0]
	for i, l := range c.logits {
		if l < t {
			continue
		}
		if l == t {
			if ties == 0 {
				continue
			}
			ties--
		}
		id := int32(i)
		if c.ids != nil {
			id = c.ids[i]
		}
		ids, logits = append(ids, id), append(logits, l)
	}
	s.ids, s.logits = ids, logits
	return candidates{ids, logits}
}

// topK returns the k-th largest logit, k < len(logits), or the smallest finite number if fewer are
// above −Inf.
func (s *sampler) topK(logits []float32) float32 {
	k := s.TopK
	// best holds the k largest so far and some more; those up to t can't be among the k.
	best, t := s.values[:0], float32(math.Inf(-1))
	limit := min(2*k+1024, len(logits))
	for _, l := range logits {
		if l <= t {
			continue
		}
		if best = append(best, l); len(best) == limit {
			t = nthLargest(best, k)
			best = best[:k]
		}
	}
	if len(best) < k {
		return -math.MaxFloat32
	}
	return nthLargest(best, k)
}

// topP returns the smallest logit to keep, and how many of those equal to it. top is the largest.
func (s *sampler) topP(logits []float32, top float64) (t float32, ties int) {
	// The total weight of each bin: one of selectBins equal parts of the logits' range, where
	// only what is far too unlikely to matter goes to the last bin regardless.
	low := float32(top)
	for _, l := range logits {
		if l < low && l >= -math.MaxFloat32 {
			low = l
		}
	}
	width := min(top-float64(low), 40*s.cutT)
	scale := 0.0
	if width > 0 {
		scale = min(selectBins/width, math.MaxFloat64)
	}
	bin := func(l float32) int {
		if b := float64((top - float64(l)) * scale); b < selectBins-1 {
			return int(b)
		}
		return selectBins - 1
	}
	clear(s.bins[:])
	for from := 0; from < len(logits); from += weightBlock {
		part := logits[from:min(from+weightBlock, len(logits))]
		weights(s.block[:], part, top, 1/s.cutT)
		for i, l := range part {
			s.bins[bin(l)] += s.block[i]
		}
	}
	var total float64
	for i := range s.bins {
		total += s.bins[i]
	}
	target := s.TopP * total

	// The bin where the sum reaches the target has the threshold.
	var sum float64
	b := 0
	for ; b < selectBins && sum+s.bins[b] < target; b++ {
		sum += s.bins[b]
	}
	values := s.values[:0]
	for _, l := range logits {
		if bin(l) == b {
			values = append(values, l)
		}
	}
	for len(values) > 0 {
		pivot := medianOf3(values)
		gt, eq := partition(values, pivot)
		above := s.weigh(values[:gt], top, 1/s.cutT)
		if gt > 0 && sum+above >= target {
			values = values[:gt]
			continue
		}
		sum += above
		weights(s.block[:], values[gt:gt+1], top, 1/s.cutT)
		w := s.block[0]
		if sum+float64(eq)*w >= target {
			return pivot, tiesFor(target, sum, w, eq)
		}
		sum += float64(eq) * w
		values = values[gt+eq:]
	}
	return -math.MaxFloat32, len(logits) // only by roundings, for a TopP of almost 1
}

// tiesFor returns the smallest n from 1 to limit for which sum + n·w ≥ target, true for limit.
func tiesFor(target, sum, w float64, limit int) int {
	lo, hi := 1, limit
	for lo < hi {
		n := (lo + hi) / 2
		if sum+float64(n)*w >= target {
			hi = n
		} else {
			lo = n + 1
		}
	}
	return lo
}

// minP returns the smallest logit to keep: the weight is at least MinP where (logit − top)/Temperature
// is at least log(MinP). top is the largest.
func (s *sampler) minP(top float64) float32 {
	t := top + float64(s.Temperature*s.logMinP)
	t32 := float32(t)
	if float64(t32) < t {
		t32 = math.Nextafter32(t32, math.MaxFloat32)
	}
	return t32
}

// nthLargest returns the k-th largest of v, 1 ≤ k ≤ len(v), and reorders v so that the k largest
// come first. v has no NaN.
func nthLargest(v []float32, k int) float32 {
	for {
		pivot := medianOf3(v)
		gt, eq := partition(v, pivot)
		switch {
		case k <= gt:
			v = v[:gt]
		case k <= gt+eq:
			return pivot
		default:
			v, k = v[gt+eq:], k-gt-eq
		}
	}
}

// partition reorders v: first the values above pivot, then those equal to it, then the others. It
// returns how many there are of the first two.
func partition(v []float32, pivot float32) (gt, eq int) {
	i, end := 0, len(v)
	for i < end {
		switch x := v[i]; {
		case x > pivot:
			v[i], v[gt] = v[gt], x
			gt++
			i++
		case x < pivot:
			end--
			v[i], v[end] = v[end], x
		default:
			i++
		}
	}
	return gt, end - gt
}

// medianOf3 returns the median of three values of v, at places that no order of v is likely to
// make bad.
func medianOf3(v []float32) float32 {
	n := uint64(len(v))
	at := func(h uint64) float32 { return v[h*n>>32] }
	h := n * 0x9e3779b97f4a7c15
	a, b, c := at(h&0xffffffff), at(h>>32), at(h>>16&0xffffffff)
	return max(min(a, b), min(max(a, b), c))
}
