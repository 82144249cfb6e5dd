"""compare.py A B [A B …]: checks that each file B, loaded by PyTorch, has the tensors of A.

B is loaded with weights_only=True. If its name ends in .f32.pt, .bf16.pt or .f16.pt, the float
tensors of A are rounded to that first. Bits, shapes, dtypes and which names are tied must agree.
"""
import sys, torch
from safetensors import safe_open

dtypes = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


def flat(d, prefix=""):
    out = {}
    for k, v in d.items() if isinstance(d, dict) else enumerate(d):
        if isinstance(v, torch.Tensor):
            out[prefix + str(k)] = v
        elif isinstance(v, (dict, list, tuple)):
            out.update(flat(v, prefix + str(k) + "."))
    return out


def load(path, **kw):
    if path.endswith(".safetensors"):
        with safe_open(path, "pt") as f:
            out = {k: f.get_tensor(k) for k in f.keys()}
            for name, of in (f.metadata() or {}).items():
                if name not in out and of in out:
                    out[name] = out[of]
        return out
    d = torch.load(path, map_location="cpu", **kw)
    for key in ("model", "state_dict"):
        if isinstance(d.get(key), dict):
            return flat(d[key])
    return flat(d)


def bits(t):
    t = t.detach().contiguous().clone()
    return bytes(t.flatten().view(torch.uint8).tolist()) if t.numel() else b""


def tied(d):
    groups = {}
    for k, t in d.items():
        if t.numel():
            groups.setdefault((t.data_ptr(), t.dtype, tuple(t.shape), t.stride()), set()).add(k)
    return {frozenset(g) for g in groups.values() if len(g) > 1}


wrong = []
pairs = list(zip(sys.argv[1::2], sys.argv[2::2]))
for a, b in pairs:
    x, y = load(a, weights_only=False), load(b, weights_only=True)
    mapped = load(b, weights_only=True, mmap=True)
    if x.keys() == mapped.keys() and any(bits(t) != bits(mapped[name]) for name, t in y.items()):
        wrong.append(f"{a} {b}: other bits when mapped")
    dtype = dtypes.get(b.split(".")[-2])
    if x.keys() != y.keys():
        wrong.append(f"{a} {b}: {sorted(x)} and {sorted(y)}")
        continue
    for name, want in x.items():
        floats = want.dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16)
        if dtype and floats:
            want = want.to(dtype)
        got = y[name]
        if got.dtype != want.dtype or got.shape != want.shape or bits(got) != bits(want):
            wrong.append(f"{a} {b}: {name}: {want.dtype} {tuple(want.shape)} and {got.dtype} {tuple(got.shape)}, or their bits")
    if not dtype and not tied(x) <= tied(y) and not a.endswith(".safetensors"):
        wrong.append(f"{a} {b}: tied {tied(x)} and {tied(y)}")
print("\n".join(wrong) or f"{len(pairs)} files agree")
sys.exit(bool(wrong))
