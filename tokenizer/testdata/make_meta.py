"""Writes the meta_*.pkl of char_test.go: character vocabularies as nanoGPT's prepare.py pickles them,
by every protocol that has opcodes of its own, and variants of them."""
import collections, pathlib, pickle

here = pathlib.Path(__file__).parent


def write(name, value, protocol=4):
    here.joinpath(f"meta_{name}.pkl").write_bytes(pickle.dumps(value, protocol))


def meta(text):
    chars = sorted(set(text))
    return {
        "vocab_size": len(chars),
        "itos": {i: ch for i, ch in enumerate(chars)},
        "stoi": {ch: i for i, ch in enumerate(chars)},
    }


# tiny Shakespeare's 65 characters
shakespeare = "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
for protocol in range(1, 6):
    write(f"p{protocol}", meta(shakespeare), protocol)
mixed = meta("naïve café — 日本語 \U0001f389\ufffd\0\n" + "".join(map(chr, range(0x4E00, 0x4E00 + 400))))
write("mixed", mixed)
write("itos", {"itos": mixed["itos"]})
write("stoi", {"stoi": mixed["stoi"]})
write("list", {"itos": list(mixed["itos"].values()), "note": ["ignored", 1.5, None, True, (1, 2, 3, 4), 1 << 70]})
write("padded", dict(meta("abc"), vocab_size=64))

write("bad_p0", meta("abc"), 0)
write("bad_class", {"itos": collections.Counter("abc")})
write("bad_class2", collections.OrderedDict(meta("abc")), 2)
write("bad_disagree", dict(meta("abc"), stoi={"a": 0, "b": 2, "c": 1}))
write("bad_more", dict(meta("abc"), stoi={"a": 0, "b": 1}))
write("bad_twice", {"itos": {0: "a", 1: "a"}})
write("bad_surrogate", {"itos": {0: "a", 1: "\ud800"}})
write("bad_id", {"stoi": {"a": 1 << 40}})
write("bad_negative", {"stoi": {"a": -1}})
write("bad_size", dict(meta("abc"), vocab_size=2))
write("bad_empty", meta(""))
write("bad_none", {"vocab_size": 3})
write("bad_list", ["a", "b"])
