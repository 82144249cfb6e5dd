#!/usr/bin/env python3
"""Checks training of RWKV-5.0, 5.1, 5.2 and 6 through examples/train from outside, against float64 autograd on random models:
gradients of all weights and of the initial states, 10 steps of AdamW with RWKV-LM's groups, and the loss with the states that
were tuned. Prints the worst share of what is allowed, by the rules of the golden data.

    python rwkv/train/testdata/check_official.py
"""
import json, math, os, re, subprocess, tempfile
import torch
import torch.nn.functional as F

torch.manual_seed(1)
root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..")
work = tempfile.mkdtemp()
binary = os.path.join(work, "train")
subprocess.run(["go", "build", "-o", binary, "./examples/train"], cwd=root, check=True)
V, C, H, L, FF, D, E = 23, 24, 3, 2, 40, 5, 7
worst = {}


def note(what, where, error, allowed):
    share = math.inf if error != error else error / allowed
    if share > worst.get(what, (0,))[0]:
        worst[what] = share, where
    if share > 1:
        print(f"FAILED {what} {where}: {error:.3g}, allowed {allowed:.3g}")


def random_model(version):
    w = {}

    def add(name, *shape, mean=0.0, dev=None):
        w[name] = (mean + torch.randn(*shape) * (dev or 0.5 / math.sqrt(shape[-1])))

    def norm(name):
        add(name + ".weight", C, mean=1, dev=0.1)
        add(name + ".bias", C, dev=0.1)

    add("emb.weight", V, C, dev=0.3)
    add("head.weight", V, C)
    norm("blocks.0.ln0")
    norm("ln_out")
    for i in range(L):
        a, f = f"blocks.{i}.att.", f"blocks.{i}.ffn."
        norm(f"blocks.{i}.ln1")
        norm(f"blocks.{i}.ln2")
        norm(a + "ln_x")
        six = version == "6"
        mix = "time_maa_" if six else "time_mix_"
        for j in ("xwkvrg" if six else "kvr" if version == "5.0" else "kvrg"):
            add(a + mix + j, 1, 1, C, mean=0.5, dev=0.2)
        for j in "kr":
            add(f + mix + j, 1, 1, C, mean=0.5, dev=0.2)
        if six:
            add(a + "time_maa_w1", C, 5 * D)
            add(a + "time_maa_w2", 5, D, C)
            add(a + "time_decay", 1, 1, C, mean=-1, dev=1)
            add(a + "time_decay_w1", C, E)
            add(a + "time_decay_w2", E, C)
            add(a + "time_faaaa", H, C // H, dev=0.5)
        else:
            shape = (H, C // H) if version == "5.2" else (H,)
            add(a + "time_decay", *shape, mean=-1, dev=1)
            add(a + "time_faaaa", *shape, dev=0.5)
        for j in ("receptance", "key", "value", "output") + (() if version == "5.0" else ("gate",)):
            add(f"{a}{j}.weight", C, C)
        add(f + "key.weight", FF, C)
        add(f + "value.weight", C, FF)
        add(f + "receptance.weight", C, C)
    return w


def logits(w, version, ids, states):
    """One sequence, token by token."""
    six, n = version == "6", C // H

    def norm(x, name):
        return F.layer_norm(x, (C,), w[name + ".weight"], w[name + ".bias"], 1e-5)

    def channels(p):
        return p[:, None].expand(H, n) if p.dim() == 1 else p.reshape(H, n)

    x = norm(w["emb.weight"][ids], "blocks.0.ln0")
    for i in range(L):
        a, f = f"blocks.{i}.att.", f"blocks.{i}.ffn."
        h = norm(x, f"blocks.{i}.ln1")
        before = torch.cat([torch.zeros_like(h[:1]), h[:-1]])

        def mixed(j, p=a):
            if six:
                return h + (before - h) * w[f"{p}time_maa_{j}"].flatten()
            m = w[f"{p}time_mix_{j}"].flatten()
            return h * m + before * (1 - m)

        if six:
            z = torch.tanh(mixed("x") @ w[a + "time_maa_w1"]).view(-1, 5, D)
            m = {j: h + (before - h) * (w[f"{a}time_maa_{j}"].flatten() + z[:, q] @ w[a + "time_maa_w2"][q]) for q, j in enumerate("wkvrg")}
            decay = w[a + "time_decay"].flatten() + torch.tanh(m["w"] @ w[a + "time_decay_w1"]) @ w[a + "time_decay_w2"]
            ww = torch.exp(-torch.exp(decay)).view(-1, H, n)
        else:
            m = {j: mixed(j) for j in ("kvr" if version == "5.0" else "kvrg")}
            ww = torch.exp(-torch.exp(channels(w[a + "time_decay"]))).expand(len(h), H, n)
        r, k, v = ((m[j] @ w[f"{a}{name}.weight"].T).view(-1, H, n) for j, name in (("r", "receptance"), ("k", "key"), ("v", "value")))
        u, s, y = channels(w[a + "time_faaaa"]), states[i], []
        for t in range(len(h)):
            kv = v[t][:, :, None] * k[t][:, None, :]
            y.append(((s + u[:, None, :] * kv) @ r[t][:, :, None])[:, :, 0])
            s = s * ww[t][:, None, :] + kv
        y = F.group_norm(torch.stack(y).reshape(-1, C), H, w[a + "ln_x.weight"], w[a + "ln_x.bias"], 64e-5)
        if version != "5.0":
            y = y * F.silu(m["g"] @ w[a + "gate.weight"].T)
        x = x + y @ w[a + "output.weight"].T
        h = norm(x, f"blocks.{i}.ln2")
        before = torch.cat([torch.zeros_like(h[:1]), h[:-1]])
        k = torch.relu(mixed("k", f) @ w[f + "key.weight"].T) ** 2
        x = x + torch.sigmoid(mixed("r", f) @ w[f + "receptance.weight"].T) * (k @ w[f + "value.weight"].T)
    return norm(x, "ln_out") @ w["head.weight"].T


def loss_of(w, version, batch, states, l2=1e-4):
    z = torch.cat([logits(w, version, torch.tensor(x), states) for x in batch["x"]])
    y = torch.tensor([t for row in batch["y"] for t in row])
    z, y = z[y >= 0], y[y >= 0]
    entropy = F.cross_entropy(z, y)
    return entropy + l2 / 2 * (z.max(-1).values ** 2).mean(), entropy.item()


def zeros(dtype):
    return [torch.zeros(H, C // H, C // H, dtype=dtype, requires_grad=True) for _ in range(L)]


def both(w, version, batch):
    """Gradients in float64, and how far PyTorch's own in float32 are from them."""
    result = []
    for dtype in (torch.float64, torch.float32):
        p, states = {n: t.to(dtype, copy=True).requires_grad_() for n, t in w.items()}, zeros(dtype)
        total, entropy = loss_of(p, version, batch, states)
        total.backward()
        named = {**{n: t.grad.double() for n, t in p.items()}, **{f"blocks.{i}.att.time_state": s.grad.double() for i, s in enumerate(states)}}
        result.append((entropy, named))
    return result


def train(**flags):
    r = subprocess.run([binary] + [f"--{k}={v}" for k, v in {"log": "json", "decay_lr": "false", **flags}.items()], capture_output=True, text=True)
    assert r.returncode == 0, (flags, r.stderr)
    return [json.loads(line) for line in r.stdout.splitlines()]


def groups(names, w, wd):
    """RWKV-LM's of versions 5 and 6, without layers of other rates."""
    g = {1: [], 2: [], "decay": []}
    for n in sorted(names):
        if re.search("_w1|_w2|time_mix|time_maa|time_faaaa", n):
            g[1].append(n)
        elif "time_decay" in n:
            g[2].append(n)
        else:
            g["decay" if w[n].squeeze().dim() >= 2 else 1].append(n)
    return [{"params": [w[n] for n in g[k]], "lr": 1e-3 * (2 if k == 2 else 1), "weight_decay": wd if k == "decay" else 0.0} for k in g]


for version in ("5.0", "5.1", "5.2", "6"):
    w = random_model(version)
    path, lines = os.path.join(work, version + ".pth"), os.path.join(work, version + ".jsonl")
    torch.save(w, path)

    def batch():
        rows = [torch.randint(V, (n + 1,)).tolist() for n in (70, 1, 16, 33)]
        return {"x": [r[:-1] for r in rows], "y": [[-1 if t % 7 == 3 and q else t for q, t in enumerate(r[1:])] for r in rows]}

    batches = [batch() for _ in range(10)]
    open(lines, "w").write("".join(json.dumps(b) + "\n" for b in batches))
    (entropy, want), (_, f32) = both(w, version, batches[0])
    out = tempfile.mkdtemp(dir=work)
    log, = train(init_from=path, batches=lines, max_iters=1, beta1=0, grad_clip=0, learning_rate=0, out_dir=out)
    note("loss", version, abs(log["loss"] - entropy), 1e-5 * entropy)
    opt = torch.load(os.path.join(out, "ckpt.pt"), weights_only=True)["optimizer"]
    got = {n: opt["state"][i]["exp_avg"].double() for g in opt["param_groups"] for n, i in zip(g["param_names"], g["params"])}
    # A step of AdamW with a huge epsilon leaves −rate·g/(|g|+eps) in a state that began with zeros.
    tuned = os.path.join(out, "state.pth")
    train(init_from=path, batches=lines, max_iters=1, beta1=0, beta2=0, grad_clip=0, learning_rate=1e6, adam_eps=1e6, tune_state=tuned, out_dir=out)
    got.update({n: -t.double() for n, t in torch.load(tuned, weights_only=True).items()})
    norm = math.sqrt(sum((g ** 2).sum().item() for n, g in want.items() if "time_state" not in n))
    note("norm", version, abs(log["grad_norm"] - norm), 1e-4 * norm)
    assert got.keys() == want.keys()
    for n, g in want.items():
        error = (got[n].view_as(g) - g).abs().max().item()
        what = "states' gradient" if "time_state" in n else "weights' gradient"
        note(what, version + " " + n, error, max(8 * (f32[n] - g).abs().max().item(), 2e-5 * g.abs().max().item(), 1e-7 * norm))

    log = train(init_from=path, batches=lines, max_iters=10, learning_rate=1e-3, weight_decay=0.1, adam_eps=1e-8, grad_clip=1, out_dir=out)
    p = {n: t.double().requires_grad_() for n, t in w.items()}
    opt = torch.optim.AdamW(groups(p, p, 0.1), betas=(0.9, 0.99), eps=1e-8)
    for step, b in zip(log, batches):
        opt.zero_grad()
        total, entropy = loss_of(p, version, b, zeros(torch.float64))
        total.backward()
        note("loss of a run", f"{version} step {step['iter']}", abs(step["loss"] - entropy), 1e-5 * entropy)
        torch.nn.utils.clip_grad_norm_(p.values(), 1)
        opt.step()

    log = train(init_from=path, batches=lines, max_iters=10, learning_rate=0.1, tune_state=tuned, out_dir=out)
    states = [t.double() for _, t in sorted(torch.load(tuned, weights_only=True).items())]
    w64 = {n: t.double() for n, t in w.items()}
    plain = sum(loss_of(w64, version, b, zeros(torch.float64))[1] for b in batches) / 10
    better = sum(loss_of(w64, version, b, states)[1] for b in batches) / 10
    print(f"RWKV-{version}: loss of the text {plain:.4f}, with the tuned states {better:.4f}")
    assert better < plain

for what, (share, where) in worst.items():
    print(f"{what}: {share:.2f} of what is allowed ({where})")
