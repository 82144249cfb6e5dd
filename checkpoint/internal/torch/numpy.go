package torch

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/big"

	"microrwkv/checkpoint/internal/store"
	"microrwkv/checkpoint/pickle"
)

// npType is a numpy.dtype: its code ("f8") and, once BUILD has set it, whether values are
// big-endian.
type npType struct {
	code string
	big  bool
}

// PySetState takes the byte order from the dtype's state, (3, "<", …).
func (d *npType) PySetState(state any) error {
	if list, ok := pickle.Items(state); ok && len(list) > 1 {
		order, _ := list[1].(string)
		d.big = order == ">"
	}
	return nil
}

func numpyDType(p *parser, args []any) (any, error) {
	if err := p.spend(64); err != nil {
		return nil, err
	}
	if len(args) > 0 {
		if code, ok := args[0].(string); ok && len(code) <= 16 {
			return &npType{code: code}, nil
		}
	}
	return nil, fmt.Errorf("numpy.dtype: %w", errArgs)
}

// codecsEncode is _codecs.encode(text, "latin1"), how protocol 2 writes bytes.
func codecsEncode(p *parser, args []any) (any, error) {
	if len(args) == 0 {
		return []byte{}, nil
	}
	switch s := args[0].(type) {
	case []byte:
		return s, nil
	case string:
		if err := p.spend(len(s)); err != nil {
			return nil, err
		}
		b := make([]byte, 0, len(s))
		for _, r := range s {
			if r > 255 {
				return nil, fmt.Errorf("_codecs.encode: %w", errArgs)
			}
			b = append(b, byte(r))
		}
		return b, nil
	}
	return nil, fmt.Errorf("_codecs.encode: %w", errArgs)
}

// numpyScalar is the value of (dtype, bytes). It is opaque if Go has no such type.
func numpyScalar(p *parser, args []any) (any, error) {
	if len(args) != 2 {
		return nil, fmt.Errorf("a numpy scalar: %w", errArgs)
	}
	if err := p.spend(256); err != nil {
		return nil, err
	}
	d, ok := args[0].(*npType)
	if !ok {
		return nil, fmt.Errorf("a numpy scalar: %w", errArgs)
	}
	b, ok := args[1].([]byte)
	if s, text := args[1].(string); text { // written by Python 2
		b, ok = []byte(s), true
	}
	if ok && len(b) <= 256 {
		var order binary.ByteOrder = binary.LittleEndian
		if d.big {
			order = binary.BigEndian
		}
		if v, ok := npValue(d.code, b, order); ok {
			return v, nil
		}
	}
	return Opaque("numpy scalar of type " + d.code), nil
}

func npValue(code string, b []byte, order binary.ByteOrder) (any, bool) {
	var u uint64
	switch len(b) {
	case 1:
		u = uint64(b[0])
	case 2:
		u = uint64(order.Uint16(b))
	case 4:
		u = uint64(order.Uint32(b))
	case 8:
		u = order.Uint64(b)
	}
	switch code + fmt.Sprint("/", len(b)) {
	case "f8/8":
		return math.Float64frombits(u), true
	case "f4/4":
		return float64(math.Float32frombits(uint32(u))), true
	case "f2/2":
		return float64(store.HalfToFloat(uint16(u))), true
	case "i8/8":
		return int64(u), true
	case "i4/4":
		return int64(int32(u)), true
	case "i2/2":
		return int64(int16(u)), true
	case "i1/1":
		return int64(int8(u)), true
	case "u8/8":
		return new(big.Int).SetUint64(u), true
	case "u4/4", "u2/2", "u1/1":
		return int64(u), true
	case "b1/1":
		return u != 0, true
	case "c8/8":
		return complex(float64(math.Float32frombits(order.Uint32(b))), float64(math.Float32frombits(order.Uint32(b[4:])))), true
	case "c16/16":
		return complex(math.Float64frombits(order.Uint64(b)), math.Float64frombits(order.Uint64(b[8:]))), true
	}
	if len(code) > 0 && code[0] == 'U' && len(b)%4 == 0 {
		var s []rune
		for i := 0; i < len(b); i += 4 {
			s = append(s, rune(order.Uint32(b[i:])))
		}
		return trimZeros(string(s)), true
	}
	if len(code) > 0 && code[0] == 'S' {
		return trimZeros(string(b)), true
	}
	return nil, false
}

func trimZeros(s string) string {
	for len(s) > 0 && s[len(s)-1] == 0 {
		s = s[:len(s)-1]
	}
	return s
}
