package tokenizer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strconv"
)

// What the pickle of a vocabulary of all Unicode's 150,000 assigned characters stays below. Decoding
// a pickle within these bounds takes less than 200 MB.
const (
	maxMetaBytes   = 8 << 20
	maxOps         = 1 << 20
	maxMarks       = 16      // open at a time
	maxCollections = 1 << 10 // lists, dicts and tuples
)

// opKind is what scanPickle needs to know of an opcode: how long its argument is and what it makes.
type opKind byte

const (
	opUnknown    opKind = iota
	opPlain             // no argument
	opArg1              // an argument of 1 byte
	opArg2              // 2 bytes
	opArg4              // 4 bytes
	opArg8              // 8 bytes
	opCounted1          // a length of 1 byte, then so many bytes
	opCounted4          // a length of 4 bytes
	opCounted8          // a length of 8 bytes
	opFrame             // the length of the ops that follow
	opMark              // opens a mark
	opUnmark            // closes a mark
	opCollection        // makes a list, dict or tuple
	opClosing           // closes a mark and makes a list, dict or tuple
	opStop              // ends the pickle
	opClass             // names or calls a class, or fetches an object from elsewhere
	opLine              // of protocol 0, with an argument that is a line
)

// opKinds has the opcodes of None, booleans, numbers, strings, lists, dicts and tuples in protocols
// 1 to 5, and those that are refused by name.
var opKinds = func() (t [256]opKind) {
	for k, ops := range map[opKind]string{
		opPlain:      "Nas02\x88\x89\x94",
		opArg1:       "Khq\x80",
		opArg2:       "M",
		opArg4:       "Jjr",
		opArg8:       "G",
		opCounted1:   "\x8a\x8cUC",
		opCounted4:   "XTB",
		opCounted8:   "\x8d\x8e",
		opFrame:      "\x95",
		opMark:       "(",
		opUnmark:     "ue1",
		opCollection: "}])\x85\x86\x87",
		opClosing:    "tld",
		opStop:       ".",
		opClass:      "cioRb\x81\x92\x93\x82\x83\x84PQ",
		opLine:       "FILSVgp",
	} {
		for _, op := range []byte(ops) {
			t[op] = k
		}
	}
	return t
}()

// scanPickle walks over the opcodes of a pickle without executing them. It returns an error if the
// pickle holds anything but plain values, exceeds the bounds above, ends early or says that it is
// longer than it is: so that decoding it is safe.
func scanPickle(data []byte) error {
	if len(data) > maxMetaBytes {
		return fmt.Errorf("larger than %d bytes", maxMetaBytes)
	}
	r := pickleScanner{rest: data}
	for ops, marks, collections := 0, 0, 0; ; ops++ {
		op := r.uint(1)
		if r.short {
			return fmt.Errorf("ends early: %w", io.ErrUnexpectedEOF)
		}
		switch opKinds[op] {
		case opPlain:
		case opArg1:
			r.skip(1)
		case opArg2:
			r.skip(2)
		case opArg4:
			r.skip(4)
		case opArg8:
			r.skip(8)
		case opCounted1:
			n := r.uint(1)
			if op == opLong1 && strconv.IntSize == 32 && n > 4 && n <= 8 && n <= uint64(len(r.rest)) {
				return fmt.Errorf("integer %s needs more than an int of 32 bits", longInteger(r.rest[:n]))
			}
			r.skip(n)
		case opCounted4:
			r.skip(r.uint(4))
		case opCounted8:
			r.skip(r.uint(8))
		case opFrame:
			if n := r.uint(8); n > uint64(len(r.rest)) {
				r.short = true
			}
		case opMark:
			marks++
		case opUnmark:
			marks--
		case opCollection:
			collections++
		case opClosing:
			marks--
			collections++
		case opStop:
			return nil
		case opClass:
			return classError(byte(op), r.rest)
		case opLine:
			return errors.New("of protocol 0, want 1 or later")
		default:
			return fmt.Errorf("opcode %#02x is not that of a plain value", op)
		}
		switch {
		case r.short:
			return fmt.Errorf("ends early: %w", io.ErrUnexpectedEOF)
		case marks < 0:
			return errors.New("malformed: no mark")
		case ops >= maxOps, marks > maxMarks, collections > maxCollections:
			return errors.New("larger than any character vocabulary")
		}
	}
}

// opLong1 pushes an integer of any size. gopickle makes an int of one of up to eight bytes, which it
// cuts short where an int has four: those are refused.
const opLong1 = 0x8a

// longInteger formats a little-endian integer in two's complement.
func longInteger(data []byte) string {
	b := slices.Clone(data)
	slices.Reverse(b)
	v := new(big.Int).SetBytes(b)
	if b[0] >= 0x80 {
		v.Sub(v, new(big.Int).Lsh(big.NewInt(1), uint(8*len(b))))
	}
	return v.String()
}

// classError refuses a class or call, by name if the pickle gives it in place.
func classError(op byte, rest []byte) error {
	if op == 'c' || op == 'i' {
		if f := bytes.SplitN(rest, []byte("\n"), 3); len(f) == 3 && len(f[0])+len(f[1]) < 100 {
			return fmt.Errorf("class %q is not allowed, only plain values are", string(f[0])+"."+string(f[1]))
		}
	}
	return errors.New("classes are not allowed, only plain values are")
}

// pickleScanner reads from the start of rest; short says that there was less than asked for.
type pickleScanner struct {
	rest  []byte
	short bool
}

func (r *pickleScanner) skip(n uint64) {
	if n > uint64(len(r.rest)) {
		r.short, r.rest = true, nil
		return
	}
	r.rest = r.rest[n:]
}

// uint reads a little-endian integer of n bytes.
func (r *pickleScanner) uint(n int) uint64 {
	var b [8]byte
	copy(b[:n], r.rest)
	r.skip(uint64(n))
	return binary.LittleEndian.Uint64(b[:])
}
