#!/usr/bin/env python3
"""Learns beside PyTorch: for each kind, examples/train and PyTorch's eager run begin with the same weights and train
on the same text with the same options at the same time, each on as many threads, for as long; then examples/train
evaluates both checkpoints on the same windows of the part that neither was trained on.

    python rwkv/train/testdata/learn_torch.py --text "$(go env GOROOT)/src" --seconds 600
"""
import argparse, json, math, os, pickle, resource, signal, subprocess, sys, time
import numpy as np
import torch

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from bench_torch import Goose, Nano, root

# name: (learning rate, warm-up, weight decay, eps, l2wrap), TRAINING's defaults
RECIPES = {"causal": (1e-3, 100, 0.1, 1e-8, 0.0), "x051a": (1e-3, 100, 0.1, 1e-8, 0.0), "rwkv7": (6e-4, 10, 1e-3, 1e-18, 1e-4)}


def prepare(text, out):
    """Writes nanoGPT's folder of a character vocabulary: all .go files below text, in the order of their names."""
    parts = []
    for folder, dirs, names in os.walk(text):
        dirs.sort()
        for n in sorted(names):
            if n.endswith(".go"):
                try:
                    parts.append(open(os.path.join(folder, n), encoding="utf-8", newline="").read())
                except UnicodeDecodeError:
                    pass
    s = "".join(parts)
    chars = sorted(set(s))
    ids = np.searchsorted(np.array([ord(c) for c in chars], np.uint32), np.frombuffer(s.encode("utf-32-le"), np.uint32)).astype("<u2")
    n = len(ids) * 9 // 10
    ids[:n].tofile(os.path.join(out, "train.bin"))
    ids[n:].tofile(os.path.join(out, "val.bin"))
    with open(os.path.join(out, "meta.pkl"), "wb") as f:
        pickle.dump(dict(vocab_size=len(chars), itos=dict(enumerate(chars)), stoi={c: i for i, c in enumerate(chars)}), f)
    json.dump(len(s[n:].encode()) / (len(ids) - n), open(os.path.join(out, "bytes_per_id.json"), "w"))
    print(f"{len(ids)} characters, {len(chars)} different", flush=True)


def groups(kind, w, decay):
    if kind == "rwkv7":
        wide = lambda n: n.endswith(".weight") and sum(d > 1 for d in w[n].shape) >= 2
        of = lambda n: 1 if "att.w0" in n else 2 if wide(n) else 0
        settings = [dict(weight_decay=0.0, scale=1), dict(weight_decay=0.0, scale=2), dict(weight_decay=decay, scale=1)]
    else:
        of = lambda n: 1 if w[n].dim() < 2 or "time_" in n else 0
        settings = [dict(weight_decay=decay, scale=1), dict(weight_decay=0.0, scale=1)]
    return [dict(params=[w[n] for n in w if of(n) == i], **s) for i, s in enumerate(settings)]


def learn(kind, start, data, o, path):
    """Trains for o.seconds and saves; returns the steps done."""
    lr, warmup, decay, eps, l2wrap = RECIPES[kind]
    c = torch.load(start, weights_only=False)
    w = {k: v.float().clone().requires_grad_() for k, v in c["model"].items() if k != "lm_head.weight"}
    m = Goose(c["model_args"], w) if kind == "rwkv7" else Nano(kind, c["model_args"], w)
    opt = torch.optim.AdamW(groups(kind, w, decay), lr=lr, betas=(0.9, 0.99), eps=eps, fused=True)
    ids = np.memmap(os.path.join(data, "train.bin"), np.uint16, "r")
    rng = np.random.default_rng(1337)
    deadline, it = time.perf_counter() + o.seconds, 0
    while time.perf_counter() < deadline:
        at = rng.integers(0, len(ids) - o.block, o.batch)
        z = torch.from_numpy(np.stack([ids[a:a + o.block + 1] for a in at]).astype(np.int64))
        for g in opt.param_groups:
            g["lr"] = lr * g["scale"] * min(1, (it + 1) / (warmup + 1))
        opt.zero_grad(set_to_none=True)
        loss, aux = m.loss(z[:, :-1], z[:, 1:], **({"l2wrap": l2wrap} if l2wrap else {}))
        (loss + aux).backward()
        torch.nn.utils.clip_grad_norm_([v for v in w.values() if v.grad is not None], 1.0)
        opt.step()
        it += 1
    model = {n: w[n].detach() if n in w else v for n, v in c["model"].items()}
    if "lm_head.weight" in model:
        model["lm_head.weight"] = model["transformer.wte.weight"]
    torch.save({**{k: c[k] for k in ("model_args", "variant") if k in c}, "model": model, "iter_num": it, "best_val_loss": 1e9, "config": {}}, path)
    return it


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--text", help="folder whose .go files are learnt from; default: what --out has from before")
    p.add_argument("--out", default="/tmp/microrwkv-learn")
    p.add_argument("--kinds", default="causal,x051a,rwkv7")
    p.add_argument("--seconds", type=float, default=600)
    p.add_argument("--threads", type=int, default=1, help="of each side")
    p.add_argument("--batch", type=int, default=12)
    p.add_argument("--block", type=int, default=256)
    p.add_argument("--layers", type=int, default=4)
    p.add_argument("--width", type=int, default=128)
    p.add_argument("--eval_iters", type=int, default=200)
    o = p.parse_args()
    torch.set_num_threads(o.threads)
    data = os.path.join(o.out, "data")
    os.makedirs(data, exist_ok=True)
    if o.text:
        prepare(o.text, data)
    factor = 1 / math.log(2) / json.load(open(os.path.join(data, "bytes_per_id.json")))
    binary = os.path.join(o.out, "train")
    subprocess.run(["go", "build", "-o", binary, "./examples/train"], cwd=root, check=True)
    env = {**os.environ, "GOMAXPROCS": str(o.threads)}
    for kind in o.kinds.split(","):
        ours = os.path.join(o.out, kind)
        flags = [binary, "--dataset", data, "--out_dir", ours, "--kind", kind, "--threads", str(o.threads), "--batch_size", str(o.batch), "--block_size", str(o.block),
                 "--n_layer", str(o.layers), "--n_embd", str(o.width), "--lr_decay_iters", "1000000000", "--eval_interval", "1000000000", "--log", "json"]
        subprocess.run([*flags, "--max_iters", "0", "--eval_iters", "1"], env=env, check=True, stdout=subprocess.DEVNULL)
        start = os.path.join(o.out, kind + ".start.pt")
        os.replace(os.path.join(ours, "ckpt.pt"), start)
        before, children = (resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        log = open(os.path.join(o.out, kind + ".json"), "w+")
        run = subprocess.Popen([*flags, "--max_iters", "1000000", "--eval_iters", "1"], env=env, stdout=log)
        theirs = os.path.join(o.out, kind + ".torch.pt")
        steps = {"PyTorch": learn(kind, start, data, o, theirs)}
        run.send_signal(signal.SIGINT)
        assert run.wait() == 0
        log.seek(0)
        steps["ours"] = sum("lr" in json.loads(line) for line in log)
        spent = lambda a, who: (lambda b: b.ru_utime + b.ru_stime - a.ru_utime - a.ru_stime)(resource.getrusage(who))
        cpu = {"PyTorch": spent(before, resource.RUSAGE_SELF), "ours": spent(children, resource.RUSAGE_CHILDREN)}
        for name, path in (("ours", os.path.join(ours, "ckpt.pt")), ("PyTorch", theirs)):
            out = subprocess.run([binary, "--init_from", path, "--dataset", data, "--out_dir", os.path.join(o.out, "eval"), "--eval_only", "--eval_iters", str(o.eval_iters),
                                  "--batch_size", str(o.batch), "--block_size", str(o.block), "--log", "json"], check=True, capture_output=True, text=True).stdout
            loss = json.loads(out)["val_loss"]
            print(f"{kind:7} {name:8} {steps[name]:6} steps in {o.seconds:.0f} s ({cpu[name]:.0f} s of CPU)   val loss {loss:.4f}, {loss * factor:.4f} bits per byte", flush=True)
    print(f"PyTorch {torch.__version__}, threads {o.threads} each; {o.layers} layers of {o.width}, batches of {o.batch} x {o.block}, {o.eval_iters} batches evaluated", flush=True)


if __name__ == "__main__":
    main()
