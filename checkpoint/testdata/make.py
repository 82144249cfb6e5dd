"""Writes torch/*: what torch.save makes of all sorts of tensors and values, and expect.json.

Run with PyTorch, numpy and safetensors installed: python make.py [folder]
For each file, expect.json has the tensors (dtype, shape and elements in row-major order as hex of
their bytes, little-endian) and the values beside them as plain JSON.
"""
import argparse, collections, datetime, json, os, pathlib, random, sys, types, warnings, zipfile
import numpy as np, torch

out = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "torch")
os.makedirs(out, exist_ok=True)
torch.manual_seed(1)
random.seed(1)
warnings.simplefilter("ignore")  # of prototypes: sparse, quantized and nested tensors
expect = {}
names = {torch.float32: "f32", torch.float64: "f64", torch.float16: "f16", torch.bfloat16: "bf16", torch.complex64: "complex64",
         torch.complex128: "complex128", torch.float8_e4m3fn: "f8_e4m3", torch.float8_e5m2: "f8_e5m2", torch.bool: "bool", torch.float8_e4m3fnuz: "f8_e4m3fnuz",
         torch.float8_e5m2fnuz: "f8_e5m2fnuz", torch.float8_e8m0fnu: "f8_e8m0", torch.float4_e2m1fn_x2: "f4_x2"}

# values that are kept as a note of what they are
unread = {range: "range", slice: "slice", datetime.datetime: "datetime.datetime", datetime.timedelta: "datetime.timedelta", torch.Generator: "torch.Generator",
          np.random.Generator: "numpy.random.Generator", np.random.RandomState: "numpy.random.RandomState", np.datetime64: "numpy scalar of type M8",
          np.longdouble: "numpy scalar of type f16", np.void: "numpy scalar of type V8", np.ndarray: "numpy.ndarray"}


def plain(v):
    if isinstance(v, torch.Tensor):
        return v.item() if v.dim() == 0 else None
    if type(v) in unread:
        return "a " + unread[type(v)]
    if isinstance(v, torch.torch_version.TorchVersion):
        return str(v)
    if isinstance(v, dict):
        return {str(k): plain(x) for k, x in v.items()}
    if isinstance(v, (list, tuple, set, frozenset, torch.Size, collections.deque)):
        return [plain(x) for x in v]
    if isinstance(v, np.generic):
        return v.item()
    if isinstance(v, (torch.dtype, torch.device, torch.layout)):
        return str(v)
    if isinstance(v, (argparse.Namespace, types.SimpleNamespace)):
        return plain(vars(v))
    if isinstance(v, pathlib.PurePath):
        return str(v)
    return v


def note(file, tensors, values=None):
    entry = {"tensors": {}, "values": plain(values or {})}
    for name, t in tensors.items():
        c = t.detach().contiguous().clone()
        raw = bytes(c.flatten().view(torch.uint8).numpy().tobytes()) if c.numel() else b""
        entry["tensors"][name] = {"dtype": names.get(t.dtype, str(t.dtype)[6:]), "shape": list(t.shape), "data": raw.hex()}
    expect[file] = entry


def save(file, tensors, values=None, wrap=True, **kw):
    torch.save(dict(model=tensors, **(values or {})) if wrap else tensors, os.path.join(out, file), **kw)
    note(file, tensors, values)


def some(dtype=torch.float32):
    return collections.OrderedDict(a=torch.randn(3, 5).to(dtype), b=torch.randn(7).to(dtype))


args = dict(n_layer=2, bias=False, dropout=0.0, name="π", none=None, lr=6e-4, big=2**40, neg=-3)
for proto in (2, 3, 4, 5):
    save(f"zip_protocol{proto}.pt", some(), dict(model_args=args), pickle_protocol=proto)
    save(f"legacy_protocol{proto}.pt", some(), dict(model_args=args), pickle_protocol=proto, _use_new_zipfile_serialization=False)

base = torch.randn(6, 8)
views = collections.OrderedDict(
    whole=base, rows=base[2:4], cols=base[:, 3:5], transposed=base.t(), step=base[::2, 1::3], one=base[1, 2], expanded=base[0].expand(3, 8),
    permuted=torch.randn(2, 3, 4).permute(2, 0, 1), tied=base, empty=base[:0], scalar=torch.tensor(2.5))
for kw, tag in ((dict(), "zip"), (dict(_use_new_zipfile_serialization=False), "legacy")):
    save(f"{tag}_views.pt", views, **kw)
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        v = {k: t.to(dtype) for k, t in views.items()}
        v["transposed"] = v["transposed"].t().contiguous().t()
        save(f"{tag}_views_{names[dtype]}.pt", v, **kw)

ints = {str(d)[6:]: torch.tensor([[1, 2, 3], [4, 5, 6]]).to(d) for d in (
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool, torch.uint16, torch.uint32, torch.uint64, torch.complex64,
    torch.float8_e4m3fn, torch.float8_e5m2)}
save("integers.pt", collections.OrderedDict(w=torch.randn(2, 2), **ints))
plainints = {k: v for k, v in ints.items() if k not in ("uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2")}
save("legacy_integers.pt", collections.OrderedDict(w=torch.randn(2, 2), **plainints), _use_new_zipfile_serialization=False)

save("complex128.pt", collections.OrderedDict(w=torch.randn(2, 2), c=torch.randn(2).to(torch.complex128)))

p = torch.nn.Parameter(torch.randn(4))
q = torch.nn.Parameter(torch.randn(2, 2))
q.note = "kept"
t = torch.randn(3)
t.note = "kept"
save("parameters.pt", collections.OrderedDict(p=p, q=q, t=t, buffer=torch.nn.Buffer(torch.randn(2))))
module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
save("module.pt", module.state_dict())
save("bare.pth", module.state_dict(), wrap=False)
save("bare_legacy.pth", module.state_dict(), wrap=False, _use_new_zipfile_serialization=False)

opt = torch.optim.AdamW(module.parameters())
module(torch.randn(4, 3)).sum().backward()
opt.step()
torch.save(dict(model=module.state_dict(), optimizer=opt.state_dict(), iter_num=3), os.path.join(out, "optimizer.pt"))
note("optimizer.pt", module.state_dict(), dict(iter_num=3))

nested = dict(enc=dict(w=torch.randn(2), deep=dict(x=torch.randn(1))), dec=collections.OrderedDict(w=torch.randn(3)))
torch.save(dict(state_dict=nested), os.path.join(out, "nested.pt"))
note("nested.pt", {"enc.w": nested["enc"]["w"], "enc.deep.x": nested["enc"]["deep"]["x"], "dec.w": nested["dec"]["w"]})

values = dict(
    f8=np.float64(2.5), f4=np.float32(0.5), f2=np.float16(0.25), i8=np.int64(-9), i4=np.int32(7), i2=np.int16(-7), i1=np.int8(-1), u1=np.uint8(200),
    u2=np.uint16(60000), u4=np.uint32(4000000000), b=np.bool_(True), tuple=(1, (2, 3)), list=[1, [2.5, "x"]], set={5}, frozen=frozenset([6]),
    dtype=torch.bfloat16, device=torch.device("cuda", 1), size=torch.Size([2, 3]), ns=argparse.Namespace(a=1, b=dict(c=2)), sn=types.SimpleNamespace(x="y"),
    path=pathlib.PurePosixPath("/a/b"), counter=collections.Counter("aab"), default=collections.defaultdict(list, k=[1]),
    od=collections.OrderedDict(z=1, a=2), loss=torch.tensor(1.5), step=torch.tensor(12), intkeys={0: "zero", -1: "minus"}, long="é" * 300, yes=True)
for proto in (2, 5):
    save(f"values_protocol{proto}.pt", some(), values, pickle_protocol=proto)
save("values_legacy.pt", some(), values, _use_new_zipfile_serialization=False)
torch.save(dict(model=some(), rng=np.random.RandomState(1).get_state(), array=np.arange(6.0).reshape(2, 3), raw=b"\x00\xff\x80", uint64=2**64 - 1), os.path.join(out, "arrays.pt"))

more = dict(
    version=torch.__version__, layout=torch.strided, generator=torch.Generator(), default_str=collections.defaultdict(str, a="b"), default_int=collections.defaultdict(int, a=1),
    deque=collections.deque([1, [2]], maxlen=5), range=range(3), slice=slice(1, 2), date=datetime.datetime(2024, 1, 2), delta=datetime.timedelta(1), random=random.getstate()[:1],
    np_generator=np.random.default_rng(1), np_state=np.random.RandomState(1), longdouble=np.longdouble(1.5), datetime64=np.datetime64("2020-01-01"),
    void=np.zeros(1, dtype=[("a", "f4"), ("b", "i4")])[0], text=np.str_("hé"), big_endian=np.array([1.5, 2], dtype=">f8")[0], array=np.array([1, "a", None], dtype=object),
    bigs=[-2**70, 2**100, 2**31, -2**31 - 1, 2**63, -2**63], deep=[dict(a=[(1, dict(b=None))])],
    none_type=None, path=pathlib.Path("a/b"))
for proto in (2, 4):
    save(f"more_protocol{proto}.pt", some(), more, pickle_protocol=proto)
del more["generator"]  # PyTorch can't load it from a legacy file
save("more_legacy.pt", some(), more, _use_new_zipfile_serialization=False)
# numbers that JSON has none for, and types as values
torch.save(dict(model=some(), complex64=np.complex64(1 + 2j), types=[int, float, str, bool, list, dict, tuple, set, bytes, type(None), np.float32], qscheme=torch.per_tensor_affine,
                int4=torch.int4, channels=torch.channels_last, float8=torch.float8_e4m3fn), os.path.join(out, "types.pt"), pickle_protocol=4)

# tensors that have no plain elements, beside weights: their names are listed, and nothing is in the way of the weights
special = dict(
    coo=torch.eye(3).to_sparse(), csr=torch.eye(3).to_sparse_csr(), bsr=torch.eye(4).to_sparse_bsr((2, 2)), meta=torch.empty(3, 4, device="meta"),
    quantized=torch.quantize_per_tensor(torch.randn(4), 0.1, 0, torch.quint8),
    per_channel=torch.quantize_per_channel(torch.randn(2, 4), torch.tensor([0.1, 0.2]), torch.tensor([0, 0]), 0, torch.qint8),
    nested=torch.nested.nested_tensor([torch.randn(2), torch.randn(3)]), conj=torch.randn(2, dtype=torch.complex64).conj(), neg=torch.randn(2, dtype=torch.complex64).conj().imag)
for kw, tag in ((dict(), "zip"), (dict(_use_new_zipfile_serialization=False), "legacy")):
    torch.save(dict(model=dict(some(), **special), beside=special), os.path.join(out, f"{tag}_special.pt"), **kw)

rare = {str(d)[6:]: torch.arange(8, dtype=torch.uint8).view(d) for d in (torch.float8_e4m3fnuz, torch.float8_e5m2fnuz, torch.float8_e8m0fnu, torch.bits8, torch.bits16)}
rare["complex32"] = torch.tensor([1 + 2j], dtype=torch.complex32)
rare["f4_x2"] = torch.arange(4, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)
save("rare.pt", dict(some(), **rare))

# weights elsewhere, and tensors in lists
lists = dict(layers=[dict(w=torch.randn(2)), dict(w=torch.randn(2))], pair=(torch.randn(1), torch.randn(3)), names=["a"])
torch.save(dict(model=lists), os.path.join(out, "lists.pt"))
note("lists.pt", {"layers.0.w": lists["layers"][0]["w"], "layers.1.w": lists["layers"][1]["w"], "pair.0": lists["pair"][0], "pair.1": lists["pair"][1]})
a, b = some(), some()
torch.save([dict(a=1), dict(net=a)], os.path.join(out, "in_list.pt"))
torch.save(dict(model="resnet", net=a, ema=b, optimizer=opt.state_dict(), lr_schedulers=[dict(x=torch.randn(2))], epoch=3), os.path.join(out, "elsewhere.pt"))
note("elsewhere.pt", {**{"net." + k: t for k, t in a.items()}, **{"ema." + k: t for k, t in b.items()}}, dict(model="resnet", epoch=3))

torch.serialization.set_crc32_options(False)
save("no_crc.pt", some())
torch.serialization.set_crc32_options(True)


def rezip(src, dst, edit=lambda n, b: (n, b), **kw):
    with zipfile.ZipFile(os.path.join(out, src)) as a, zipfile.ZipFile(os.path.join(out, dst), "w", **kw) as b:
        for n in a.namelist():
            n2, data = edit(n, a.read(n))
            if n2:
                with b.open(zipfile.ZipInfo(n2), "w", force_zip64=kw.get("allowZip64", False)) as f:
                    f.write(data)


# zip64 in all its records, as files of more than 4 GB have them
save("small.pt", some())
limits = zipfile.ZIP64_LIMIT, zipfile.ZIP_FILECOUNT_LIMIT
zipfile.ZIP64_LIMIT, zipfile.ZIP_FILECOUNT_LIMIT = 0, 0
rezip("small.pt", "zip64.pt", allowZip64=True)
zipfile.ZIP64_LIMIT, zipfile.ZIP_FILECOUNT_LIMIT = limits
expect["zip64.pt"] = expect["small.pt"]
# records that are nowhere aligned
rezip("small.pt", "unaligned.pt")
expect["unaligned.pt"] = expect["small.pt"]


def turn(n, b):  # what a big-endian machine writes: float32 the other way round
    if "/data/" in n:
        b = np.frombuffer(b, "<f4").astype(">f4").tobytes()
    return n, b"big" if n.endswith("byteorder") else b


rezip("small.pt", "big_endian.pt", turn)
expect["big_endian.pt"] = expect["small.pt"]
rezip("small.pt", "no_byteorder.pt", lambda n, b: (None if n.endswith("byteorder") else n, b))
expect["no_byteorder.pt"] = expect["small.pt"]
# saved from a GPU: the location is the only difference
rezip("small.pt", "cuda.pt", lambda n, b: (n, b.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0") if n.endswith("data.pkl") else b))
expect["cuda.pt"] = expect["small.pt"]

from safetensors.torch import save_file, save_model
tensors = dict(some(), half=torch.randn(3).half(), bf=torch.randn(2, 2).bfloat16(), i=torch.arange(3), scalar=torch.tensor(2.0), none=torch.zeros(0, 3), f64=torch.randn(2).double())
typed = {str(d)[6:]: torch.arange(8, dtype=torch.uint8).view(d) for d in (
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e8m0fnu, torch.complex64)}
typed = dict(some(), bool=torch.tensor([True, False, True]), **typed)
save_file(typed, os.path.join(out, "types.safetensors"))
note("types.safetensors", typed)
save_file(tensors, os.path.join(out, "plain.safetensors"), metadata=dict(format="pt", model_args=json.dumps(args), variant="causal"))
note("plain.safetensors", tensors, dict(model_args=args, variant="causal"))


class Tied(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.wte = torch.nn.Embedding(5, 3)
        self.lm_head = torch.nn.Linear(3, 5, bias=False)
        self.lm_head.weight = self.wte.weight


tied = Tied()
save_model(tied, os.path.join(out, "tied.safetensors"))
note("tied.safetensors", tied.state_dict())
one, two = some(), dict(c=torch.randn(2), d=torch.randn(1, 2).half())
save_file(dict(one), os.path.join(out, "model-00001-of-00002.safetensors"))
save_file(two, os.path.join(out, "model-00002-of-00002.safetensors"))
index = dict(metadata=dict(total_size=100), weight_map={**{k: "model-00001-of-00002.safetensors" for k in one}, **{k: "model-00002-of-00002.safetensors" for k in two}})
json.dump(index, open(os.path.join(out, "model.safetensors.index.json"), "w"))
note("model.safetensors.index.json", {**one, **two})

torch.save(dict(one), os.path.join(out, "pytorch_model-1.bin"))
torch.save(two, os.path.join(out, "pytorch_model-2.bin"))
index = dict(metadata={}, weight_map={**{k: "pytorch_model-1.bin" for k in one}, **{k: "pytorch_model-2.bin" for k in two}})
json.dump(index, open(os.path.join(out, "pytorch_model.bin.index.json"), "w"))
note("pytorch_model.bin.index.json", {**one, **two})

json.dump(expect, open(os.path.join(out, "expect.json"), "w"), indent=1, ensure_ascii=False, sort_keys=True)
