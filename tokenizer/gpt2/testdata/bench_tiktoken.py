"""MB/s of tiktoken on the texts of BenchmarkEncode, with the ranks of a file, assets/r50k_base.tiktoken of
github.com/pkoukk/tiktoken-go-loader for one: python tokenizer/gpt2/testdata/bench_tiktoken.py FILE"""
import base64
import os
import statistics
import sys
import time

import tiktoken

here = os.path.dirname(os.path.abspath(__file__))
ranks = {}
for line in open(sys.argv[1]):
    token, rank = line.split()
    ranks[base64.b64decode(token)] = int(rank)
pattern = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""  # tiktoken's own for gpt2
enc = tiktoken.Encoding("gpt2", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
for kind, file in ("chinese", "bench_chinese.txt"), ("code", "../gpt2_test.go"), ("english", "../../../LICENSE"):
    text = open(os.path.join(here, file), encoding="utf-8").read()
    while len(text.encode()) < 1 << 20:
        text += text
    times = []
    for _ in range(7):
        start = time.perf_counter()
        enc.encode_ordinary(text)
        times.append(time.perf_counter() - start)
    print(f"text={kind} {len(text.encode()) / statistics.median(times) / 1e6:.1f} MB/s")
