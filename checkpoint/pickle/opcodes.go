package pickle

// An opcode is a row of the table of what a pickle may hold.
type opcode struct {
	name  string   // Python's, in its pickletools; "" if there is no such opcode
	arg   argument // what follows it in the stream
	takes string   // the kinds of the values that it takes from the stack, the lowest first; see kind
	gives string   // the kinds of those that it puts there
	cost  int64    // what the Unpickler, the scan and the conversion allocate for it in bytes, rounded up,
	byte  int64    // for each byte of its argument,
	item  int64    // and for each value that it takes, but the one that it gives back

	check  effect // what else must hold, and happens
	write  effect // writes something in the opcode's place, or nothing
	text   bool   // only protocol 0 writes it
	refuse string // why it is refused
}

// An effect is what the scan does with an opcode's argument and the values that it takes.
type effect func(s *scanner, arg []byte, taken []value) error

// argument is what follows an opcode: so many bytes, or one of these. An argument that begins with
// its own length, of 1, 4 or 8 bytes, is the bytes after it.
type argument int8

const (
	count1   argument = -1
	count4   argument = -4
	count8   argument = -8
	line     argument = 100 // at most maxLine bytes
	twoLines argument = 101 // each of at most maxLine bytes
	longLine argument = 102 // a line of any length
)

// kind is what is known of a value on the scanned stack, written as a letter. Where an opcode takes
// values, v is any, and ( at the end stands for a mark and all values above it; where it gives some,
// 1 is the first one that it took.
type kind byte

const (
	other      kind = 'v'
	text       kind = 's' // a string of the input, at off
	class      kind = 'c' // pushed by GLOBAL or STACK_GLOBAL
	object     kind = 'o' // made by a class
	persistent kind = 'p' // what a persistent id stands for
	tuple      kind = 't'
)

// wanted says what is wrong if a value is not of a kind that an opcode takes.
var wanted = map[kind]string{
	text:   "a class name that is not a string",
	class:  "a call of something that is not a class",
	object: "BUILD of something that no class made",
	tuple:  "arguments that are not a tuple",
}

// What things cost in bytes.
const (
	costValue  = 96  // of each value given: a stack slot here and there, with room to grow, and a boxed number
	costMark   = 400 // a stack of 16 slots
	costObject = 256 // a container's header and first slots, and its converted form
	costSet    = 640 // more, for a set
	costItem   = 160 // an entry of a container, in all its forms
	costMemo   = 160 // a memo entry, here and there
	costNumber = 384 // a number that is parsed
	costText   = 32
	textByte   = 6
	digitByte  = 16
	nameByte   = 8
)

// opcodes is the closed table: what is not in it is refused.
var opcodes = [256]opcode{
	0x80: {name: "PROTO", arg: 1, check: checkProtocol},
	0x95: {name: "FRAME", arg: 8, write: skipFrame},
	'.':  {name: "STOP", takes: "v"},

	'N':  {name: "NONE", gives: "v"},
	0x88: {name: "NEWTRUE", gives: "v"},
	0x89: {name: "NEWFALSE", gives: "v"},
	'K':  {name: "BININT1", arg: 1, gives: "v"},
	'M':  {name: "BININT2", arg: 2, gives: "v"},
	'J':  {name: "BININT", arg: 4, gives: "v"},
	'G':  {name: "BINFLOAT", arg: 8, gives: "v"},
	0x8a: {name: "LONG1", arg: count1, gives: "v", cost: costNumber, write: writeLong},
	0x8b: {name: "LONG4", arg: count4, gives: "v", cost: costNumber, write: writeLong},
	'I':  {name: "INT", arg: line, gives: "v", cost: costNumber, byte: digitByte, text: true},
	'F':  {name: "FLOAT", arg: line, gives: "v", cost: costNumber, byte: digitByte, text: true},
	'L':  {name: "LONG", arg: line, gives: "v", cost: 2 * costNumber, byte: digitByte, text: true, write: writeDigits},

	'X':  {name: "BINUNICODE", arg: count4, gives: "s", cost: costText, byte: textByte},
	0x8c: {name: "SHORT_BINUNICODE", arg: count1, gives: "s", cost: costText, byte: textByte},
	0x8d: {name: "BINUNICODE8", arg: count8, gives: "s", cost: costText, byte: textByte},
	'U':  {name: "SHORT_BINSTRING", arg: count1, gives: "s", cost: costText, byte: textByte},
	'T':  {name: "BINSTRING", arg: count4, gives: "s", cost: costText, byte: textByte},
	'S':  {name: "STRING", arg: longLine, gives: "v", cost: costText, byte: textByte, text: true},
	'V':  {name: "UNICODE", arg: longLine, gives: "v", cost: costText, byte: textByte, text: true},
	'C':  {name: "SHORT_BINBYTES", arg: count1, gives: "v", cost: costText, byte: textByte},
	'B':  {name: "BINBYTES", arg: count4, gives: "v", cost: costText, byte: textByte},
	0x8e: {name: "BINBYTES8", arg: count8, gives: "v", cost: costText, byte: textByte},
	0x96: {name: "BYTEARRAY8", arg: count8, gives: "v", cost: costText, byte: textByte},
	0x98: {name: "READONLY_BUFFER", write: skip},

	')':  {name: "EMPTY_TUPLE", gives: "t", cost: costObject},
	0x85: {name: "TUPLE1", takes: "v", gives: "t", cost: costObject, item: costItem},
	0x86: {name: "TUPLE2", takes: "vv", gives: "t", cost: costObject, item: costItem},
	0x87: {name: "TUPLE3", takes: "vvv", gives: "t", cost: costObject, item: costItem},
	't':  {name: "TUPLE", takes: "(", gives: "t", cost: costObject, item: costItem},
	']':  {name: "EMPTY_LIST", gives: "v", cost: costObject},
	'l':  {name: "LIST", takes: "(", gives: "v", cost: costObject, item: costItem},
	'a':  {name: "APPEND", takes: "vv", gives: "1", item: costItem},
	'e':  {name: "APPENDS", takes: "v(", gives: "1", item: costItem},
	'}':  {name: "EMPTY_DICT", gives: "v", cost: costObject},
	'd':  {name: "DICT", takes: "(", gives: "v", cost: costObject, item: costItem, check: checkPairs},
	's':  {name: "SETITEM", takes: "vvv", gives: "1", item: costItem},
	'u':  {name: "SETITEMS", takes: "v(", gives: "1", item: costItem, check: checkEntries},
	0x8f: {name: "EMPTY_SET", gives: "v", cost: costObject + costSet},
	0x90: {name: "ADDITEMS", takes: "v(", gives: "1", item: costItem},
	0x91: {name: "FROZENSET", takes: "(", gives: "v", cost: costObject, item: costItem},

	'(': {name: "MARK", cost: costMark, check: mark},
	'0': {name: "POP", check: pop},
	'1': {name: "POP_MARK", takes: "("},
	'2': {name: "DUP", takes: "v", gives: "11"},

	'q':  {name: "BINPUT", arg: 1, takes: "v", gives: "1", cost: costMemo, write: putAt(number)},
	'r':  {name: "LONG_BINPUT", arg: 4, takes: "v", gives: "1", cost: costMemo, write: putAt(number)},
	'p':  {name: "PUT", arg: line, takes: "v", gives: "1", cost: costMemo, text: true, write: putAt(decimal)},
	0x94: {name: "MEMOIZE", takes: "v", gives: "1", cost: costMemo, write: memoize},
	'h':  {name: "BINGET", arg: 1, check: getFrom(number)},
	'j':  {name: "LONG_BINGET", arg: 4, check: getFrom(number)},
	'g':  {name: "GET", arg: line, text: true, check: getFrom(decimal)},

	'c':  {name: "GLOBAL", arg: twoLines, gives: "c", cost: costObject, byte: nameByte, write: writeGlobal},
	0x93: {name: "STACK_GLOBAL", takes: "ss", gives: "c", cost: costObject, write: writeStackGlobal},
	'i':  {name: "INST", arg: twoLines, takes: "(", gives: "o", cost: costObject, byte: nameByte, write: writeInst},
	'o':  {name: "OBJ", takes: "(", gives: "o", cost: costObject, check: checkObject},
	'R':  {name: "REDUCE", takes: "ct", gives: "o", cost: costObject},
	0x81: {name: "NEWOBJ", takes: "ct", gives: "o", cost: costObject},
	0x92: {name: "NEWOBJ_EX", takes: "ctv", gives: "o", cost: costObject},
	'b':  {name: "BUILD", takes: "ov", gives: "1"},
	'Q':  {name: "BINPERSID", takes: "v", gives: "p", cost: costObject},

	'P':  {name: "PERSID", refuse: "a persistent id as text"},
	0x82: {name: "EXT1", refuse: "an extension code"},
	0x83: {name: "EXT2", refuse: "an extension code"},
	0x84: {name: "EXT4", refuse: "an extension code"},
	0x97: {name: "NEXT_BUFFER", refuse: "a buffer outside the file"},
}
