"""What the ranks of test_mpi.py run: `mpirun -n 2 python -m tests.ranks PROGRAM FOLDER …`."""
import json
import sys
from pathlib import Path

import numpy as np

import tinygrad_lm as tg
from tinygrad_lm import cli, mpi
from tinygrad_lm.models import GPT, GPTConfig
from tinygrad_lm.train import train_step

# rows in each batch, what is special, threads of each rank
CASES = {"even": (6, None, 1), "uneven": (5, None, 1), "one row": (1, None, 1), "ignored": (5, "ignored", 1),
         "threads": (7, "ignored", 2), "frozen": (4, "frozen", 1), "no target on rank 1": (4, "half", 1),
         "other weights on rank 1": (4, "weights", 1), "dropout": (5, "dropout", 1)}


def curve(name):
    """Five steps: (losses, the weights behind them, and what the batches' and dropout's generator draws next)."""
    rows, special, workers = CASES[name]
    rng = np.random.default_rng(7)
    model = GPT(GPTConfig(11, 8, 2, 2, 8, 0.3 if special == "dropout" else 0.0), rng=rng).to(np.float64)
    if special == "weights":
        model.wte.weight.data[...] *= 1 + mpi.place()[0]
    opt = tg.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.5)
    model.wpe.weight.requires_grad = special != "frozen"
    losses = []
    for _ in range(5):
        idx, targets = rng.integers(0, 11, (2, rows, 8))
        if special == "ignored":
            targets[rng.random(targets.shape) < 0.8] = -100
        if special == "half":
            targets[2:] = -100
        losses.append(train_step(model, opt, idx, targets, workers=workers))
    return np.array(losses), opt.flat, rng.random(3)


def curves(folder):
    """Every case's curve as this rank sees it."""
    np.savez(Path(folder) / f"rank{mpi.place()[0]}.npz", **{
        f"{name}/{what}": a for name in CASES for what, a in zip(("losses", "weights", "draws"), curve(name))})


def broken(step, *arguments):
    """The command line, with a fault on rank 1 at this step."""
    plain, calls = GPT.loss, []

    def loss(self, *batch):
        calls.append(batch)
        if mpi.place()[0] == 1 and len(calls) == int(step):
            raise ZeroDivisionError("a fault of rank 1 alone")
        return plain(self, *batch)

    GPT.loss = loss
    sys.argv = ["tinygrad-lm", *arguments]
    cli.main()


def different(folder):
    """Each rank draws batches of its own, as other libraries want it."""
    rng = np.random.default_rng(mpi.place()[0])
    model = GPT(GPTConfig(11, 8, 1, 1, 8))
    train_step(model, tg.optim.AdamW(model.parameters()), *rng.integers(0, 11, (2, 4 + mpi.place()[0], 8)))


def processors(folder):
    """How many processors each rank takes for its own."""
    from tinygrad_lm import parallel
    (Path(folder) / f"rank{mpi.place()[0]}.json").write_text(json.dumps(parallel.processors()))


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
