package pickle

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

func checkProtocol(_ *scanner, arg []byte, _ []value) error {
	if arg[0] > 5 {
		return fmt.Errorf("protocol %d, want at most 5", arg[0])
	}
	return nil
}

// skipFrame leaves a frame out, which only announces bytes.
func skipFrame(s *scanner, arg []byte, _ []value) error {
	if n := binary.LittleEndian.Uint64(arg); n > uint64(len(s.in)-s.pos) {
		return fmt.Errorf("a frame of %d bytes, %d are left", n, len(s.in)-s.pos)
	}
	return nil
}

func skip(*scanner, []byte, []value) error { return nil }

var errOdd = errors.New("a dict with a key and no value")

func checkPairs(_ *scanner, _ []byte, taken []value) error {
	if len(taken)%2 != 0 {
		return errOdd
	}
	return nil
}

func checkEntries(s *scanner, arg []byte, taken []value) error { return checkPairs(s, arg, taken[1:]) }

func checkObject(s *scanner, _ []byte, taken []value) error {
	if len(taken) == 0 {
		return errors.New(wanted[class])
	}
	if taken[0].kind != class {
		return s.unwanted(class, taken[0])
	}
	return nil
}

func mark(s *scanner, _ []byte, _ []value) error {
	if len(s.marks) >= maxMark {
		return errDepth
	}
	s.marks = append(s.marks, len(s.stack))
	return nil
}

// pop takes a value, or a mark if there is nothing above it.
func pop(s *scanner, _ []byte, _ []value) error {
	if n := len(s.marks); n > 0 && s.marks[n-1] == len(s.stack) {
		s.marks = s.marks[:n-1]
		return nil
	}
	_, err := s.take("v")
	return err
}

// number reads a memo index of up to four bytes.
func number(arg []byte) (uint32, error) {
	var b [4]byte
	copy(b[:], arg)
	return binary.LittleEndian.Uint32(b[:]), nil
}

// decimal reads a memo index of digits.
func decimal(arg []byte) (uint32, error) {
	var n uint32
	for _, c := range arg {
		if c < '0' || c > '9' || n > 1<<27 {
			return 0, errors.New("a bad memo index")
		}
		n = 10*n + uint32(c-'0')
	}
	if len(arg) == 0 {
		return 0, errors.New("a bad memo index")
	}
	return n, nil
}

// put is where a value is stored in the memo, in the normalised stream.
type put struct {
	at  int
	key uint32
}

// putSize is the length of LONG_BINPUT.
const putSize = 5

// put stores a value in the memo, by LONG_BINPUT.
func (s *scanner) put(key uint32, v value) {
	s.memo.set(key, v)
	s.puts = append(s.puts, put{len(s.out), key})
	s.out = binary.LittleEndian.AppendUint32(append(s.out, 'r'), key)
}

func memoize(s *scanner, _ []byte, taken []value) error {
	s.put(uint32(s.memo.len()), taken[0])
	return nil
}

func putAt(index func([]byte) (uint32, error)) effect {
	return func(s *scanner, arg []byte, taken []value) error {
		key, err := index(arg)
		if err == nil {
			s.put(key, taken[0])
		}
		return err
	}
}

// getFrom pushes a memoized value.
func getFrom(index func([]byte) (uint32, error)) effect {
	return func(s *scanner, arg []byte, _ []value) error {
		key, err := index(arg)
		if err != nil {
			return err
		}
		v, ok := s.memo.get(key)
		if !ok {
			return fmt.Errorf("memo %d is not set", key)
		}
		v.used = true
		s.memo.set(key, v)
		s.stack = append(s.stack, v)
		return s.spend(costValue)
	}
}

// writeLong writes an integer, which is little-endian in two's complement, for the Unpickler. That
// makes an int of one of up to eight bytes, cut short where an int has four, and panics at one of
// none: both become longer.
func writeLong(s *scanner, b []byte, _ []value) error {
	if len(b) > maxLong {
		return fmt.Errorf("an integer of %d bytes", len(b))
	}
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
	return nil
}

// writeDigits writes an integer of decimal digits, and an L at their end, as writeLong does.
func writeDigits(s *scanner, digits []byte, _ []value) error {
	n, ok := new(big.Int).SetString(string(bytes.TrimSuffix(digits, []byte("L"))), 10)
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
	return writeLong(s, b, nil)
}

// class writes a GLOBAL or INST opcode with the module's name marked.
func (s *scanner) class(op byte, module, name []byte) {
	s.names = append(s.names, string(module)+"."+string(name))
	s.out = append(s.out, op, classMark)
	s.out = append(append(s.out, module...), '\n')
	s.out = append(append(s.out, name...), '\n')
}

func writeGlobal(s *scanner, arg []byte, _ []value) error {
	module, name, _ := bytes.Cut(arg, []byte("\n"))
	s.class('c', module, name)
	return nil
}

func writeInst(s *scanner, arg []byte, _ []value) error {
	module, name, _ := bytes.Cut(arg, []byte("\n"))
	s.class('i', module, name)
	return nil
}

// writeStackGlobal writes POP POP GLOBAL.
func writeStackGlobal(s *scanner, _ []byte, taken []value) error {
	var names [2][]byte
	for i, v := range taken {
		names[i] = s.in[v.off:][:v.n]
		if bytes.IndexByte(names[i], '\n') >= 0 {
			return errors.New("a class name of more than one line")
		}
	}
	s.out = append(s.out, '0', '0')
	s.class('c', names[0], names[1])
	return s.spend(nameByte * int64(len(names[0])+len(names[1])))
}
