package tokenizer

import "unicode/utf8"

// A Decoder turns a stream of ids into text, piece by piece. Every piece is valid UTF-8: the bytes
// of a character that isn't complete are held back until it is. All pieces joined, with Flush's at
// the end, are the text of all ids, wherever tokens begin and end, in which bytes that are not
// UTF-8 are U+FFFD as in Python's bytes.decode(errors="replace"): one for the longest start of a
// character that was broken off, else one for each byte (Unicode, section 3.9, "U+FFFD Substitution
// of Maximal Subparts"). Go's range and strings.ToValidUTF8 put in more and fewer.
//
// A Decoder belongs to one goroutine.
type Decoder struct {
	tok  Tokenizer
	buf  []byte // the bytes held back, then those of one token
	held int    // how many are held back: at most 3
	out  []byte
}

// NewDecoder returns a Decoder for the ids of tok.
func NewDecoder(tok Tokenizer) *Decoder { return &Decoder{tok: tok} }

// Push takes the next id and returns the text that is complete with it, which may be none.
func (d *Decoder) Push(id int) string {
	d.out = d.Append(d.out[:0], id)
	return string(d.out)
}

// Append is Push, but appends the text to dst; it allocates nothing when dst has room.
func (d *Decoder) Append(dst []byte, id int) []byte {
	d.buf = d.tok.AppendToken(d.buf[:d.held], id)
	dst, rest := appendText(dst, d.buf)
	d.held = copy(d.buf, rest)
	return dst
}

// Held returns how many bytes of an incomplete character are held back.
func (d *Decoder) Held() int { return d.held }

// Flush ends the text: it returns U+FFFD if a character is still incomplete, else nothing. The
// Decoder is then as new.
func (d *Decoder) Flush() string {
	if d.held == 0 {
		return ""
	}
	d.held = 0
	return string(utf8.RuneError)
}

// appendText appends the text in src to dst and returns it with what of src is left: the start of a
// character that more bytes could complete.
func appendText(dst, src []byte) (text, rest []byte) {
	for len(src) > 0 {
		r, n := utf8.DecodeRune(src)
		if r != utf8.RuneError || n > 1 {
			dst, src = append(dst, src[:n]...), src[n:]
			continue
		}
		if !utf8.FullRune(src) {
			break
		}
		for !utf8.FullRune(src[:n]) && !utf8.FullRune(src[:n+1]) { // FullRune(src): n stays in range
			n++
		}
		dst, src = utf8.AppendRune(dst, utf8.RuneError), src[n:]
	}
	return dst, src
}
