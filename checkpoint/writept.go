package checkpoint

import (
	"archive/zip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"slices"

	"microrwkv/checkpoint/internal/store"
	"microrwkv/checkpoint/pickle"
)

// alignment is where records begin, as PyTorch has them: a mapped record can then be read with
// any vector instruction.
const alignment = 64

// writeZip writes the format of torch.save.
func writeZip(w io.Writer, items []*item, values *pickle.Dict, count func(n int)) error {
	at := &counter{w: w}
	z := &zipWriter{at: at, zip: zip.NewWriter(at)}
	setKeys(items)
	for _, it := range items {
		if store.Blocked(it.dtype) {
			return fmt.Errorf("tensor %q: PyTorch's files have no dtype %v: convert it to f16, bf16 or f32", it.name, it.dtype)
		}
	}
	p := &pickler{}
	if err := p.file(items, values); err != nil {
		return err
	}
	z.record("data.pkl", int64(len(p.out)), func(w io.Writer) error { _, err := w.Write(p.out); return err })
	z.text("byteorder", "little")
	for _, it := range items {
		if it.twin == nil {
			z.record("data/"+it.key, it.size(), func(w io.Writer) error { return it.writeTo(w, count) })
		}
	}
	z.text("version", "3\n")
	if z.err != nil {
		return z.err
	}
	return z.zip.Close()
}

// counter counts bytes written.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// zipWriter writes records; the first error sticks.
type zipWriter struct {
	at      *counter
	zip     *zip.Writer
	trailer int64 // bytes that the zip.Writer has yet to write of the record before
	err     error
}

func (z *zipWriter) text(name, s string) {
	z.record(name, int64(len(s)), func(w io.Writer) error { _, err := io.WriteString(w, s); return err })
}

// record writes an entry of size bytes that begin at a multiple of alignment: the header is made
// longer by an extra field, "FB", as PyTorch does.
func (z *zipWriter) record(name string, size int64, write func(w io.Writer) error) {
	if z.err != nil {
		return
	}
	name = "archive/" + name
	if z.err = z.zip.Flush(); z.err != nil {
		return
	}
	const header, field = 30, 4
	start := z.at.n + z.trailer + header + int64(len(name)) + field
	extra := make([]byte, field+int(-start&(alignment-1)))
	copy(extra, "FB")
	binary.LittleEndian.PutUint16(extra[2:], uint16(len(extra)-field))
	w, err := z.zip.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Store, Extra: extra})
	if err == nil {
		err = write(w)
	}
	z.err = err
	z.trailer = 16 // the data descriptor
	if size >= math.MaxUint32 {
		z.trailer = 24
	}
}

// pickler writes protocol 2, with what torch.load's weights_only mode accepts.
type pickler struct {
	out []byte
}

// file writes the state_dict, and the values beside it if there are any.
func (p *pickler) file(items []*item, values *pickle.Dict) error {
	p.out = append(p.out, 0x80, 2)
	if len(values.Keys) > 0 {
		p.out = append(p.out, '}', '(')
		p.str("model")
	}
	p.stateDict(items)
	for i, k := range values.Keys {
		err := p.value(k)
		if err == nil {
			err = p.value(values.Values[i])
		}
		if err != nil {
			return fmt.Errorf("value %q: %w", keyText(k), err)
		}
	}
	if len(values.Keys) > 0 {
		p.out = append(p.out, 'u')
	}
	p.out = append(p.out, '.')
	return nil
}

func (p *pickler) stateDict(items []*item) {
	p.global("collections", "OrderedDict")
	p.out = append(p.out, ')', 'R', '(')
	for _, it := range items {
		if it.value {
			continue
		}
		p.str(it.name)
		p.tensor(it)
	}
	p.out = append(p.out, 'u')
}

// tensor writes a call of _rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks),
// or of _v3, which names the dtype, for types that have no class of storages.
func (p *pickler) tensor(it *item) {
	class := store.DTypes[it.dtype].Storage
	n := it.size() / store.Size(it.dtype)
	if class != "" {
		p.global("torch._utils", "_rebuild_tensor_v2")
		p.out = append(p.out, '(', '(')
		p.str("storage")
		p.global("torch", class)
	} else {
		p.global("torch._utils", "_rebuild_tensor_v3")
		p.out = append(p.out, '(', '(')
		p.str("storage")
		p.global("torch.storage", "UntypedStorage")
		n = it.size()
	}
	p.str(it.key)
	p.str("cpu")
	p.int(n)
	p.out = append(p.out, 't', 'Q')
	p.int(0)
	p.ints(it.shape)
	p.ints(store.RowMajor(it.shape))
	p.out = append(p.out, 0x89) // False
	p.global("collections", "OrderedDict")
	p.out = append(p.out, ')', 'R')
	if class == "" {
		p.global("torch", store.DTypes[it.dtype].Torch)
	}
	p.out = append(p.out, 't', 'R')
}

func (p *pickler) global(module, name string) {
	p.out = append(p.out, "c"+module+"\n"+name+"\n"...)
}

func (p *pickler) str(s string) {
	p.out = append(p.out, 'X')
	p.out = binary.LittleEndian.AppendUint32(p.out, uint32(len(s)))
	p.out = append(p.out, s...)
}

func (p *pickler) int(n int64) {
	if n == int64(int32(n)) {
		p.out = append(p.out, 'J')
		p.out = binary.LittleEndian.AppendUint32(p.out, uint32(n))
		return
	}
	p.out = append(p.out, 0x8a, 8)
	p.out = binary.LittleEndian.AppendUint64(p.out, uint64(n))
}

func (p *pickler) ints(list []int64) {
	p.out = append(p.out, '(')
	for _, n := range list {
		p.int(n)
	}
	p.out = append(p.out, 't')
}

func (p *pickler) values(list []any) error {
	for _, x := range list {
		if err := p.value(x); err != nil {
			return err
		}
	}
	return nil
}

// value writes a value beside the tensors.
func (p *pickler) value(v any) error {
	if len(p.out) > maxPickle {
		return errors.New("values that take too much memory")
	}
	switch v := v.(type) {
	case nil:
		p.out = append(p.out, 'N')
	case bool:
		p.out = append(p.out, 0x89)
		if v {
			p.out[len(p.out)-1] = 0x88
		}
	case int:
		p.int(int64(v))
	case int64:
		p.int(v)
	case *big.Int:
		return p.big(v)
	case float64:
		p.out = append(p.out, 'G')
		p.out = binary.BigEndian.AppendUint64(p.out, math.Float64bits(v))
	case string:
		p.str(v)
	case []byte: // protocol 2 has none: a call of _codecs.encode
		p.global("_codecs", "encode")
		runes := make([]rune, len(v))
		for i, b := range v {
			runes[i] = rune(b)
		}
		p.str(string(runes))
		p.str("latin1")
		p.out = append(p.out, 0x86, 'R')
	case *item:
		p.tensor(v)
	case DType:
		p.global("torch", store.DTypes[v].Torch)
	case pickle.Tuple:
		p.out = append(p.out, '(')
		err := p.values(v)
		p.out = append(p.out, 't')
		return err
	case pickle.List:
		return p.value([]any(v))
	case []any:
		p.out = append(p.out, ']', '(')
		err := p.values(v)
		p.out = append(p.out, 'e')
		return err
	case *pickle.Dict:
		p.out = append(p.out, '}', '(')
		for i, k := range v.Keys {
			if err := p.values([]any{k, v.Values[i]}); err != nil {
				return err
			}
		}
		p.out = append(p.out, 'u')
	case map[string]any:
		d := &pickle.Dict{}
		for _, k := range keyOrder(v) {
			d.Keys, d.Values = append(d.Keys, k), append(d.Values, v[k])
		}
		return p.value(d)
	default:
		return fmt.Errorf("a %T can't be written", v)
	}
	return nil
}

// maxPickle limits what values may grow to that share parts of themselves.
const maxPickle = 256 << 20

// big writes an integer of any size, in two's complement.
func (p *pickler) big(n *big.Int) error {
	size := n.BitLen()/8 + 1
	if size > 255 {
		return errors.New("an integer too large")
	}
	if n.Sign() < 0 {
		n = new(big.Int).Add(n, new(big.Int).Lsh(big.NewInt(1), uint(8*size)))
	}
	b := n.FillBytes(make([]byte, size))
	slices.Reverse(b)
	p.out = append(append(p.out, 0x8a, byte(size)), b...)
	return nil
}
