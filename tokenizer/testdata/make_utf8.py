"""Writes utf8.json: byte strings, most of them not UTF-8, and what Python decodes them to."""
import json, pathlib, random

random.seed(1)
parts = [bytes([b]) for b in (0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1,
                              0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF)]
parts += [s.encode() for s in ("é", "€", "\ufffd", "𝄞", "\U0010ffff")]
parts += [b"\xe2\x82", b"\xf0\x9d\x84", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf0\x80\x80\x80", b"\xe0\x80"]
cases = parts + [a + b for a in parts for b in parts]
cases += [b"".join(random.choices(parts, k=random.randint(3, 8))) for _ in range(500)]
rows = [{"hex": c.hex(), "text": c.decode(errors="replace")} for c in cases]
path = pathlib.Path(__file__).with_name("utf8.json")
path.write_text("[\n" + ",\n".join(json.dumps(r) for r in rows) + "\n]\n")
