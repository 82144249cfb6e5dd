#!/usr/bin/env python3
"""Times PyTorch's training steps on what BenchmarkStep times: forward, backward, clipping, fused AdamW,
eager float32. The models are written from the project's SEMANTICS and checked against its golden gradients.

    python rwkv/train/testdata/bench_torch.py --check rwkv/train/testdata/golden/x051a/base
    python rwkv/train/testdata/bench_torch.py --threads 2 --sizes demo --kinds x051a,rwkv7 --go --compile

Every measurement is a process of its own, so that its largest resident set is known; they take turns.
"""
import argparse, importlib.util, json, os, re, signal, subprocess, sys, threading, time
import torch
import torch.nn.functional as F

here = os.path.dirname(os.path.abspath(__file__))
root = os.path.join(here, "..", "..", "..")
spec = importlib.util.spec_from_file_location("forward", os.path.join(root, "rwkv", "testdata", "bench_torch.py"))
forward = importlib.util.module_from_spec(spec)
spec.loader.exec_module(forward)

# batch, block, layers, width, vocabulary: BenchmarkStep's
SIZES = dict(demo=(12, 64, 4, 128, 65), middle=(8, 256, 6, 384, 65), vocabulary=(8, 256, 6, 128, 50304), gpt2=(4, 64, 12, 768, 50304))
CHUNK = 16


class Nano(forward.Model):
    """reference, causal and x051a."""

    def __init__(self, kind, args, weights):
        super().__init__(args, weights)
        self.kind = kind

    def sliding(self, p, x):
        if self.kind == "reference":
            return super().sliding(p, x)
        B, T, C = x.shape
        q, k, v = (y.view(B, T, self.a["n_head"], -1).transpose(1, 2) for y in self.linear(p + "qkv", x).split(C, dim=-1))
        t = torch.arange(T)
        mask = (t[:, None] >= t[None, :]) & (t[:, None] - t[None, :] < forward.WINDOW)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=None if T <= forward.WINDOW else mask, is_causal=T <= forward.WINDOW)
        return self.linear(p + "proj", y.transpose(1, 2).reshape(B, T, C))

    def grouped(self, p, x):
        B, T, C = x.shape
        H, q4 = self.a["n_head"], C // 4
        if self.kind == "reference":
            return super().grouped(p, x)
        z = self.linear(p + "qkvw", x).view(B, T, 4, 4, q4)
        # The groups' heads as one list: torch.compile's backward can't permute five dimensions.
        q, k, v = (z[:, :, :, i].reshape(B, T, 4 * H, q4 // H).transpose(1, 2) for i in range(3))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        y = y.transpose(1, 2).reshape(B, T, 4, q4) * z[:, :, :, 3]
        return self.linear(p + "out", y.reshape(B, T, C))

    def moe(self, p, x):
        s = torch.softmax(self.linear(p + "gate", x), dim=-1)
        h = torch.stack([self.linear(f"{p}experts.{j}", x) for j in range(self.a["num_active_experts"])], dim=-2)
        self.aux = self.aux + 0.01 * (h.mean(1) ** 2).mean(dim=(-1, -2)).mean()
        return self.linear(p + "fc", (s[..., :h.shape[-2], None] * h).sum(-2))

    def loss(self, x, y, last=None):
        self.aux = torch.zeros(())
        if last is None:
            last = (y[:, :-1] == -1).all().item()
        logits = self.forward(x, last_only=last)
        y = y[:, -1:] if last else y
        return F.cross_entropy(logits.flatten(0, 1), y.flatten(), ignore_index=-1), self.aux


class Goose:
    """rwkv7."""

    def __init__(self, args, weights):
        self.a, self.w = args, weights

    def wkv(self, r, w, k, v, a, b):
        """[B, T, H, N] each, w the logarithm of the decay: in chunks, by the products of decays within one."""
        B, T, H, N = r.shape
        pad = -T % CHUNK
        r, w, k, v, a, b = (F.pad(y, (0, 0, 0, 0, 0, pad)).view(B, -1, CHUNK, H, N).transpose(2, 3) for y in (r, w, k, v, a, b))
        c = w.cumsum(-2)
        grow, shrink = torch.exp(c), torch.exp(-c)
        r, a, k, b = r * grow, a * torch.exp(c - w), k * shrink, b * shrink
        low = lambda y: torch.tril(y, -1)
        ab, ak = low(a @ b.mT), low(a @ k.mT)
        inverse = torch.linalg.solve_triangular(torch.eye(CHUNK) - ab, torch.eye(CHUNK).expand_as(ab), upper=False, unitriangular=True)
        akv, rk, rb = ak @ v, torch.tril(r @ k.mT), torch.tril(r @ b.mT)
        s, out = torch.zeros(B, H, N, N), []
        for t in range(r.shape[1]):
            u = inverse[:, t] @ (a[:, t] @ s.mT + akv[:, t])
            out.append(r[:, t] @ s.mT + rk[:, t] @ v[:, t] + rb[:, t] @ u)
            s = (s + v[:, t].mT @ k[:, t] + u.mT @ b[:, t]) * grow[:, t, :, -1:]
        return torch.stack(out, 1).transpose(2, 3).reshape(B, -1, H, N)[:, :T]

    def loss(self, x, y, l2wrap=0.0):
        W, C = self.w, self.w["emb.weight"].shape[1]
        B, T = x.shape
        H = C // 64
        norm = lambda n, x: F.layer_norm(x, (C,), W[n + ".weight"], W[n + ".bias"], 1e-5)
        h = norm("blocks.0.ln0", W["emb.weight"][x])
        first = None
        for i in range(self.a["n_layer"]):
            p = f"blocks.{i}.att."
            z = norm(f"blocks.{i}.ln1", h)
            xx = forward.shift(z)
            mr, mw, mk, mv, ma, mg = (z + xx * W[p + "x_" + n] for n in "rwkvag")
            low = lambda n, m, f=lambda x: x: f(m @ W[p + n + "1"]) @ W[p + n + "2"]
            r, k, v = mr @ W[p + "receptance.weight"].T, mk @ W[p + "key.weight"].T, mv @ W[p + "value.weight"].T
            w = -0.6065306597126334 * torch.sigmoid(W[p + "w0"] + low("w", mw, torch.tanh))
            a = torch.sigmoid(W[p + "a0"] + low("a", ma))
            g = low("g", mg, torch.sigmoid)
            heads = lambda y: y.view(B, T, H, 64)
            kk = F.normalize(heads(k * W[p + "k_k"]), dim=-1)
            k = k * (1 + (a - 1) * W[p + "k_a"])
            if first is None:
                first = v
            else:
                v = v + (first - v) * torch.sigmoid(W[p + "v0"] + low("v", mv))
            r, k, v = heads(r), heads(k), heads(v)
            o = self.wkv(r, heads(w), k, v, -kk, kk * heads(a))
            o = F.group_norm(o.reshape(B * T, C), H, W[p + "ln_x.weight"], W[p + "ln_x.bias"], 64e-5).view(B, T, C)
            o = o + ((r * k * W[p + "r_k"]).sum(-1, keepdim=True) * v).view(B, T, C)
            h = h + (o * g) @ W[p + "output.weight"].T
            z = norm(f"blocks.{i}.ln2", h)
            p = f"blocks.{i}.ffn."
            h = h + torch.relu((z + forward.shift(z) * W[p + "x_k"]) @ W[p + "key.weight"].T) ** 2 @ W[p + "value.weight"].T
        logits = (norm("ln_out", h) @ W["head.weight"].T).flatten(0, 1)
        y = y.flatten()
        loss = F.cross_entropy(logits, y, ignore_index=-1)
        if l2wrap:
            loss = loss + l2wrap * 0.5 * (logits.max(-1).values[y >= 0] ** 2).mean()
        return loss, torch.zeros(())


def goose_weights(a):
    C, V, w = a["n_embd"], a["vocab_size"], {}
    D = lambda f: max(32, 32 * round(f * C ** 0.5 / 32))
    mat = lambda o, i: torch.randn(o, i) * 0.5 / i ** 0.5
    w["emb.weight"], w["head.weight"] = torch.randn(V, C) * 0.1, mat(V, C)
    ln = lambda n: w.update({n + ".weight": torch.ones(C), n + ".bias": torch.zeros(C)})
    ln("blocks.0.ln0"), ln("ln_out")
    for i in range(a["n_layer"]):
        p = f"blocks.{i}.att."
        ln(f"blocks.{i}.ln1"), ln(f"blocks.{i}.ln2"), ln(p + "ln_x")
        for n in ("x_r", "x_w", "x_k", "x_v", "x_a", "x_g", "w0", "a0", "v0", "k_k", "k_a"):
            w[p + n] = torch.rand(C)
        w[p + "r_k"] = torch.randn(C // 64, 64) * 0.1
        for n, f in (("w", 2.5), ("a", 2.5), ("v", 1.7), ("g", 5)):
            w[p + n + "1"], w[p + n + "2"] = mat(C, D(f)), mat(D(f), C)
        for n in ("receptance", "key", "value", "output"):
            w[p + n + ".weight"] = mat(C, C)
        p = f"blocks.{i}.ffn."
        w[p + "x_k"], w[p + "key.weight"], w[p + "value.weight"] = torch.rand(C), mat(4 * C, C), mat(C, 4 * C)
    return w


def check(base):
    from safetensors.torch import load_file
    kind = os.path.basename(os.path.dirname(base))
    c = torch.load(base + ".pt", weights_only=False)
    w = {k: v.float().requires_grad_() for k, v in c["model"].items() if k != "lm_head.weight"}
    want = load_file(base + ".grad.safetensors")
    cases = json.load(open(base + ".grad.json"))
    m = Goose(cases["model_args"], w) if kind == "rwkv7" else Nano(kind, cases["model_args"], w)
    for e, line in zip(cases["cases"], open(base + ".grad.jsonl")):
        b = json.loads(line)
        if len({len(x) for x in b["x"]}) > 1:
            print(f"line {e['line']}: lengths differ, not what is timed")
            continue
        for v in w.values():
            v.grad = None
        x, y = torch.tensor(b["x"]), torch.tensor(b["y"])
        l2wrap = {"l2wrap": e["flags"]["l2wrap"]} if kind == "rwkv7" else {}
        loss, aux = m.loss(x, y, **l2wrap)
        (loss + e["flags"]["aux_loss_coef"] * aux).backward()
        worst = 0
        for n, t in e["tensors"].items():
            g = want[f"{e['line']}/{n}"].double()
            tol = max(50 * t["torch_f32_max_abs_err"], 2e-4 * t["max_abs"], 1e-6 * e["grad_norm"])
            worst = max(worst, (w[n].grad.double().view_as(g) - g).abs().max().item() / tol)
        print(f"line {e['line']}: {worst:.2g} of the tolerance (a wrong formula is thousands of it)")
        assert worst <= 1


def step_of(kind, size, compiled):
    B, T, L, C, V = SIZES[size]
    a = dict(block_size=T, vocab_size=V, n_layer=L, n_head=C // 64 if C != 128 else 4, n_embd=C, num_experts=4, num_active_experts=4, expert_dim=2 * C // 3)
    w = goose_weights(a) if kind == "rwkv7" else forward.random_weights(a, nano=kind == "x051a")
    for v in w.values():
        v.requires_grad_()
    m = Goose(a, w) if kind == "rwkv7" else Nano(kind, a, w)
    x, y = torch.randint(0, V, (B, T)), torch.randint(0, V, (B, T))
    if kind == "reference":
        y[:, :-1] = -1
    opt = torch.optim.AdamW(w.values(), lr=1e-3, fused=True)

    loss_of = (lambda: m.loss(x, y)) if kind == "rwkv7" else (lambda: m.loss(x, y, kind == "reference"))
    if compiled:
        loss_of = torch.compile(loss_of)

    def step():
        opt.zero_grad(set_to_none=True)
        loss, aux = loss_of()
        (loss + aux).backward()
        torch.nn.utils.clip_grad_norm_([v for v in w.values() if v.grad is not None], 1.0)
        opt.step()
    return step, B * T


def one(size, kind, compiled, seconds):
    """Times steps in this process: prints the median in seconds, or why it can't be compiled."""
    step, _ = step_of(kind, size, compiled)
    try:
        step(), step()
    except Exception as e:
        if not compiled:
            raise
        lines = [line.strip() for line in str(e).splitlines() if line.strip()] or [repr(e)]
        print("fails:", next((line for line in lines if "Error:" in line), lines[-1]))
        return
    times = []
    while sum(times) < seconds or len(times) < 3:
        t = time.perf_counter()
        step()
        times.append(time.perf_counter() - t)
    print(sorted(times)[len(times) // 2])


def run(command, limit=None, **options):
    """Runs a process; returns what it prints and its largest resident set in MB, by what /proc last said: getrusage
    would count what this process had when it forked. After limit seconds it is ended, with those it started."""
    p = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True, **options)
    most, late = [0], []

    def end():
        late.append(True)
        os.killpg(p.pid, signal.SIGKILL)
    timer = threading.Timer(limit or 0, end)
    if limit:
        timer.start()

    def watch():
        while p.poll() is None:
            try:
                found = re.search(r"VmHWM:\s+(\d+) kB", open(f"/proc/{p.pid}/status").read())
            except OSError:
                break
            most[0] = max(most[0], int(found[1]) if found else 0)
            time.sleep(0.02)
    t = threading.Thread(target=watch)
    time.sleep(0.1)  # exec is done
    t.start()
    out = p.stdout.read()
    status = p.wait()
    timer.cancel()
    t.join()
    if late:
        return f"fails: not done in {limit:.0f} s", most[0] / 1e3
    assert status == 0, command
    return out, most[0] / 1e3


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--seconds", type=float, default=5, help="of each measurement, after two steps")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--sizes", default="demo,middle,vocabulary,gpt2")
    p.add_argument("--kinds", default="x051a,causal,reference,rwkv7")
    p.add_argument("--go", action="store_true", help="time this project in turn")
    p.add_argument("--compile", action="store_true", help="time torch.compile in turn")
    p.add_argument("--compile_limit", type=float, default=120, help="seconds for each measurement of compiled steps, compiling included")
    p.add_argument("--check", metavar="BASE")
    p.add_argument("--one", nargs=3, metavar=("SIZE", "KIND", "COMPILED"), help=argparse.SUPPRESS)
    o = p.parse_args()
    torch.set_num_threads(o.threads)
    torch.manual_seed(1)
    if o.check:
        return check(o.check)
    if o.one:
        return one(o.one[0], o.one[1], o.one[2] == "compiled", o.seconds)
    binary = "/tmp/microrwkv-train.test"
    if o.go:
        subprocess.run(["go", "test", "-c", "-o", binary, "./rwkv/train"], cwd=root, check=True)
    me = [sys.executable, os.path.abspath(__file__), "--threads", str(o.threads), "--seconds", str(o.seconds), "--one"]
    sides = ["eager"] + ["compiled"] * o.compile + ["Go"] * o.go
    for size in o.sizes.split(","):
        for kind in o.kinds.split(","):
            tokens = SIZES[size][0] * SIZES[size][1]
            times, memory, failed = {side: [] for side in sides}, {}, {}
            for _ in range(o.rounds):
                for side in sides:
                    if side in failed:
                        continue
                    if side == "Go":
                        out, memory[side] = run([binary, "-test.run", "xxx", "-test.bench", f"Step/size={size}/kind={kind}$", "-test.benchtime", f"{o.seconds}s"],
                                                env={**os.environ, "GOMAXPROCS": str(o.threads)}, cwd=os.path.join(root, "rwkv", "train"))
                        times[side].append(float(re.search(r"(\d+(?:\.\d+)?) ns/op", out)[1]) / 1e9)
                    else:
                        out, memory[side] = run([*me, size, kind, side], o.compile_limit if side == "compiled" else None)
                        if out.startswith("fails:"):
                            failed[side] = out.strip()
                        else:
                            times[side].append(float(out))
            t = {side: sorted(v)[len(v) // 2] for side, v in times.items() if side not in failed}
            line = f"{size:10} {kind:9}"
            for side in sides:
                if side in failed:
                    line += f"  {side}: {failed[side]}"
                    continue
                line += f"  {side} {t[side] * 1e3:7.1f} ms {tokens / t[side]:7.0f} tok/s {memory[side]:5.0f} MB"
            for side in sides[:-1]:
                if o.go and side in t:
                    line += f"  {t[side] / t['Go']:.2f}x {side}"
            print(line, flush=True)
    print(f"PyTorch {torch.__version__}, {o.threads} threads")


if __name__ == "__main__":
    main()
