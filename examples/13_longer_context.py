# %% [markdown]
"""# Longer texts than it was trained on

Idea: a small GPT with rotary positions learns from texts of 256 characters and is then given 1024. What does it lose beyond
the 256th, and what do two ways of stretching its positions, and a little more training, give back?

    python examples/13_longer_context.py               # --fast: from 128 to 512, few steps
    python examples/13_longer_context.py --full        # from 512 to 2048, as docs/longer-context.md quotes: five minutes

Takes 50 s on two cores. Guess where it asks, before you read on.
Last line: beyond position 256: as it is 2.32, linear 2.40, ntk 1.99; trained a little longer: 2.02, 2.13, 1.97
"""
# %%
import argparse
import copy
import sys
from pathlib import Path

import numpy as np

from tinygrad_lm import functional as F, no_grad
from tinygrad_lm.models import GPT, GPTConfig
from tinygrad_lm.models.longer import extended
from tinygrad_lm.nn import evaluating
from tinygrad_lm.optim import AdamW
from tinygrad_lm.text.batches import Windows
from tinygrad_lm.text.char import CharTokenizer
from tinygrad_lm.text.corpus import read_text
from tinygrad_lm.text.stories import stories, translations
from tinygrad_lm.train import train_step
from tinygrad_lm.train.pretrain import PretrainConfig, pretrain
from tinygrad_lm.train.report import BLUE, GREY, INK, ORANGE, RED, panels
from tinygrad_lm.train.run import Run
from tinygrad_lm.train.script import given, keep

options = argparse.ArgumentParser()
options.add_argument("--text", type=Path, help="a text of yours (UTF-8) instead of the stories")
options.add_argument("--out", type=Path, default=Path("runs/examples"), help="folder for the figure")
length = options.add_mutually_exclusive_group()
length.add_argument("--full", action="store_true", help="from 512 to 2048")
length.add_argument("--fast", action="store_true", help="from 128 to 512, fewer steps")
options = given(options)
SHORT, LONG, STEPS, MORE, WINDOWS, C = (
    (128, 512, 20, 2, 4, 32) if options.fast else (512, 2048, 300, 20, 24, 64) if options.full else
    (256, 1024, 250, 20, 24, 64))

# %% [markdown]
# 1. A small GPT with rotary positions, trained on stretches of SHORT characters; the last fifth of the text is held out.

# %%
text = read_text(options.text) if options.text else \
    stories("en") + "\n\n" + "\n\n".join(candidates[0] for _, candidates in translations("en"))
tokenizer = CharTokenizer.from_text(text)
ids = tokenizer.encode(text)
cut = len(ids) * 4 // 5
learned, held_out = ids[:cut], ids[cut:]
rng = np.random.default_rng(0)
model = GPT(GPTConfig(len(tokenizer), SHORT, n_layer=3, n_head=4, n_embd=C, dropout=0.1, norm="rms", bias=False,
                      position="rotary"), rng=rng)
config = PretrainConfig(steps=STEPS, batch_size=4, lr=5e-3, warmup=20, eval_every=STEPS)
loss = pretrain(model, Windows(learned, SHORT), Windows(held_out, SHORT), config, rng=rng, run=Run())
print(f"1. {model.n_parameters():,} parameters, {STEPS} steps with texts of {SHORT}: {loss:.2f} nats a character on "
      "held-out text", flush=True)

# %% [markdown]
# 2. Your prediction, before anything is shown.

# %%
KINDS = {"as it is": (None, RED), "linear": ("linear", ORANGE), "ntk": ("ntk", BLUE)}
print(f"\n2. Now it reads {LONG} characters: as it is, with all positions squeezed into the old range (linear), or with\n"
      "   the slow rotations alone squeezed (ntk). Guess first: which loses least beyond the trained length,\n"
      "   before any more training?")
guess = input("   as it is, linear, ntk: ").strip() if sys.stdin.isatty() else None

# %% [markdown]
# 3. The loss at every position, averaged over windows of held-out text; then once more after a few steps with long texts.

# %%


def loss_by_position(model, T):
    """−log p of every token of held-out text by how many tokens the model has seen before it: (T,)"""
    starts = np.linspace(0, len(held_out) - T - 1, WINDOWS).astype(int)
    total = 0
    with no_grad(), evaluating(model):
        for start in starts:
            piece = held_out[start:start + T + 1]
            total = total + F.cross_entropy(model(piece[None, :-1]), piece[None, 1:], reduction="none").data[0]
    return total / len(starts)


def trained_longer(model):
    """A copy that has seen a few long texts."""
    model, rng = copy.deepcopy(model), np.random.default_rng(1)
    model.checkpoint_blocks = True                                          # texts four times as long, and no more memory
    opt, data = AdamW(model.parameters(), lr=1e-3, weight_decay=0.1), Windows(learned, LONG)
    for step in range(MORE):
        opt.lr = 1e-3 * (1 - step / MORE)
        train_step(model, opt, *data.sample(rng, 1))
    return model


before = loss_by_position(model, SHORT)
curves = {name: [loss_by_position(m, LONG) for m in (longer, trained_longer(longer))]
          for name, (kind, _) in KINDS.items() for longer in [extended(model, LONG, kind)]}
beyond = {name: [curve[SHORT:].mean() for curve in pair] for name, pair in curves.items()}
print(f"\n3. Nats a character beyond position {SHORT}      at once    after {MORE} steps")
for name, (now, later) in beyond.items():
    print(f"   {name:<34} {now:9.2f} {later:13.2f}")
if guess is not None:
    best = min(beyond, key=lambda name: beyond[name][0])
    print(f"   You said {guess or 'nothing'}: it is {best}, which loses least.")

# %%
BIN = LONG // 32


def binned(curve):
    """The middles of pieces of the text, and the mean in each: one character says little."""
    return np.arange(len(curve) // BIN) * BIN + BIN / 2, curve[:len(curve) // BIN * BIN].reshape(-1, BIN).mean(-1)


figure, axes = panels(1, 2, size=(4.4, 3.4))
highest = max(binned(pair[0])[1].max() for pair in curves.values())
lowest = min(binned(curve)[1].min() for pair in curves.values() for curve in pair)
for i, (ax, title) in enumerate(zip(axes, ["At once", f"After {MORE} steps with long texts"])):
    ax.axvspan(0, SHORT, color="#f1f5f9", zorder=0)
    ax.text(SHORT / 2, 0.985, "trained", color=GREY, ha="center", va="top", fontsize=8, transform=ax.get_xaxis_transform())
    for name, (_, color) in KINDS.items():
        ax.plot(*binned(curves[name][i]), color=color, lw=1.8, label=name)
    ax.plot(*binned(before), color=INK, lw=1.8, ls=":", label=f"before, on texts of {SHORT}")
    ax.set(title=title, xlabel="position in the text", xlim=(0, LONG), xticks=np.arange(5) * LONG // 4,
           ylim=(lowest - 0.1 * (highest - lowest), highest + 0.12 * (highest - lowest)))
axes[0].set_ylabel("nats a character")
axes[1].tick_params(labelleft=False)
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
keep(figure, options.out / "longer-context.png")

# %%
print(f"\nbeyond position {SHORT}: " + ", ".join(f"{name} {now:.2f}" for name, (now, _) in beyond.items()) +
      "; trained a little longer: " + ", ".join(f"{later:.2f}" for _, later in beyond.values()))
