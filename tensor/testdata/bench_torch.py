#!/usr/bin/env python3
"""Measures the package's products beside PyTorch's, in turn, and prints the README's table.

    python tensor/testdata/bench_torch.py --threads 2 --rounds 5

Needs go and torch. A round is one run of the Go benchmarks and then one of PyTorch on the same
shapes, with weights that come from memory in both; medians over the rounds are printed, and the
ratio of the medians.
"""
import argparse, os, re, statistics, subprocess, tempfile, time
import torch

FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SHAPES = [(768, 768), (768, 2304), (2304, 768), (768, 50304)]
ROWS = [1, 8, 50, 256]
COLD = 192 << 20  # numbers: no cache's share holds them


def go_round(binary, kernel, seconds, gonum):
    impl = kernel + ("|gonum" if gonum else "")
    pattern = f"^BenchmarkLinear$/^impl=({impl})$|^BenchmarkMatMul$/^impl=({impl})$|^BenchmarkReadBandwidth$|^BenchmarkPeakFMA$/^impl=({kernel})$"
    out = subprocess.run([binary, "-test.run", "^$", "-test.bench", pattern, "-test.benchtime", f"{seconds}s"], cwd=FOLDER, capture_output=True, text=True, check=True).stdout
    found = {}
    for line in out.splitlines():
        name = re.match(r"Benchmark(\S+?)(-\d+)?\s", line)
        for value, unit in re.findall(r"([\d.]+) (GFLOP/s|GB/s)", line):
            found[name[1], unit] = float(value)
    return found


def rate(f, seconds):
    """Calls of f per second, by the median call."""
    f()
    times, end = [], time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        t = time.perf_counter()
        f()
        times.append(time.perf_counter() - t)
    return 1 / statistics.median(times)


def torch_round(cold, seconds):
    found = {}
    for name, x in cold.items():
        for rows in ROWS:
            for i, o in SHAPES:
                weights = [x[at:at + i * o].view(o, i) for at in range(0, COLD - i * o + 1, i * o)]
                v, n = x[:rows * i].view(rows, i), [0]

                def f():
                    n[0] += 1
                    torch.nn.functional.linear(v, weights[n[0] % len(weights)])

                per = rate(f, seconds)
                found[f"Linear/weights={name}/rows={rows}/shape={i}x{o}", "GFLOP/s"] = 2e-9 * rows * i * o * per
                found[f"Linear/weights={name}/rows={rows}/shape={i}x{o}", "GB/s"] = 1e-9 * i * o * x.element_size() * per
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    found["MatMul/n=1024", "GFLOP/s"] = 2e-9 * 1024**3 * rate(lambda: a @ b, seconds)
    return found


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--seconds", type=float, default=0.2, help="time of a measurement")
    p.add_argument("--kernel", default="avx512")
    p.add_argument("--gonum", action="store_true", help="measure gonum too, in the first round")
    o = p.parse_args()
    torch.set_num_threads(o.threads)
    os.environ["GOMAXPROCS"] = str(o.threads)
    f32 = torch.rand(COLD) * 2 - 1
    cold = {"f32": f32, "bf16": f32.bfloat16()}
    ours, theirs = {}, {}
    with tempfile.TemporaryDirectory() as d, torch.inference_mode():
        binary = os.path.join(d, "tensor.test")
        subprocess.run(["go", "test", "-c", "-o", binary, "."], cwd=FOLDER, check=True)
        for r in range(o.rounds):
            for k, v in go_round(binary, o.kernel, o.seconds, o.gonum and r == 0).items():
                ours.setdefault(k, []).append(v)
            for k, v in torch_round(cold, o.seconds).items():
                theirs.setdefault(k, []).append(v)
    median = lambda d, *key: statistics.median(d[key]) if key in d else None
    peak, read = median(ours, f"PeakFMA/impl={o.kernel}", "GFLOP/s"), median(ours, "ReadBandwidth", "GB/s")
    print(f"threads={o.threads} kernel={o.kernel} rounds={o.rounds} torch={torch.__version__}")
    print(f"FMA peak {peak:.0f} GFLOP/s, read bandwidth {read:.1f} GB/s\n")
    print("| product | here | of the limit | PyTorch | ratio |" + (" gonum |" if o.gonum else ""))
    print("|---|---|---|---|---|" + ("---|" if o.gonum else ""))
    for (key, unit), values in theirs.items():
        one = "rows=1/" in key
        if unit != ("GB/s" if one else "GFLOP/s"):
            continue
        head, tail = key.split("/", 1)
        a, b = median(ours, f"{head}/impl={o.kernel}/{tail}", unit), statistics.median(values)
        row = f"| {key} | {a:.1f} {unit} | {a / (read if one else peak):.0%} | {b:.1f} | {a / b:.2f}x |"
        if o.gonum:
            g = median(ours, f"{head}/impl=gonum/{tail}", unit)
            row += f" {g:.1f} ({a / g:.0f}x) |" if g else " |"
        print(row)


main()
