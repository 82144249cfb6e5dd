#!/usr/bin/env python3
"""Times the official Python package on what BenchmarkDecode and BenchmarkPrefill of kinds rwkv4 to rwkv7
time: one token, and 512. For versions before 7 give --version.

    mkdir -p out && go run ./examples/random --size 0.4B out/rwkv7-0.4B.pth
    pip install torch rwkv
    python rwkv/testdata/bench_rwkv7.py --model out/rwkv7-0.4B --strategy "cpu bf16" --threads 2
"""
import argparse, os, statistics, time

p = argparse.ArgumentParser()
p.add_argument("--model", required=True, help="path of the .pth, without the ending")
p.add_argument("--strategy", default="cpu fp32")
p.add_argument("--threads", type=int, default=0)
p.add_argument("--rounds", type=int, default=3)
p.add_argument("--version", type=int, default=7)
o = p.parse_args()

os.environ.update(RWKV_V7_ON=str(int(o.version == 7)), RWKV_JIT_ON="1", RWKV_CUDA_ON="0")
import torch

if o.threads:
    torch.set_num_threads(o.threads)
from rwkv.model import RWKV

model = RWKV(model=o.model, strategy=o.strategy)
ids = [(i * 7919 + 13) % 50257 for i in range(512)]


def median(f, rounds):
    f()
    times = []
    for _ in range(rounds):
        t = time.perf_counter()
        f()
        times.append(time.perf_counter() - t)
    return statistics.median(times)


with torch.inference_mode():
    _, state = model.forward(ids[:32], None)
    print(f"{o.strategy}, {torch.get_num_threads()} threads: one token {1e3 * median(lambda: model.forward([7], state), 5 * o.rounds):.1f} ms", flush=True)
    print(f"{o.strategy}, {torch.get_num_threads()} threads: 512 tokens {median(lambda: model.forward(ids, None), o.rounds):.2f} s")
