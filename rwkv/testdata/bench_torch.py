#!/usr/bin/env python3
"""Times PyTorch on what the benchmarks of package rwkv time: kind reference, the README table's size,
eager float32, written from the project's SEMANTICS and checked against its golden data.

    python rwkv/testdata/bench_torch.py --check rwkv/testdata/golden/microrwkv/base
    python rwkv/testdata/bench_torch.py --threads 2 --rounds 5
    python rwkv/testdata/bench_torch.py --save out/ckpt-157m.pt
"""
import argparse, json, math, statistics, time
import torch
import torch.nn.functional as F

SIZE = dict(block_size=1024, vocab_size=50304, n_layer=8, n_head=12, n_embd=768, num_experts=4,
            num_active_experts=4, expert_dim=512, dim=768, dropout=0.0, bias=False)
WINDOW = 256


def rms(x):
    return x / (x.norm(2, dim=-1, keepdim=True) * x.shape[-1] ** -0.5 + 1e-8)


def shift(x):
    return F.pad(x, (0, 0, 1, -1)) - x


class Model:
    """Weights by name; every method is a formula of SEMANTICS.md."""

    def __init__(self, args, weights):
        self.a, self.w = args, weights

    def linear(self, name, x):
        return F.linear(x, self.w[name + ".weight"], self.w.get(name + ".bias"))

    def time_mix(self, p, x):
        B, T, C = x.shape
        H = self.a["n_head"]
        N, xx = C // H, shift(x)
        mix = lambda n: x + xx * self.w[p + "time_maa_" + n]
        heads = lambda y: y.view(B, T, H, N).transpose(1, 2)
        r, k, v = (heads(self.linear(p + n, mix(m))) for n, m in (("receptance", "r"), ("key", "k"), ("value", "v")))
        g = F.silu(self.linear(p + "gate", mix("g")))
        w = torch.exp(-torch.exp(self.w[p + "time_decay"].float())).view(H, 1, 1)
        u = self.w[p + "time_faaaa"].float().view(H, 1, 1)
        t = torch.arange(T)
        d = (t[:, None] - t[None, :] - 1).clamp(min=0)
        decay = torch.where(t[:, None] > t[None, :], w ** d, torch.where(t[:, None] == t[None, :], u, torch.zeros(())))
        y = (r @ k.transpose(-2, -1) * decay) @ v
        y = y.transpose(1, 2).reshape(B * T, C)
        y = F.group_norm(y, H, self.w[p + "ln_x.weight"], self.w[p + "ln_x.bias"], 64e-5).view(B, T, C)
        return self.linear(p + "output", y * g)

    def channel_mix(self, p, x):
        xx = shift(x)
        k = torch.relu(self.linear(p + "key", x + xx * self.w[p + "time_maa_k"])) ** 2
        return torch.sigmoid(self.linear(p + "receptance", x + xx * self.w[p + "time_maa_r"])) * self.linear(p + "value", k)

    def sliding(self, p, x):
        B, T, C = x.shape
        H = self.a["n_head"]
        N = C // H
        q, k, v = (y.view(B, T, H, N).transpose(1, 2) for y in self.linear(p + "qkv", x).split(C, dim=-1))
        pad = -T % WINDOW
        q, k, v = (F.pad(y, (0, 0, 0, pad)).reshape(B, H, WINDOW, -1) for y in (q * N ** -0.5, k, v))
        y = torch.softmax(q @ k.transpose(-2, -1), dim=-1) @ v
        y = y.reshape(B, H, T + pad, N)[:, :, :T].transpose(1, 2).reshape(B, T, C)
        return self.linear(p + "proj", y)

    def grouped(self, p, x):
        B, T, C = x.shape
        H, q4 = self.a["n_head"], C // 4
        d, parts, gates = q4 // H, [], []
        for z in self.linear(p + "qkvw", x).split(C, dim=-1):
            q, k, v, g = z.split(q4, dim=-1)
            q, k, v = (y.reshape(B, H, T, d).transpose(1, 2) for y in (q, k, v))
            y = torch.softmax(q @ k.transpose(-2, -1) * d ** -0.5, dim=-1) @ v
            parts.append(y.transpose(1, 2).reshape(B, -1))
            gates.append(g.reshape(B, -1))
        y = torch.cat(parts, dim=-1).view(B, T, C) * torch.cat(gates, dim=-1).view(B, T, C)
        return self.linear(p + "out", y)

    def moe(self, p, x):
        s = torch.softmax(self.linear(p + "gate", x), dim=-1)
        h = torch.stack([self.linear(f"{p}experts.{j}", x) for j in range(self.a["num_active_experts"])], dim=-2)
        return self.linear(p + "fc", (s[..., :h.shape[-2], None] * h).sum(-2))

    def forward(self, ids, last_only=True):
        T = ids.shape[1]
        x = self.w["transformer.wte.weight"][ids] + self.w["transformer.wpe.weight"][:T]
        nano = "transformer.h.0.ln_1.weight" in self.w
        norm = lambda n, x: F.layer_norm(x, x.shape[-1:], self.w[n + ".weight"], self.w.get(n + ".bias"), 1e-5)
        for i in range(self.a["n_layer"]):
            p = f"transformer.h.{i}."
            if nano:
                x = x + self.time_mix(p + "tmix.", norm(p + "ln_1", x))
                x = x + self.channel_mix(p + "cmix.", norm(p + "ln_2", x))
                continue
            x = x + self.time_mix(p + "tmix.", rms(x))
            x = x + self.channel_mix(p + "cmix.", rms(x))
            x = x + self.sliding(p + "sliding_attn.", x)
            x = x + self.grouped(p + "grouped_attn.", self.time_mix(p + "tmix.", x))
            x = x + self.moe(p + "moe.", x)
        x = norm("transformer.ln_f", x)
        return F.linear(x[:, [-1]] if last_only else x, self.w["transformer.wte.weight"])

    def generate(self, ids, n):
        for _ in range(n):
            logits = self.forward(ids[:, -self.a["block_size"]:])[:, -1]
            ids = torch.cat([ids, torch.multinomial(torch.softmax(logits, dim=-1), 1)], dim=1)
        return ids


def random_weights(a, nano=False):
    C, w = a["n_embd"], {}
    S = int(a["expert_dim"] * 1.2)
    mat = lambda o, i: torch.randn(o, i) * 0.5 / math.sqrt(i)
    w["transformer.wte.weight"], w["transformer.wpe.weight"] = torch.randn(a["vocab_size"], C) * 0.1, torch.randn(a["block_size"], C) * 0.1
    w["transformer.ln_f.weight"] = torch.ones(C)
    for i in range(a["n_layer"]):
        p = f"transformer.h.{i}."
        for n in ("tmix.time_maa_k", "tmix.time_maa_v", "tmix.time_maa_r", "tmix.time_maa_g", "cmix.time_maa_k", "cmix.time_maa_r"):
            w[p + n] = torch.rand(1, 1, C)
        w[p + "tmix.time_decay"], w[p + "tmix.time_faaaa"] = torch.randn(a["n_head"], 1) - 2, torch.randn(a["n_head"], 1) * 0.5
        for n in ("receptance", "key", "value", "gate", "output"):
            w[p + f"tmix.{n}.weight"] = mat(C, C)
        w[p + "tmix.ln_x.weight"], w[p + "tmix.ln_x.bias"] = torch.ones(C), torch.zeros(C)
        w[p + "cmix.key.weight"], w[p + "cmix.value.weight"], w[p + "cmix.receptance.weight"] = mat(3 * C, C), mat(C, 3 * C), mat(C, C)
        if nano:
            w[p + "ln_1.weight"], w[p + "ln_2.weight"] = torch.ones(C), torch.ones(C)
            continue
        w[p + "sliding_attn.qkv.weight"], w[p + "sliding_attn.proj.weight"] = mat(3 * C, C), mat(C, C)
        w[p + "grouped_attn.qkvw.weight"], w[p + "grouped_attn.out.weight"] = mat(4 * C, C), mat(C, C)
        w[p + "moe.gate.weight"], w[p + "moe.gate.bias"] = mat(a["num_experts"], C), torch.zeros(a["num_experts"])
        for j in range(a["num_active_experts"]):
            w[p + f"moe.experts.{j}.weight"], w[p + f"moe.experts.{j}.bias"] = mat(S, C), torch.zeros(S)
        w[p + "moe.fc.weight"], w[p + "moe.fc.bias"] = mat(C, S), torch.zeros(C)
    return w


def check(base):
    from safetensors.torch import load_file
    c = torch.load(base + ".pt", weights_only=True)
    m = Model(c["model_args"], {k: v.float() for k, v in c["model"].items()})
    for l in json.load(open(base + ".expect.json"))["lengths"]:
        e = load_file(base + ".expect.safetensors")
        got = m.forward(e[f"T{l['T']}.tokens"].view(1, -1))[0, -1].double()
        err = (got - e[f"T{l['T']}.last_logits"].double()).abs().max().item()
        tol = max(4 * l["torch_f32_max_abs_err"], 1e-5 * l["max_abs_logit"])
        print(f"T={l['T']}: error {err:.2g}, tolerance {tol:.2g}")
        assert err <= tol


def median(f, rounds):
    f()
    times = []
    for _ in range(rounds):
        t = time.perf_counter()
        f()
        times.append(time.perf_counter() - t)
    return statistics.median(times)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--threads", type=int, default=0)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--check", metavar="BASE")
    p.add_argument("--save", metavar="PATH")
    p.add_argument("--optimizer", action="store_true", help="save AdamW's state beside the weights")
    p.add_argument("--only", default="generate,forward256,forward1024,x051a")
    o = p.parse_args()
    if o.threads:
        torch.set_num_threads(o.threads)
    torch.manual_seed(1)
    with torch.inference_mode():
        if o.check:
            return check(o.check)
        a = dict(SIZE)
        if o.save:
            w = random_weights(a)
            d = dict(model={**w, "lm_head.weight": w["transformer.wte.weight"]}, model_args=a, iter_num=500, best_val_loss=3.0, config={})
            if o.optimizer:
                d["optimizer"] = dict(state={i: dict(step=torch.tensor(500.0), exp_avg=torch.randn_like(v), exp_avg_sq=torch.rand_like(v)) for i, v in enumerate(w.values())}, param_groups=[dict(lr=1e-3, params=list(range(len(w))))])
            return torch.save(d, o.save)
        m = Model(a, random_weights(a))
        ids = lambda n: torch.randint(0, 50257, (1, n))
        run = {
            "generate": lambda: m.generate(ids(2), 50),
            "forward256": lambda: m.forward(ids(256)),
            "forward1024": lambda: m.forward(ids(1024)),
        }
        if "x051a" in o.only:
            n = Model({**a, "n_layer": 12}, random_weights({**a, "n_layer": 12}, nano=True))
            run["x051a"] = lambda: n.forward(ids(512))
        for name, f in run.items():
            if name in o.only.split(","):
                print(f"{name} threads={torch.get_num_threads()} median {median(f, o.rounds):.4f} s", flush=True)


if __name__ == "__main__":
    main()
