package pickle

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// classMark begins every module name in the normalised stream, so that none is one of those that
// gopickle resolves itself.
const classMark = '\x01'

const (
	maxLine = 512  // bytes of a number as text, or of a class's module or name
	maxLong = 255  // bytes of an integer: reading one takes quadratic time
	maxMark = 1000 // nested marks
)

// MaxMemory returns the most bytes that Decode allocates for n bytes of pickle, those included that
// are free again at its end. A long list of small numbers, two bytes each, takes most for what it
// is; a state_dict needs a tenth of that.
func MaxMemory(n int) int64 { return min(16<<20+160*int64(n), 512<<20) }

// What the Unpickler, the scan and the conversion allocate in bytes, rounded up.
const (
	costValue  = 96  // a stack slot here and there, with room to grow, and a boxed number
	costMark   = 400 // a stack of 16 slots
	costObject = 256 // a container's header and first slots, and its converted form
	costSet    = 640
	costItem   = 160 // an entry of a container, in all its forms
	costMemo   = 160 // a memo entry, here and there
)

// kind is what is known of a value on the scanned stack.
type kind uint8

const (
	other  kind = iota
	text        // a string of the input, at off
	class       // pushed by GLOBAL or STACK_GLOBAL
	object      // made by a class
	tuple       // n elements
)

type value struct {
	kind   kind
	used   bool // of a memo entry: it is fetched again
	off, n int32
}

// put is where a value is stored in the memo, in the normalised stream.
type put struct {
	at  int
	key uint32
}

// putSize is the length of LONG_BINPUT.
const putSize = 5

// A scanner walks a pickle.
type scanner struct {
	in    []byte
	pos   int
	out   []byte
	stack []value
	marks []int // stack heights
	memo  memo
	puts  []put
	spent int64
	limit int64
}

var errTruncated = errors.New("pickle: cut short")

func newScanner(in []byte, limit int64) *scanner {
	return &scanner{in: in, out: make([]byte, 0, min(len(in), 1<<17)), memo: memo{sparse: map[uint32]value{}}, limit: limit}
}

// scan checks the pickle that in begins with, see the package's comment, and returns it in a
// form that gopickle's Unpickler may be given, and its length. Decoding takes at most limit bytes
// of memory.
func scan(in []byte, limit int64) (out []byte, n int, err error) {
	s := newScanner(in, limit)
	for {
		at := s.pos
		stop, err := s.step()
		if err != nil {
			return nil, 0, fmt.Errorf("pickle: byte %d: %w", at, err)
		}
		if stop {
			return s.usedPuts(), s.pos, nil
		}
	}
}

// take returns the next n bytes.
func (s *scanner) take(n uint64) ([]byte, error) {
	if n > uint64(len(s.in)-s.pos) {
		return nil, fmt.Errorf("%d bytes announced, %d are left", n, len(s.in)-s.pos)
	}
	b := s.in[s.pos:][:n]
	s.pos += int(n)
	return b, nil
}

// number returns an unsigned integer of size bytes.
func (s *scanner) number(size int) (uint64, error) {
	b, err := s.take(uint64(size))
	if err != nil {
		return 0, err
	}
	var x [8]byte
	copy(x[:], b)
	return binary.LittleEndian.Uint64(x[:]), nil
}

// line returns the next line, without its end.
func (s *scanner) line() ([]byte, error) {
	rest := s.in[s.pos:]
	n := bytes.IndexByte(rest[:min(len(rest), maxLine+1)], '\n')
	if n < 0 {
		return nil, fmt.Errorf("a line without an end, or of more than %d bytes", maxLine)
	}
	s.pos += n + 1
	return rest[:n], nil
}

// spend accounts for memory that decoding will take.
func (s *scanner) spend(n int64) error {
	if s.spent += n; s.spent > s.limit {
		return fmt.Errorf("it takes more than %d bytes of memory", s.limit)
	}
	return nil
}

func (s *scanner) push(v value) error {
	s.stack = append(s.stack, v)
	return s.spend(costValue)
}

// pop removes n values from the stack and returns them; they must be above the last mark.
func (s *scanner) pop(n int) ([]value, error) {
	floor := 0
	if len(s.marks) > 0 {
		floor = s.marks[len(s.marks)-1]
	}
	top := len(s.stack) - n
	if top < floor {
		return nil, errors.New("the stack is empty")
	}
	v := s.stack[top:]
	s.stack = s.stack[:top]
	return v, nil
}

// popMark removes the values above the last mark, and the mark.
func (s *scanner) popMark() ([]value, error) {
	if len(s.marks) == 0 {
		return nil, errors.New("no mark")
	}
	v := s.stack[s.marks[len(s.marks)-1]:]
	s.stack = s.stack[:len(s.stack)-len(v)]
	s.marks = s.marks[:len(s.marks)-1]
	return v, nil
}

// store memoizes the top of the stack.
func (s *scanner) store(key uint64) error {
	v, err := s.pop(1)
	if err != nil {
		return err
	}
	s.memo.set(uint32(key), v[0])
	s.stack = s.stack[:len(s.stack)+1]
	s.puts = append(s.puts, put{len(s.out), uint32(key)})
	s.out = binary.LittleEndian.AppendUint32(append(s.out, 'r'), uint32(key))
	return s.spend(costMemo)
}

// load pushes a memoized value.
func (s *scanner) load(key uint64) error {
	v, ok := s.memo.get(uint32(key))
	if !ok {
		return fmt.Errorf("memo %d is not set", key)
	}
	v.used = true
	s.memo.set(uint32(key), v)
	return s.push(v)
}

// usedPuts returns the stream without what is stored in the memo and never fetched, most of it.
func (s *scanner) usedPuts() []byte {
	out := s.out[:0]
	from := 0
	for _, p := range s.puts {
		if v, _ := s.memo.get(p.key); !v.used {
			out = append(out, s.out[from:p.at]...)
			from = p.at + putSize
		}
	}
	return append(out, s.out[from:]...)
}

// memo holds what a pickle stores for later: Python numbers its entries in order.
type memo struct {
	dense  []value
	sparse map[uint32]value
}

func (m *memo) len() int { return len(m.dense) + len(m.sparse) }

func (m *memo) get(key uint32) (v value, ok bool) {
	if uint64(key) < uint64(len(m.dense)) {
		return m.dense[key], true
	}
	v, ok = m.sparse[key]
	return v, ok
}

// set keeps in mind whether the entry was ever used.
func (m *memo) set(key uint32, v value) {
	old, _ := m.get(key)
	v.used = v.used || old.used
	switch n := uint64(len(m.dense)); {
	case uint64(key) < n:
		m.dense[key] = v
	case uint64(key) == n:
		m.dense = append(m.dense, v)
		delete(m.sparse, key)
	default:
		m.sparse[key] = v
	}
}

// decimal reads a memo index from a line.
func (s *scanner) decimal() (uint64, error) {
	line, err := s.line()
	if err != nil {
		return 0, err
	}
	var n uint64
	for _, c := range line {
		if c < '0' || c > '9' || n > 1<<31 {
			return 0, errors.New("a bad memo index")
		}
		n = 10*n + uint64(c-'0')
	}
	if len(line) == 0 || n > 1<<31 {
		return 0, errors.New("a bad memo index")
	}
	return n, nil
}

// step handles one opcode, and reports whether it was STOP.
func (s *scanner) step() (stop bool, err error) {
	if s.pos >= len(s.in) {
		return false, errTruncated
	}
	at := s.pos
	op := s.in[at]
	s.pos++
	rewritten, err := s.effect(op)
	if err != nil {
		return false, err
	}
	if !rewritten {
		s.out = append(s.out, s.in[at:s.pos]...)
	}
	return op == '.', s.spend(2 * int64(s.pos-at))
}

// Length returns the bytes of the pickle that data begins with.
func Length(data []byte) (int, error) {
	_, n, err := scan(data, MaxMemory(len(data)))
	return n, err
}
