package rwkv

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"unsafe"

	"microrwkv/tensor"
)

// A saved State, all numbers little-endian:
//
//	"RWKVSTAT"           8 bytes
//	version              uint32, 2
//	rule when full       uint32
//	model's fingerprint  32 bytes
//	tokens, context      uint64 each
//	ids kept             uint32, then that many uint32
//	logits               V float32
//	per layer state      rows uint32, then its parts as float32
//	checksum             CRC-32 (IEEE) of the CRC-32s, each a uint32, of every 256 KiB of all before it
const (
	stateMagic   = "RWKVSTAT"
	stateVersion = 2
	stateHeader  = len(stateMagic) + 4 + 4 + 32 + 8 + 8 + 4
)

// Errors of UnmarshalBinary, for errors.Is.
var (
	ErrStateFormat = errors.New("not a saved state, or a damaged one")
	ErrStateModel  = errors.New("saved by another model")
)

// Fingerprint tells models apart: a hash of the kind, the shapes, and samples of every weight,
// computed once. A model has the same one whichever file format it was read from.
func (m *Model) Fingerprint() [32]byte {
	m.fingerprintOnce.Do(func() {
		h := sha256.New()
		c := m.config
		c.Dropout, c.Dim, c.ExpertDim = 0, 0, 0 // nothing is computed from these
		json.NewEncoder(h).Encode(c)
		for _, t := range m.tensors {
			fmt.Fprintln(h, t.name, t.DType(), t.Shape())
			// Training changes all of a tensor, so samples tell: 256 bytes in some 16 places.
			const sample, places = 256, 16
			b := t.Weight.Bytes()
			step := max(len(b)/places, sample)
			for at := 0; at < len(b); at += step {
				h.Write(b[at:min(at+sample, len(b))])
			}
		}
		h.Sum(m.fingerprint[:0])
	})
	return m.fingerprint
}

// Size returns the bytes that MarshalBinary would return now.
func (s *State) Size() int {
	n := stateHeader + 4*len(s.ids) + 4*len(s.logits) + 4
	for _, l := range s.layers.states() {
		size, err := l.Size(l.Rows())
		if err != nil {
			panic("rwkv: " + err.Error()) // the rows are its own
		}
		n += 4 + 4*size
	}
	return n
}

// MarshalBinary returns the state in a form that UnmarshalBinary of a State of the same model
// takes, on any machine; going on from there gives the same bits.
func (s *State) MarshalBinary() ([]byte, error) { return s.AppendBinary(nil) }

// AppendBinary appends what MarshalBinary returns to b.
func (s *State) AppendBinary(b []byte) ([]byte, error) {
	le := binary.LittleEndian
	start := len(b)
	if cap(b)-len(b) < s.Size() {
		b = append(make([]byte, 0, len(b)+s.Size()), b...)
	}
	b = append(b, stateMagic...)
	b = le.AppendUint32(b, stateVersion)
	b = le.AppendUint32(b, uint32(s.full))
	fp := s.model.Fingerprint()
	b = append(b, fp[:]...)
	b = le.AppendUint64(b, uint64(s.total))
	b = le.AppendUint64(b, uint64(s.pos))
	b = le.AppendUint32(b, uint32(len(s.ids)))
	for _, id := range s.ids {
		b = le.AppendUint32(b, uint32(id))
	}
	b = appendFloats(b, s.logits)
	var parts transfer
	for _, l := range s.layers.states() {
		b = le.AppendUint32(b, uint32(l.Rows()))
		for p := range l.Parts {
			b = b[:len(b)+4*len(p)] // Size counted it
			parts.add(p, b[len(b)-4*len(p):])
		}
	}
	parts.run(save)
	return le.AppendUint32(b, checksum(b[start:])), nil
}

// UnmarshalBinary makes s the state that was saved. If the data is no saved state, damaged or
// another model's, it returns an error and s is unchanged.
func (s *State) UnmarshalBinary(data []byte) error {
	if err := s.decode(data); err != nil {
		return fmt.Errorf("rwkv: state: %w", err)
	}
	return nil
}

// decode reads what AppendBinary wrote. It changes s only after it has checked everything.
func (s *State) decode(data []byte) error {
	if len(data) < stateHeader+4 || string(data[:len(stateMagic)]) != stateMagic {
		return ErrStateFormat
	}
	data, want := data[:len(data)-4], binary.LittleEndian.Uint32(data[len(data)-4:])
	r := &reader{b: data[len(stateMagic):]}
	if v := r.uint32(); v != stateVersion {
		return fmt.Errorf("%w: version %d, want %d", ErrStateFormat, v, stateVersion)
	}
	if checksum(data) != want {
		return fmt.Errorf("%w: the checksum doesn't match", ErrStateFormat)
	}
	rule := r.uint32()
	if fp := s.model.Fingerprint(); [32]byte(r.take(32)) != fp {
		return ErrStateModel
	}
	if rule > uint32(Refuse) || (s.layers == nil && FullRule(rule) == KeepHalf) {
		return fmt.Errorf("%w: rule %d", ErrStateFormat, rule)
	}
	total, pos, kept := r.uint64(), r.uint64(), uint64(r.uint32())
	block := uint64(s.model.config.BlockSize)
	if total > math.MaxInt || pos > total || (block > 0 && (pos > block || kept != pos)) || (block == 0 && kept != 0) {
		return fmt.Errorf("%w: %d tokens, %d in the context, %d kept", ErrStateFormat, total, pos, kept)
	}
	ids := make([]int, kept, max(kept, block))
	for i := range ids {
		ids[i] = int(r.uint32())
	}
	if err := s.model.CheckIDs(ids); err != nil {
		return fmt.Errorf("%w: %w", ErrStateFormat, err)
	}
	logits := r.take(4 * len(s.logits))
	saved, err := s.layersOf(r)
	if err != nil {
		return err
	}

	s.full, s.total, s.pos, s.ids = FullRule(rule), int(total), int(pos), ids
	parts := transfer{}
	parts.add(s.logits, logits)
	for i, l := range s.layers.states() {
		if err := l.SetRows(saved[i].rows); err != nil {
			panic("rwkv: " + err.Error()) // layersOf asked
		}
		for p := range l.Parts {
			parts.add(p, saved[i].parts[:4*len(p)])
			saved[i].parts = saved[i].parts[4*len(p):]
		}
	}
	parts.run(restore)
	return nil
}

// savedLayer is a layer's state in a saved one.
type savedLayer struct {
	rows  int
	parts []byte
}

// layersOf takes what is left in r, and checks it against the sizes of the layers' states.
func (s *State) layersOf(r *reader) (saved []savedLayer, err error) {
	for _, l := range s.layers.states() {
		rows := int(r.uint32())
		var size int
		if size, err = l.Size(rows); err != nil {
			break
		}
		saved = append(saved, savedLayer{rows, r.take(4 * size)})
		if r.err != nil {
			break
		}
	}
	if err == nil {
		err = r.err
	}
	if err == nil && len(r.b) > 0 {
		err = fmt.Errorf("%d bytes too many", len(r.b))
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStateFormat, err)
	}
	return saved, nil
}

// reader takes numbers from b until it runs out.
type reader struct {
	b   []byte
	err error
}

// take returns the next n bytes, or zeros and notes an error if there are fewer.
func (r *reader) take(n int) []byte {
	if n > len(r.b) {
		r.err, r.b = errors.New("cut short"), nil
		return make([]byte, n)
	}
	t := r.b[:n]
	r.b = r.b[n:]
	return t
}

func (r *reader) uint32() uint32 { return binary.LittleEndian.Uint32(r.take(4)) }
func (r *reader) uint64() uint64 { return binary.LittleEndian.Uint64(r.take(8)) }

// transfer copies numbers to and from their saved form, on all threads.
type transfer struct {
	live  [][]float32
	saved [][]byte
	way   direction
}

type direction int

const (
	save direction = iota
	restore
)

func (t *transfer) add(live []float32, saved []byte) {
	t.live, t.saved = append(t.live, live), append(t.saved, saved)
}

func (t *transfer) run(way direction) {
	t.way = way
	tensor.Parallel(len(t.live), t)
}

// Run copies a part.
func (t *transfer) Run(i int) {
	live, saved := t.live[i], t.saved[i]
	switch {
	case t.way == save && littleEndian:
		copy(saved, floatBytes(live))
	case t.way == save:
		appendFloats(saved[:0], live)
	case littleEndian:
		copy(floatBytes(live), saved)
	default:
		for j := range live {
			live[j] = math.Float32frombits(binary.LittleEndian.Uint32(saved[4*j:]))
		}
	}
}

// checksum returns the CRC-32 of the CRC-32s of every 256 KiB of b, computed on all threads.
func checksum(b []byte) uint32 {
	c := checksums{b: b, sums: make([]byte, 4*((len(b)+checksumBlock-1)/checksumBlock))}
	tensor.Parallel(len(c.sums)/4, &c)
	return crc32.ChecksumIEEE(c.sums)
}

const checksumBlock = 256 << 10

type checksums struct{ b, sums []byte }

// Run computes the sum of a block.
func (c *checksums) Run(i int) {
	block := c.b[i*checksumBlock : min((i+1)*checksumBlock, len(c.b))]
	binary.LittleEndian.PutUint32(c.sums[4*i:], crc32.ChecksumIEEE(block))
}

func appendFloats(b []byte, x []float32) []byte {
	if littleEndian {
		return append(b, floatBytes(x)...)
	}
	for _, v := range x {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return b
}

var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// floatBytes returns the memory of x.
func floatBytes(x []float32) []byte {
	if len(x) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&x[0])), 4*len(x))
}
