package pickle

import (
	"bytes"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// effect reads the arguments of an opcode, follows what it does to the stack, and reports whether
// it has put something in the opcode's place.
func (s *scanner) effect(op byte) (rewritten bool, err error) {
	switch op {
	case 0x80: // PROTO
		v, err := s.number(1)
		if err == nil && v > 5 {
			err = fmt.Errorf("protocol %d, want at most 5", v)
		}
		return false, err
	case 0x95: // FRAME: left out, it only announces bytes
		n, err := s.number(8)
		if err == nil && n > uint64(len(s.in)-s.pos) {
			err = fmt.Errorf("a frame of %d bytes, %d are left", n, len(s.in)-s.pos)
		}
		return true, err
	case '.': // STOP
		_, err := s.pop(1)
		return false, err
	case '(', '0', '1', '2':
		return false, s.shuffle(op)
	case 'N', 0x88, 0x89, 'K', 'M', 'J', 'G', 'I', 'F', 'L', 0x8a, 0x8b:
		return s.scalar(op)
	case 'X', 0x8c, 0x8d, 'T', 'U', 'S', 'V', 'B', 'C', 0x8e, 0x96:
		return false, s.bytes(op)
	case 'q', 'r', 'p', 0x94, 'h', 'j', 'g':
		return s.memory(op)
	case 'c', 0x93, 'i', 'o', 'R', 0x81, 0x92, 'b', 'Q':
		return s.classes(op)
	case 0x98: // READONLY_BUFFER
		return true, nil
	case 0x97:
		return false, errors.New("a buffer outside the file")
	case 0x82, 0x83, 0x84:
		return false, errors.New("an extension code")
	case 'P':
		return false, errors.New("a persistent id as text")
	}
	return false, s.container(op)
}

func (s *scanner) shuffle(op byte) error {
	switch op {
	case '(': // MARK
		if len(s.marks) >= maxMark {
			return errDepth
		}
		s.marks = append(s.marks, len(s.stack))
		return s.spend(costMark)
	case '0': // POP, of a mark if there is nothing above it
		if len(s.marks) > 0 && s.marks[len(s.marks)-1] == len(s.stack) {
			s.marks = s.marks[:len(s.marks)-1]
			return nil
		}
		_, err := s.pop(1)
		return err
	case '1': // POP_MARK
		_, err := s.popMark()
		return err
	}
	v, err := s.pop(1) // DUP
	if err != nil {
		return err
	}
	s.stack = s.stack[:len(s.stack)+1]
	return s.push(v[0])
}

func (s *scanner) scalar(op byte) (rewritten bool, err error) {
	switch op {
	case 'K':
		_, err = s.take(1)
	case 'M':
		_, err = s.take(2)
	case 'J':
		_, err = s.take(4)
	case 'G':
		_, err = s.take(8)
	case 'I', 'F', 'L':
		var line []byte
		if line, err = s.line(); err != nil {
			return false, err
		}
		if err = s.spend(384 + 16*int64(len(line))); err == nil && op == 'L' {
			rewritten = true
			err = s.longText(line)
		}
	case 0x8a, 0x8b: // LONG1, LONG4
		var n uint64
		if n, err = s.number(map[byte]int{0x8a: 1, 0x8b: 4}[op]); err != nil {
			return false, err
		}
		if n > maxLong {
			return false, fmt.Errorf("an integer of %d bytes", n)
		}
		var b []byte
		if b, err = s.take(n); err == nil {
			rewritten = true
			err = s.long(b)
		}
	}
	if err != nil {
		return false, err
	}
	return rewritten, s.push(value{})
}

// long writes an integer, which is little-endian in two's complement, for the Unpickler. That makes an
// int of one of up to eight bytes, cut short where an int has four, and panics at one of none: both
// become longer.
func (s *scanner) long(b []byte) error {
	var wide [9]byte
	if len(b) == 0 || len(b) > 4 && len(b) < len(wide) {
		if len(b) > 0 && b[len(b)-1] >= 0x80 {
			for i := range wide {
				wide[i] = 0xff
			}
		}
		copy(wide[:], b)
		b = wide[:]
	}
	s.out = append(s.out, 0x8a, byte(len(b)))
	s.out = append(s.out, b...)
	return s.spend(384)
}

// longText writes an integer of decimal digits, and an L at their end, as long does.
func (s *scanner) longText(line []byte) error {
	n, ok := new(big.Int).SetString(string(bytes.TrimSuffix(line, []byte("L"))), 10)
	if !ok {
		return errors.New("a bad integer")
	}
	size := n.BitLen()/8 + 1
	if size > maxLong {
		return fmt.Errorf("an integer of %d bytes", size)
	}
	if n.Sign() < 0 {
		n.Add(n, new(big.Int).Lsh(big.NewInt(1), uint(8*size)))
	}
	b := n.FillBytes(make([]byte, size))
	slices.Reverse(b)
	return s.long(b)
}

func (s *scanner) bytes(op byte) error {
	var n uint64
	var err error
	switch op {
	case 0x8c, 'U', 'C':
		n, err = s.number(1)
	case 'X', 'T', 'B':
		n, err = s.number(4)
	case 0x8d, 0x8e, 0x96:
		n, err = s.number(8)
	case 'S', 'V':
		rest := s.in[s.pos:]
		end := bytes.IndexByte(rest, '\n')
		if end < 0 {
			return errTruncated
		}
		n = uint64(end) + 1
	}
	if err != nil {
		return err
	}
	at := s.pos
	if _, err := s.take(n); err != nil {
		return err
	}
	if err := s.spend(6*int64(n) + 32); err != nil {
		return err
	}
	v := value{}
	if (op == 'X' || op == 0x8c || op == 0x8d || op == 'U' || op == 'T') && n <= maxLine {
		v = value{kind: text, off: int32(at), n: int32(n)}
	}
	return s.push(v)
}

// memory follows the memo; what is stored becomes LONG_BINPUT.
func (s *scanner) memory(op byte) (rewritten bool, err error) {
	var key uint64
	switch op {
	case 'q', 'h':
		key, err = s.number(1)
	case 'r', 'j':
		key, err = s.number(4)
	case 'p', 'g':
		key, err = s.decimal()
	case 0x94: // MEMOIZE
		key = uint64(s.memo.len())
	}
	if err != nil {
		return false, err
	}
	if op == 'h' || op == 'j' || op == 'g' {
		return false, s.load(key)
	}
	return true, s.store(key)
}

// emitClass writes a GLOBAL or INST opcode with the module's name marked.
func (s *scanner) emitClass(op byte, module, name []byte) error {
	if bytes.IndexByte(module, '\n') >= 0 || bytes.IndexByte(name, '\n') >= 0 {
		return errors.New("a class name of more than one line")
	}
	s.out = append(s.out, op, classMark)
	s.out = append(append(s.out, module...), '\n')
	s.out = append(append(s.out, name...), '\n')
	return s.spend(int64(8*(len(module)+len(name)) + costObject))
}

func (s *scanner) classes(op byte) (rewritten bool, err error) {
	switch op {
	case 'c', 'i': // GLOBAL, INST
		module, err := s.line()
		if err != nil {
			return false, err
		}
		name, err := s.line()
		if err != nil {
			return false, err
		}
		if op == 'i' {
			if _, err := s.popMark(); err != nil {
				return false, err
			}
		}
		if err := s.emitClass(op, module, name); err != nil {
			return false, err
		}
		return true, s.push(value{kind: map[byte]kind{'c': class, 'i': object}[op]})
	case 0x93: // STACK_GLOBAL: becomes POP POP GLOBAL
		v, err := s.pop(2)
		if err != nil {
			return false, err
		}
		if v[0].kind != text || v[1].kind != text {
			return false, errors.New("a class name that is not a string")
		}
		s.out = append(s.out, '0', '0')
		if err := s.emitClass('c', s.in[v[0].off:][:v[0].n], s.in[v[1].off:][:v[1].n]); err != nil {
			return false, err
		}
		return true, s.push(value{kind: class})
	case 'o': // OBJ: MARK class args…
		v, err := s.popMark()
		if err == nil && (len(v) == 0 || v[0].kind != class) {
			err = errNoClass
		}
		return false, s.made(err)
	case 'R', 0x81, 0x92: // REDUCE, NEWOBJ: class, args; NEWOBJ_EX: class, args, keyword args
		n := 2
		if op == 0x92 {
			n = 3
		}
		v, err := s.pop(n)
		if err == nil && v[0].kind != class {
			err = errNoClass
		} else if err == nil && v[1].kind != tuple {
			err = errors.New("arguments that are not a tuple")
		}
		return false, s.made(err)
	case 'b': // BUILD: object, state
		if _, err := s.pop(1); err != nil {
			return false, err
		}
		v, err := s.pop(1)
		if err != nil {
			return false, err
		}
		if v[0].kind != object {
			return false, errors.New("BUILD of something that no class made")
		}
		s.stack = s.stack[:len(s.stack)+1]
		return false, nil
	}
	_, err = s.pop(1) // BINPERSID
	return false, s.made(err)
}

var errNoClass = errors.New("a call of something that is not a class")

// made pushes an object, unless there was an error.
func (s *scanner) made(err error) error {
	if err != nil {
		return err
	}
	if err := s.spend(costObject); err != nil {
		return err
	}
	return s.push(value{kind: object})
}

func (s *scanner) container(op byte) error {
	n := 0 // elements
	switch op {
	case ')', ']', '}':
	case 0x8f: // EMPTY_SET
		if err := s.spend(costSet); err != nil {
			return err
		}
	case 0x85, 0x86, 0x87: // TUPLE1, TUPLE2, TUPLE3
		n = int(op - 0x84)
		if _, err := s.pop(n); err != nil {
			return err
		}
	case 't', 'l', 'd', 0x91: // TUPLE, LIST, DICT, FROZENSET
		v, err := s.popMark()
		if err != nil {
			return err
		}
		if n = len(v); op == 'd' && n%2 != 0 {
			return errors.New("a dict with a key and no value")
		}
	case 'a', 's', 'e', 'u', 0x90: // APPEND, SETITEM, APPENDS, SETITEMS, ADDITEMS
		return s.extend(op)
	default:
		return fmt.Errorf("opcode 0x%02x: this is not a pickle", op)
	}
	if err := s.spend(costObject + costItem*int64(n)); err != nil {
		return err
	}
	v := value{}
	if op == ')' || op == 't' || op >= 0x85 && op <= 0x87 {
		v.kind = tuple
	}
	return s.push(v)
}

// extend adds values to the container below them.
func (s *scanner) extend(op byte) error {
	n := 1
	var err error
	switch op {
	case 'a':
		_, err = s.pop(1)
	case 's':
		_, err = s.pop(2)
	default:
		var v []value
		v, err = s.popMark()
		if n = len(v); op == 'u' && n%2 != 0 {
			return errors.New("a dict with a key and no value")
		}
	}
	if err != nil {
		return err
	}
	if _, err := s.pop(1); err != nil {
		return err
	}
	s.stack = s.stack[:len(s.stack)+1]
	return s.spend(costItem * int64(n))
}
