package rwkv

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"unsafe"

	"microrwkv/tensor"
)

// A saved State, all numbers little-endian:
//
//	"RWKVSTAT"           8 bytes
//	version              uint32, 3
//	rule when full       uint32
//	model's fingerprint  32 bytes
//	tokens, context      uint64 each
//	ids kept             uint32, then that many uint32
//	logits, hidden row   V and C float32
//	per layer state      rows uint32, then its parts as float32
//	history              see history.size
//	checksum             CRC-32 (IEEE) of the CRC-32s, each a uint32, of every 256 KiB of all before it
const (
	stateVersion = 3
	stateHeader  = len(StateMagic) + 4 + 4 + 32 + 8 + 8 + 4
)

// StateMagic begins every saved State.
const StateMagic = "RWKVSTAT"

// Errors of UnmarshalBinary, for errors.Is.
var (
	ErrStateFormat = errors.New("not a saved state, or a damaged one")
	ErrStateModel  = errors.New("saved by another model")
)

// Fingerprint tells models apart: a hash of the kind, the shapes and all weights, computed once, on
// all threads. A model has the same one whichever file format it was read from. It can't be told of a
// closed model, or of one whose file changed, that wasn't asked before.
func (m *Model) Fingerprint() ([32]byte, error) {
	m.fingerprintOnce.Do(func() {
		err := m.enter()
		if err != nil {
			m.fingerprintErr = err
			return
		}
		defer m.leave()
		m.fingerprintErr = m.guard(func() error {
			h := sha256.New()
			c := m.config
			c.Dropout, c.Dim, c.ExpertDim = 0, 0, 0 // nothing is computed from these
			json.NewEncoder(h).Encode(c)
			for _, t := range m.tensors {
				fmt.Fprintln(h, t.name, t.DType(), t.Shape())
				b := t.Weight.Bytes()
				blocks := hashes{b: b, sums: make([][32]byte, (len(b)+hashBlock-1)/hashBlock)}
				tensor.Parallel(len(blocks.sums), &blocks)
				for _, s := range blocks.sums {
					h.Write(s[:])
				}
			}
			h.Sum(m.fingerprint[:0])
			return nil
		})
	})
	return m.fingerprint, m.fingerprintErr
}

const hashBlock = 1 << 20

// hashes is the SHA-256 of every hashBlock bytes of b.
type hashes struct {
	b    []byte
	sums [][32]byte
}

// Run hashes a block.
func (h *hashes) Run(i int) {
	h.sums[i] = sha256.Sum256(h.b[i*hashBlock : min((i+1)*hashBlock, len(h.b))])
}

// Size returns the bytes that MarshalBinary would return now.
func (s *State) Size() int {
	n := stateHeader + 4*len(s.ids) + 4*len(s.logits) + 4*len(s.hidden) + s.seen.size() + 4
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
	s.use()
	defer s.done()
	fp, err := s.model.Fingerprint()
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	start := len(b)
	if cap(b)-len(b) < s.Size() {
		b = append(make([]byte, 0, len(b)+s.Size()), b...)
	}
	b = append(b, StateMagic...)
	b = le.AppendUint32(b, stateVersion)
	b = le.AppendUint32(b, uint32(s.full))
	b = append(b, fp[:]...)
	b = le.AppendUint64(b, uint64(s.total))
	b = le.AppendUint64(b, uint64(s.pos))
	b = le.AppendUint32(b, uint32(len(s.ids)))
	for _, id := range s.ids {
		b = le.AppendUint32(b, uint32(id))
	}
	b = appendFloats(appendFloats(b, s.logits), s.hidden)
	var parts transfer
	for _, l := range s.layers.states() {
		b = le.AppendUint32(b, uint32(l.Rows()))
		for p := range l.Parts {
			b = b[:len(b)+4*len(p)] // Size counted it
			parts.add(p, b[len(b)-4*len(p):])
		}
	}
	parts.run(save)
	b = s.seen.append(b)
	return le.AppendUint32(b, checksum(b[start:])), nil
}

// UnmarshalBinary makes s the state that was saved. If the data is no saved state, damaged or
// another model's, it returns an error and s is unchanged.
func (s *State) UnmarshalBinary(data []byte) error {
	s.use()
	defer s.done()
	if err := s.decode(data); err != nil {
		return fmt.Errorf("rwkv: state: %w", err)
	}
	return nil
}

// WriteTo writes what MarshalBinary returns.
func (s *State) WriteTo(w io.Writer) (int64, error) {
	b, err := s.MarshalBinary()
	if err != nil {
		return 0, err
	}
	n, err := w.Write(b)
	return int64(n), err
}

// ReadFrom makes s the state that r has, up to its end, as UnmarshalBinary does. It reads no more than a
// state of this model can have: a file that isn't one is refused by its first bytes.
func (s *State) ReadFrom(r io.Reader) (int64, error) {
	head := make([]byte, stateHeader)
	n, err := io.ReadFull(r, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return int64(n), fmt.Errorf("rwkv: state: %w", err)
	}
	if err := s.checkHead(head[:n]); err != nil {
		return int64(n), fmt.Errorf("rwkv: state: %w", err)
	}
	limit := s.maxSize()
	b := bytes.NewBuffer(head)
	m, err := b.ReadFrom(io.LimitReader(r, int64(limit-n+1)))
	if err != nil {
		return int64(n) + m, fmt.Errorf("rwkv: state: %w", err)
	}
	return int64(n) + m, s.UnmarshalBinary(b.Bytes())
}

// maxSize returns the largest size of a saved state of the model, or one byte more for those
// that are too large to be true.
func (s *State) maxSize() int {
	n := stateHeader + 4*s.model.config.BlockSize + 4*len(s.logits) + 4*len(s.hidden) + maxHistorySize(s.model.config.VocabSize) + 4
	for _, l := range s.layers.states() {
		size, err := l.Size(l.MaxRows())
		if err != nil {
			panic("rwkv: " + err.Error()) // it is its own number
		}
		n += 4 + 4*size
	}
	return n
}

// checkHead checks the first stateHeader bytes of a saved state.
func (s *State) checkHead(head []byte) error {
	if len(head) < stateHeader || string(head[:len(StateMagic)]) != StateMagic {
		return ErrStateFormat
	}
	if v := binary.LittleEndian.Uint32(head[len(StateMagic):]); v != stateVersion {
		return fmt.Errorf("%w: version %d, want %d", ErrStateFormat, v, stateVersion)
	}
	fp, err := s.model.Fingerprint()
	if err == nil && [32]byte(head[len(StateMagic)+8:]) != fp {
		return ErrStateModel
	}
	return err
}

// decode reads what AppendBinary wrote. It changes s only after it has checked everything.
func (s *State) decode(data []byte) error {
	if len(data) < stateHeader+4 {
		return ErrStateFormat
	}
	head := s.checkHead(data[:stateHeader])
	if head != nil && !errors.Is(head, ErrStateModel) {
		return head
	}
	data, want := data[:len(data)-4], binary.LittleEndian.Uint32(data[len(data)-4:])
	r := &reader{b: data[len(StateMagic)+4:]}
	if checksum(data) != want {
		return fmt.Errorf("%w: the checksum doesn't match", ErrStateFormat)
	}
	rule := r.uint32()
	r.take(32)
	if head != nil { // damage is told first
		return head
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
	logits, hidden := r.take(4*len(s.logits)), r.take(4*len(s.hidden))
	saved, err := s.layersOf(r)
	if err != nil {
		return err
	}
	seen, ok := readHistory(r, s.model.config.VocabSize)
	switch {
	case r.err != nil:
		return fmt.Errorf("%w: %w", ErrStateFormat, r.err)
	case !ok || total < uint64(seen.total()):
		return fmt.Errorf("%w: no history of %d tokens", ErrStateFormat, total)
	case len(r.b) > 0:
		return fmt.Errorf("%w: %d bytes too many", ErrStateFormat, len(r.b))
	}

	s.seen = seen
	s.full, s.total, s.pos, s.ids = FullRule(rule), int(total), int(pos), ids
	parts := transfer{}
	parts.add(s.logits, logits)
	parts.add(s.hidden, hidden)
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

// layersOf takes the layers' states from r, and checks them against the sizes of the layers' states.
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
