"""Forward and backward of the same GPT beside JAX (compiled), HIPS autograd and MyGrad (as one writes it, which becomes
float64, and kept in float32 by hand), whichever are installed.

    python -m pip install jax autograd mygrad
    python -m benchmarks.peers                # some three minutes; --only 1 is nanoGPT's CPU setting alone

Each library in a process of its own, asked in turn; the ratio ours/theirs is taken round by round: below 1.00 is ahead.
"""
import argparse
from functools import lru_cache
from importlib.util import find_spec
from statistics import median

from tinygrad_lm.bench.clock import median_ms
from tinygrad_lm.bench.sizes import STEPS
from tinygrad_lm.bench.turns import ratio, sides

from . import peer_models

PEERS = {"jax": "jax", "autograd": "autograd", "mygrad": "mygrad", "mygrad_float32": "mygrad"}    # a model's library


@lru_cache(maxsize=1)
def make(name, *shape):
    return getattr(peer_models, name)(*shape)


def milliseconds(shape, seconds, name):
    return median_ms(make(name, *shape), seconds)


def installed():
    return [name for name, library in PEERS.items() if find_spec(library)]


def run(shape, names, *, rounds=3, seconds=1.0):
    """{side: (median milliseconds, median ratio ours/theirs)}"""
    with sides({name: "benchmarks.peers" for name in ("ours", *names)}) as all_of_them:
        times = {name: [] for name in all_of_them}
        for _ in range(rounds):
            for name, side in all_of_them.items():
                times[name].append(side.ask("milliseconds", shape, seconds, name))
    return {name: (median(t), ratio(times["ours"], t)) for name, t in times.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=int, choices=range(5))
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    names = installed()
    for name in PEERS:
        if name not in names:
            print(f"{name} is not installed: left out")
    for shape in [STEPS[options.only]] if options.only is not None else STEPS[:5]:
        results = run(shape, names, rounds=options.rounds)
        print(f"{str(shape):<30} " + "   ".join(f"{name} {ms:8.1f} ms" + (f" ({r:.2f})" if name != "ours" else "")
                                               for name, (ms, r) in results.items()), flush=True)


if __name__ == "__main__":
    main()
