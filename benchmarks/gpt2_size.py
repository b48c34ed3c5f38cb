"""A model of GPT-2's size (124 million parameters), randomly initialised, beside eager PyTorch: reading and writing.

    python -m benchmarks.gpt2_size           # about a minute and 2 GB of memory; needs PyTorch
    python -m benchmarks.gpt2_size --llama   # ours of LLaMA's shape and the same size, alone

Reading: the forward of one sequence of 256 tokens to the scores of all of them, without gradients. Writing: tokens a second,
one sequence, 64 tokens after a prompt of 16, sampled, with a preallocated cache of keys and values. PyTorch's side is
bench/beside_torch.py, plain layers and its own attention kernel, each side a process of its own, asked in turn.
"""
import argparse
from functools import lru_cache
from statistics import median

import numpy as np

from tinygrad_lm.bench.clock import median_ms
from tinygrad_lm.bench.turns import ratio, sides

GPT2 = 50257, 1024, 768, 12, 12                    # V, T, C, layers, heads
LLAMA = dict(norm="rms", activation="silu", gated=True, position="rotary", bias=False, n_kv_head=4, n_inner=2048)
PROMPT, NEW, READ = 16, 64, 256


@lru_cache(maxsize=1)
def model(side, shape):
    V, T, C, layers, heads = GPT2
    if side == "torch":
        from tinygrad_lm.bench.beside_torch import Net
        return Net(*GPT2)
    from tinygrad_lm.backend import keep_memory_warm
    from tinygrad_lm.models import GPT, GPTConfig
    keep_memory_warm()
    return GPT(GPTConfig(V, T, layers, heads, C, **(LLAMA if shape == "llama" else {})))


def forward(side, shape, seconds):
    """Milliseconds of reading (1, 256) tokens -> scores (1, 256, V)."""
    net, idx = model(side, shape), np.random.default_rng(1).integers(0, GPT2[0], (1, READ))
    if side == "torch":
        import torch
        tokens = torch.as_tensor(idx)
        with torch.inference_mode():
            return median_ms(lambda: net.hidden(tokens) @ net.wte.weight.T, seconds)
    from tinygrad_lm import no_grad
    with no_grad():
        return median_ms(lambda: net(idx), seconds)


def tokens_per_second(side, shape, seconds):
    """Of the tokens after the first, so that neither the prompt nor what is made ready for one generation counts."""
    net, idx = model(side, shape), np.random.default_rng(1).integers(0, GPT2[0], (1, PROMPT))
    if side == "torch":
        import torch
        write, tokens = net.generate, torch.as_tensor(idx)
    else:
        from tinygrad_lm.generate import generate
        write, tokens = lambda idx, n: generate(net, idx, n, rng=np.random.default_rng(2)), idx
    first, all_of_them = (median_ms(lambda: write(tokens, n), seconds) for n in (1, NEW + 1))
    return NEW / (all_of_them - first) * 1e3


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--llama", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    names = ["ours"] if given.llama else ["ours", "torch"]
    with sides({name: "benchmarks.gpt2_size" for name in names}) as both:
        for function, unit in (("forward", "ms"), ("tokens_per_second", "tokens/s")):
            answers = {name: [] for name in names}
            for _ in range(given.rounds):
                for name in names:
                    answers[name].append(both[name].ask(function, name, "llama" if given.llama else "gpt2", seconds=1.5))
            said = "   ".join(f"{name} {median(x):6.1f} {unit}" for name, x in answers.items())
            if len(names) == 2:
                said += f"   ratio {ratio(answers['ours'], answers['torch']):.2f}"
            print(f"{function:<18} {said}", flush=True)


if __name__ == "__main__":
    main()
