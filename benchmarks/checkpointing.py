"""What gradient checkpointing saves in memory and costs in time: forward and backward of a GPT with and without it.

    python -m benchmarks.checkpointing          # under a minute

Memory is the highest point above what was there before, as tracemalloc counts it (NumPy tells it of every array); time is
the median of rounds in which both take their turn, without tracemalloc.
"""
import sys
import tracemalloc
from statistics import median
from time import perf_counter

import numpy as np

from tinygrad_lm.backend import keep_memory_warm
from tinygrad_lm.models import GPT, GPTConfig
from tinygrad_lm.parallel import one_blas_thread

SHAPES = [(65, 64, 128, 4, 4, 12), (65, 256, 128, 8, 4, 4), (65, 256, 128, 16, 4, 4), (65, 1024, 128, 8, 4, 1)]


def once(model, idx):
    model.loss(idx, idx).backward()


def peak(model, idx):
    """MB at the highest point; the gradients' own memory, the same either way, is there already."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    once(model, idx)
    highest = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return (highest - before) / 2**20


def seconds(model, idx):
    began = perf_counter()
    once(model, idx)
    return perf_counter() - began


def measure(V, T, C, layers, heads, batch, rounds=5):
    """({without, with: MB}, {without, with: median seconds}, the median ratio of a round's two times)"""
    model = GPT(GPTConfig(V, T, layers, heads, C))
    idx = np.random.default_rng(0).integers(0, V, (batch, T))
    once(model, idx)
    memory, times = {}, {False: [], True: []}
    for model.checkpoint_blocks in times:
        memory[model.checkpoint_blocks] = peak(model, idx)
    for _ in range(rounds):
        for model.checkpoint_blocks in times:
            times[model.checkpoint_blocks].append(seconds(model, idx))
    return memory, {how: median(t) for how, t in times.items()}, median(b / a for a, b in zip(*times.values()))


def main(rounds=5):
    keep_memory_warm()
    print("V, T, C, layers, heads, batch        MB: without     with  ratio    ms: without     with  ratio")
    for shape in SHAPES:
        with one_blas_thread():
            memory, times, ratio = measure(*shape, rounds=rounds)
        print(f"{str(shape):<34} {memory[False]:>13.1f} {memory[True]:>8.1f} {memory[True] / memory[False]:>6.2f} "
              f"{times[False] * 1e3:>14.0f} {times[True] * 1e3:>8.0f} {ratio:>6.2f}", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
