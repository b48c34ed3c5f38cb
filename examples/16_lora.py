# %% [markdown]
"""# LoRA: fine-tuning with few numbers

Idea: a model that knows names learns to obey `^k5>` (a name of 5 letters with k). Once all its weights may move; then they
are frozen, and thin matrices beside them learn, of rank 1 to 16. How much does obedience lose, and how much memory is won?
And what if the marks `5` and `>` are new to it?

    python examples/16_lora.py                     # --ranks 1 2 4; --fast: seconds
    python examples/16_lora.py --full              # what docs/lora.md quotes: two to three minutes

Takes 35 s on two cores. Guess where it asks, before you read on.
Last line: all weights obey 82.6% with 1.85 MB of gradients and moments; rank 1 and the embedding 68.9% with 0.06 MB
"""
# %%
import argparse
from copy import deepcopy
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np

from tinygrad_lm import no_grad
from tinygrad_lm.models.lora import add_adapters, merge, remove_adapters
from tinygrad_lm.optim import AdamW
from tinygrad_lm.text import names
from tinygrad_lm.train import road, train_step
from tinygrad_lm.train.pretrain import PretrainConfig, pretrain
from tinygrad_lm.train.report import BLUE, GREY, ORANGE, panels
from tinygrad_lm.train.run import Run
from tinygrad_lm.train.script import given, keep
from tinygrad_lm.train.sft import SFTConfig, sft

options = argparse.ArgumentParser()
options.add_argument("--out", type=Path, default=Path("runs/examples"), help="folder for the figure")
options.add_argument("--ranks", type=int, nargs="+", help="ranks to try")
length = options.add_mutually_exclusive_group()
length.add_argument("--full", action="store_true", help="more steps and ranks")
length.add_argument("--fast", action="store_true", help="few steps and ranks")
options = given(options)
ranks = options.ranks or ([1, 2] if options.fast else [1, 2, 4, 8, 16] if options.full else [1, 4, 16])
before, steps, N = (20, 10, 100) if options.fast else (600, 300, 1000) if options.full else (400, 200, 1000)
# steps of pretraining, and of tuning; prompts

train, held_out = names.split_names(names.load_names())
chosen = [train[i] for i in np.random.default_rng(0).permutation(len(train))[:3000]]
examples, measured = names.instruction_rows(chosen), names.instruction_rows(held_out)
prompts = names.prompts_from(held_out)[:N]
rng = np.random.default_rng(0)
base = road.new_model(rng)
pretrain(base, names.plain_rows(train), measured, PretrainConfig(steps=before, eval_every=before), rng=rng, run=Run())

# %% [markdown]
# What a step must keep beside the weights is a gradient and two moments of each number that trains: 12 bytes in float32. The
# frozen weights are still multiplied with, forward and backward; only the products that give their gradients are spared.

# %%


def tuned(rank=None, new_tokens=False):
    """(obedience, held-out loss, numbers that train, bytes of gradients and moments, ms a step, the model)"""
    model, rng = deepcopy(base), np.random.default_rng(1)
    if rank is not None:
        add_adapters(model, rank, rng=rng)
        model.wte.weight.requires_grad = new_tokens
    opt = AdamW(deepcopy(model).parameters())
    memory = opt.flat_grad.nbytes + opt.m.nbytes + opt.v.nbytes
    config = SFTConfig(steps=steps, lr=2e-3 if rank is None else 1e-2, eval_every=steps)
    loss = sft(model, examples, measured, config, rng=rng, run=Run())
    obeys = road.obedience(road.answer(model, prompts, np.random.default_rng(0)))
    return obeys, loss, opt.flat.size, memory, milliseconds(deepcopy(model)), model


def milliseconds(model):
    """The median of a few steps, each on the same batch."""
    opt, times = AdamW(model.parameters(), lr=0.0), []
    idx, targets = examples.sample(np.random.default_rng(0), 64)
    for _ in range(3 if options.fast else 9):
        start = perf_counter()
        train_step(model, opt, idx, targets)
        times.append(perf_counter() - start)
    return 1e3 * median(times)


print("Guess first: with a thirtieth of the numbers, what share of the prompts will it obey?\n", flush=True)
rows = {"all weights": tuned()}
for new_tokens in (False, True):
    for rank in ranks:
        rows[f"rank {rank}" + (" and embedding" if new_tokens else "")] = tuned(rank, new_tokens)
print(f"{'':<24}{'trained':>9}{'gradients and moments':>23}{'ms a step':>11}{'held-out loss':>15}{'obeys':>8}")
for name, (obeys, loss, n, memory, time, _) in rows.items():
    print(f"{name:<24}{n:>9,}{memory:>21,} B{time:>11.1f}{loss:>15.3f}{obeys:>8.1%}")

# %% [markdown]
# The adapters alone hardly learn it, at any rank. The marks of a prompt, digits and `>`, did not occur in pretraining: their
# embeddings are noise, and frozen. No matrix behind can tell apart what goes in alike. Let the embedding train along, 2,304
# numbers more, and a rank of 1 does most of what all weights do. So it is with real models: whoever adds tokens for roles
# ("user", "assistant") trains the embedding too, or chooses marks that the model has seen.

# %%
whole = rows["all weights"]
figure, axes = panels(1, 2, size=(5.2, 3.9))
for ax, column, label in ((axes[0], 0, "share of prompts obeyed"), (axes[1], 1, "held-out loss, nats a token")):
    for ending, color, named in (("", ORANGE, "adapters"), (" and embedding", BLUE, "adapters and embedding")):
        ax.plot(ranks, [rows[f"rank {rank}{ending}"][column] for rank in ranks], color=color, marker="o", ms=5, label=named)
    ax.axhline(whole[column], color=GREY, lw=1, ls="--", label="all weights")
    ax.set(xlabel="rank", ylabel=label, xscale="log")
    ax.set_xticks(ranks, map(str, ranks))
    ax.minorticks_off()
axes[0].set(title="Obedience", ylim=(0, 1))
axes[1].set(title="Loss")
axes[0].legend(fontsize=8)
keep(figure, options.out / "lora.png")

# %% [markdown]
# Afterwards the product goes into the weights, and the model is as fast as it was. The outputs differ by rounding.

# %%
*_, model = thin = rows[f"rank {ranks[0]} and embedding"]
plain = remove_adapters(merge(deepcopy(model)))
with no_grad():
    difference = abs(model(prompts).data - plain(prompts).data).max()
print(f"\nmerged, no score of a next token differs by more than {difference:.1g}")
print(f"\nall weights obey {whole[0]:.1%} with {whole[3] / 1e6:.2f} MB of gradients and moments; rank {ranks[0]} and the "
      f"embedding {thin[0]:.1%} with {thin[3] / 1e6:.2f} MB")
