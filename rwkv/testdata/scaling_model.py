"""A model of what threads bring. It needs Python alone:

    python rwkv/testdata/scaling_model.py [--start MICROSECONDS] [--step MICROSECONDS]

The time of a token or a prompt on n threads is

    bytes / bandwidth(n)  or  operations / (peak(n) * efficiency)     what the machine allows
    + starts * start + steps * step                                   calling threads, waiting for each other
    + min(10% of the first line, steps * piece(n) / 2)                waiting for the last: threads differ in speed, and
                                                                      who is early can take whole pieces
    + serial                                                          what one thread does alone

A start calls the threads, a step is an operation of a Sequence. The machine is the one of the first
table that was measured, 16 virtual CPUs of a Sapphire Rapids (2026-11-24), with the pool of that day: its
excess over the limits gives what a start cost then, which stands in the first columns. The others are
predictions for that machine: with as many starts as there were, with the starts that there are now at the
same cost, and at the costs of --start and --step. BenchmarkScaling counts starts, BenchmarkStart of
tensor/internal/task times one on the machine at hand.
"""

import argparse

bandwidth = {4: 51e9, 8: 95e9, 16: 160e9}  # bytes/s; 8 threads by interpolation
peak = {4: 479e9, 8: 895e9, 16: 837e9}     # float32 operations/s
piece_bytes, piece_ops = 256 << 10, 2 << 20

# name, bytes, operations, starts then, starts now, steps now, serial seconds, measured at 4 and at 16 threads
works = [
    ("RWKV-7 0.4B, a token, f32", 1.54e9, 0, 145, 50, 145, 0.2e-3, 38.4e-3, 17.6e-3),
    ("RWKV-7 0.4B, a token, bf16", 0.77e9, 0, 145, 50, 145, 0.2e-3, 21.3e-3, 9.5e-3),
    ("causal, a token, f32", 0.63e9, 0, 113, 49, 113, 0.1e-3, 20.0e-3, 12.0e-3),
    ("causal, a token, bf16", 0.315e9, 0, 113, 49, 113, 0.1e-3, 12.0e-3, 11.4e-3),
    ("reference, T=256", 0, 70e9, 240, 180, 240, 2e-3, 285e-3, 330e-3),
    ("RWKV-7 0.4B, prompt of 512", 0, 386e9, 480, 200, 240, 10e-3, 1300e-3, 520e-3),
]
efficiency = 0.85  # of products in float32, on few threads


def limit(bytes, ops, n):
    return bytes / bandwidth[n] + ops / (peak[n] * efficiency)


def piece(bytes, n):
    """Seconds of a piece on one of n threads."""
    return piece_bytes * n / bandwidth[n] if bytes else piece_ops * n / (peak[n] * efficiency)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--start", type=float, default=10, help="microseconds of a start on many threads")
    p.add_argument("--step", type=float, default=3, help="microseconds from one operation of a sequence to the next")
    a = p.parse_args()
    print(f"predictions with {a.start:g} us a start, {a.step:g} us a step")
    print(f"{'':28}{'measured, 16':>14}{'limit':>9}{'a start then':>14}{'starts':>13}{'8 threads':>11}{'16 threads':>12}{'of the limit':>14}")
    for name, bytes, ops, then, starts, steps, serial, t4, t16 in works:
        cost = max(t16 - limit(bytes, ops, 16) - serial, 0) / then
        t = {}
        for n in (8, 16):
            last = min(0.1 * limit(bytes, ops, n), steps * piece(bytes, n) / 2)
            t[n] = limit(bytes, ops, n) + last + serial + (starts * a.start + steps * a.step) * 1e-6
        print(f"{name:28}{t16*1e3:11.1f} ms{limit(bytes, ops, 16)*1e3:6.1f} ms{cost*1e6:11.0f} us"
              f"{then:7} -> {starts:<4}{t[8]*1e3:8.1f} ms{t[16]*1e3:9.1f} ms{limit(bytes, ops, 16)/t[16]:13.0%}")


if __name__ == "__main__":
    main()
