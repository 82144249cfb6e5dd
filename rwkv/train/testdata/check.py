#!/usr/bin/env python3
"""Checks examples/train from outside against golden data by its README's rules: gradients (from one step with β1 = 0),
runs of 20 steps, resuming PyTorch's checkpoints, PyTorch going on from ours, bad batches. Prints the worst share of what is allowed.

    python rwkv/train/testdata/check.py rwkv/train/testdata/golden
"""
import glob, json, math, os, shutil, subprocess, sys, tempfile
import torch
from safetensors.torch import load_file
from bench_torch import Goose, Nano

golden = os.path.abspath(sys.argv[1])
root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..")
work = tempfile.mkdtemp()
binary = os.path.join(work, "train")
subprocess.run(["go", "build", "-o", binary, "./examples/train"], cwd=root, check=True)
worst = {}


def note(what, where, error, allowed):
    share = math.inf if error != error else error / allowed if error else 0.0
    if share > worst.get(what, (0,))[0]:
        worst[what] = share, where
    if share > 1:
        print(f"FAILED {where}: {error:.3g}, allowed {allowed:.3g}")


def train(flags, **options):
    args = [binary]
    for k, v in flags.items():
        args.append(f"--{k}={str(v).lower() if isinstance(v, bool) else v}")
    return subprocess.run(args, capture_output=True, text=True, **options)


def steps(flags):
    r = train({**flags, "log": "json"})
    assert r.returncode == 0, (flags, r.stderr)
    return [json.loads(line) for line in r.stdout.splitlines()]


def gradients(base):
    d = json.load(open(base + ".grad.json"))
    want, lines = load_file(base + ".grad.safetensors"), open(base + ".grad.jsonl").read().splitlines()
    for c in d["cases"]:
        out = tempfile.mkdtemp(dir=work)
        batch = os.path.join(out, "batch.jsonl")
        open(batch, "w").write(lines[c["line"]] + "\n")
        where = f"{base} line {c['line']}"
        log, = steps({"init_from": base + ".pt", "kind": d["kind"], "batches": batch, "max_iters": 1, "beta1": 0, "grad_clip": 0, "learning_rate": 0,
                      "decay_lr": False, "out_dir": out, **c["flags"]})
        note("loss", where, abs(log["loss"] - c["loss"]), 1e-5 * abs(c["loss"]))
        note("norm", where, abs(log["grad_norm"] - c["grad_norm"]), 1e-4 * c["grad_norm"])
        ckpt = torch.load(os.path.join(out, "ckpt.pt"), weights_only=True)["optimizer"]
        got = {n: ckpt["state"][i]["exp_avg"] for g in ckpt["param_groups"] for n, i in zip(g["param_names"], g["params"]) if i in ckpt["state"]}
        for n, t in c["tensors"].items():
            w = want[f"{c['line']}/{n}"].double()
            error = (got[n].double().view_as(w) - w).abs().max().item()
            note("gradient", f"{where} {n}", error, max(8 * t["torch_f32_max_abs_err"], 2e-5 * t["max_abs"], 1e-7 * c["grad_norm"]))


def training(base):
    d = json.load(open(base + ".run.json"))
    want, first = load_file(base + ".final.safetensors"), torch.load(base + ".pt", weights_only=True)["model"]
    starts = [(0, base + ".pt")] + [(int(p[len(base) + 5:-3]), p) for p in glob.glob(base + ".step*.pt")]
    for at, path in starts:
        out = tempfile.mkdtemp(dir=work)
        flags = {"init_from": path, "kind": d["kind"], "batches": base + ".run.jsonl", "max_iters": len(d["steps"]), "out_dir": out, **d["flags"]}
        if at:
            shutil.copy(path, os.path.join(out, "ckpt.pt"))  # a link's target would be replaced
            os.chmod(os.path.join(out, "ckpt.pt"), 0o644)
            flags["init_from"] = "resume"
        log = steps(flags)
        assert [l["iter"] for l in log] == list(range(at, len(d["steps"]))), path
        for l, w in zip(log, d["steps"][at:]):
            where = f"{path} step {l['iter']}"
            note("lr", where, abs(l["lr"] - w["lr"]), 1e-6 * max(w["lr"], 1e-12))
            note("loss", where, abs(l["loss"] - w["loss"]), 1e-5 * abs(w["loss"]))
            note("run's norm", where, abs(l["grad_norm"] - w["grad_norm"]), max(5e-4 * w["grad_norm"], 8 * abs(w["grad_norm_f32"] - w["grad_norm"])))
        got = torch.load(os.path.join(out, "ckpt.pt"), weights_only=True)["model"]
        for n, t in d["tensors"].items():
            w = want[n].double()
            error = (got[n].double().view_as(w) - w).norm().item()
            note("final weights", f"{path} {n}", error, max(8 * t["torch_f32_err"], 1e-3 * t["update_norm"], 2e-7 * w.norm().item()))


def onward(base):
    """PyTorch loads our checkpoint after half of the steps into its own AdamW, and goes on."""
    d = json.load(open(base + ".run.json"))
    out, half, n = tempfile.mkdtemp(dir=work), len(d["steps"]) // 2, d["flags"].get("gradient_accumulation_steps", 1)
    steps({"init_from": base + ".pt", "kind": d["kind"], "batches": base + ".run.jsonl", "max_iters": half, "out_dir": out, **d["flags"]})
    c = torch.load(os.path.join(out, "ckpt.pt"), weights_only=True)
    w = {k: v.requires_grad_() for k, v in c["model"].items() if k != "lm_head.weight"}
    m = Goose(d["model_args"], w) if d["kind"] == "rwkv7" else Nano(d["kind"], d["model_args"], w)
    groups = c["optimizer"]["param_groups"]
    opt = torch.optim.AdamW([{"params": [w[name] for name in g["param_names"]]} for g in groups])
    opt.load_state_dict(c["optimizer"])
    lines = open(base + ".run.jsonl").read().splitlines()
    for it in range(half, len(d["steps"])):
        total = 0
        opt.zero_grad()
        for line in lines[it * n:(it + 1) * n]:
            b = json.loads(line)
            targets = sum(t >= 0 for y in b["y"] for t in y)
            for x, y in zip(b["x"], b["y"]):
                count = sum(t >= 0 for t in y)
                more = {"l2wrap": d["flags"]["l2wrap"]} if d["kind"] == "rwkv7" else {}
                loss, aux = m.loss(torch.tensor([x]), torch.tensor([y]), **more)
                (loss * count / targets / n + d["flags"]["aux_loss_coef"] * aux / len(b["x"]) / n).backward()
                if not more:
                    total += loss.item() * count / targets / n
        for g in opt.param_groups:
            g["lr"] = d["steps"][it]["lr"] * g["my_lr_scale"]
        norm = torch.nn.utils.clip_grad_norm_([p for p in w.values() if p.grad is not None], d["flags"]["grad_clip"] or math.inf).item()
        want, where = d["steps"][it], f"{base} step {it} by PyTorch"
        if total:
            note("PyTorch's loss", where, abs(total - want["loss"]), 1e-5 * abs(want["loss"]))
        note("PyTorch's norm", where, abs(norm - want["grad_norm"]), max(5e-4 * want["grad_norm"], 8 * abs(want["grad_norm_f32"] - want["grad_norm"])))
        opt.step()


def bad(path):
    d = json.load(open(path))
    for c in d["cases"]:
        batch = os.path.join(work, c["name"] + ".jsonl")
        open(batch, "w").write(c["text"])
        r = train({"init_from": os.path.join(golden, d["weights"]), "batches": batch, "max_iters": 1, "out_dir": os.path.join(work, "bad"), "log": "json"})
        if r.returncode != 1 or r.stderr.count("\n") != 1 or batch not in r.stderr or c["line"] and f"line {c['line']}" not in r.stderr or r.stdout:
            note("bad batches", c["name"], 2, 1)
            print(r.returncode, r.stderr)


count = 0
for f in sorted(glob.glob(golden + "/*/*.grad.json")):
    gradients(f[:-len(".grad.json")])
    count += 1
for f in sorted(glob.glob(golden + "/*/*.run.json")):
    training(f[:-len(".run.json")])
    onward(f[:-len(".run.json")])
    count += 1
for f in glob.glob(golden + "/bad/cases.json"):
    bad(f)
    count += 1
for what, (share, where) in worst.items():
    print(f"{what:14} {share:.2g} of what is allowed: {os.path.relpath(where, golden)}")
print(f"{count} files")
sys.exit(any(share > 1 for share, _ in worst.values()) or not count)
