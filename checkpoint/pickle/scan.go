package pickle

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
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
// are free again at its end: 64 MB, and 400 for each byte of pickle. A long list of booleans, a byte
// each, takes some 260 for each, one of small numbers half of that, and a state_dict a tenth.
func MaxMemory(n int) int64 { return 64<<20 + 400*int64(n) }

type value struct {
	kind kind
	used bool   // of a memo entry: it is fetched again
	n    int32  // of a text
	off  uint32 // of a class, of what it makes and of what a persistent id stands for: its index in classes
}

// A scanner walks a pickle, by the table of opcodes.
type scanner struct {
	in     []byte
	pos    int
	out    []byte // the normalised stream
	stack  []value
	marks  []int // stack heights
	memo   memo
	puts   []put
	names  []string // of classes, in the order of the stream
	spent  int64
	limit  int64
	binary bool // protocol 0 is refused
}

var errTruncated = errors.New("pickle: cut short")

func newScanner(in []byte, limit int64) *scanner {
	return &scanner{in: in, out: make([]byte, 0, min(len(in), 1<<17)), memo: memo{sparse: map[uint32]value{}}, limit: limit}
}

// scan checks the pickle that the input begins with, see the package's comment, and returns it in a
// form that gopickle's Unpickler may be given, and its length.
func (s *scanner) scan() (out []byte, n int, err error) {
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

// step handles one opcode, and reports whether it was STOP.
func (s *scanner) step() (stop bool, err error) {
	if s.pos >= len(s.in) {
		return false, errTruncated
	}
	at := s.pos
	op := &opcodes[s.in[at]]
	s.pos++
	switch {
	case op.name == "":
		return false, fmt.Errorf("opcode 0x%02x: this is not a pickle", s.in[at])
	case op.refuse != "":
		return false, errors.New(op.refuse)
	case op.text && s.binary:
		return false, fmt.Errorf("%s is of protocol 0, want 1 or later", op.name)
	}
	arg, err := s.argument(op.arg)
	if err != nil {
		return false, err
	}
	taken, err := s.take(op.takes)
	if err != nil {
		return false, err
	}
	given := len(op.gives)
	items := len(taken)
	if given > 0 && op.gives[0] == '1' {
		given--
		items--
	}
	if err := s.spend(op.cost + op.byte*int64(len(arg)) + op.item*int64(items) + costValue*int64(given) + 2*int64(s.pos-at)); err != nil {
		return false, err
	}
	if op.check != nil {
		if err := op.check(s, arg, taken); err != nil {
			return false, err
		}
	}
	if op.write == nil {
		s.out = append(s.out, s.in[at:s.pos]...)
	} else if err := op.write(s, arg, taken); err != nil {
		return false, err
	}
	for _, k := range []byte(op.gives) {
		v := value{kind: kind(k)}
		switch {
		case k == '1':
			v = taken[0]
		case v.kind == text && (len(arg) > maxLine || uint64(s.pos) > math.MaxUint32):
			v.kind = other
		case v.kind == text:
			v.off, v.n = uint32(s.pos-len(arg)), int32(len(arg))
		case v.kind == class || v.kind == persistent:
			v.off = uint32(max(len(s.names)-1, 0))
		case v.kind == object && len(taken) > 0 && taken[0].kind == class:
			v.off = taken[0].off
		}
		s.stack = append(s.stack, v)
	}
	return s.in[at] == '.', nil
}

// argument reads what follows an opcode: without a line's end, or its length.
func (s *scanner) argument(a argument) ([]byte, error) {
	switch {
	case a >= 0 && a <= 8:
		return s.bytes(uint64(a))
	case a < 0:
		b, err := s.bytes(uint64(-a))
		if err != nil {
			return nil, err
		}
		var n [8]byte
		copy(n[:], b)
		return s.bytes(binary.LittleEndian.Uint64(n[:]))
	case a == longLine:
		return s.line(len(s.in))
	}
	at := s.pos
	b, err := s.line(maxLine)
	if err != nil || a == line {
		return b, err
	}
	if _, err := s.line(maxLine); err != nil {
		return nil, err
	}
	return s.in[at : s.pos-1], nil
}

// bytes returns the next n bytes.
func (s *scanner) bytes(n uint64) ([]byte, error) {
	if n > uint64(len(s.in)-s.pos) {
		return nil, fmt.Errorf("%d bytes announced, %d are left", n, len(s.in)-s.pos)
	}
	b := s.in[s.pos:][:n]
	s.pos += int(n)
	return b, nil
}

// line returns the next line, of at most most bytes, without its end.
func (s *scanner) line(most int) ([]byte, error) {
	rest := s.in[s.pos:]
	n := bytes.IndexByte(rest[:min(len(rest)-1, most)+1], '\n')
	if n < 0 {
		return nil, fmt.Errorf("a line without an end, or of more than %d bytes", most)
	}
	s.pos += n + 1
	return rest[:n], nil
}

// take removes values of these kinds from the stack and returns them, all above the last mark.
func (s *scanner) take(kinds string) ([]value, error) {
	kinds, toMark := strings.CutSuffix(kinds, "(")
	n := len(kinds)
	if toMark {
		if len(s.marks) == 0 {
			return nil, errors.New("no mark")
		}
		n += len(s.stack) - s.marks[len(s.marks)-1]
		s.marks = s.marks[:len(s.marks)-1]
	}
	floor := 0
	if len(s.marks) > 0 {
		floor = s.marks[len(s.marks)-1]
	}
	top := len(s.stack) - n
	if top < floor {
		return nil, errors.New("the stack is empty")
	}
	taken := s.stack[top:]
	s.stack = s.stack[:top]
	for i, want := range []byte(kinds) {
		if k := kind(want); k != other && taken[i].kind != k {
			return nil, s.unwanted(k, taken[i])
		}
	}
	return taken, nil
}

// unwanted says what is wrong with a value that is not of a kind that an opcode takes.
func (s *scanner) unwanted(want kind, v value) error {
	if want == class && int(v.off) < len(s.names) {
		switch name := s.names[v.off]; v.kind {
		case persistent:
			return fmt.Errorf("class %q: a whole pickled module, not its state_dict", clip(name))
		case object:
			return fmt.Errorf("a call of what %q returns: checkpoints call classes that they name (nothing was run)", clip(name))
		}
	}
	return errors.New(wanted[want])
}

// spend accounts for memory that decoding will take.
func (s *scanner) spend(n int64) error {
	if s.spent += n; s.spent > s.limit {
		return fmt.Errorf("it takes more than %d bytes of memory", s.limit)
	}
	return nil
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

// Length returns the bytes of the pickle that data begins with.
func Length(data []byte) (int, error) {
	_, n, err := newScanner(data, MaxMemory(len(data))).scan()
	return n, err
}
