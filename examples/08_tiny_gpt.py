# %% [markdown]
"""# A tiny GPT learns to write

Idea: everything so far, together: characters become numbers, a transformer predicts every next one, and a loop of eight
lines moves its parameters. It writes something every few hundred steps, so that one can watch it learn: spaces first,
then words. It reads the English stories that come with the package, or, as is the custom, Shakespeare's plays:

    python examples/08_tiny_gpt.py                           # --steps N; --fast: fewer steps; --text FILE: a text of yours
    tinygrad-lm data get tinyshakespeare                     # once: a megabyte from the network, its checksum compared
    python examples/08_tiny_gpt.py --steps 2000 --text "$(tinygrad-lm data path tinyshakespeare)"

Takes 40 s on two cores. There is a question before each result: answer it before you read on.
Last line: 347,328 parameters read 9 characters in 10: 1.61 nats a character on the rest; a 5-gram 1.42
"""
# %%
import argparse
from math import log
from pathlib import Path
from textwrap import wrap

import numpy as np

import tinygrad_lm as tg
from tinygrad_lm.generate import generate
from tinygrad_lm.models import GPT, GPTConfig, NGram
from tinygrad_lm.optim import warmup_cosine
from tinygrad_lm.text.batches import Windows
from tinygrad_lm.text.char import CharTokenizer
from tinygrad_lm.text.corpus import read_text
from tinygrad_lm.text.stories import stories
from tinygrad_lm.train import train_step
from tinygrad_lm.train.pretrain import evaluate
from tinygrad_lm.train.report import BLUE, GREY, INK, ORANGE, line, panels
from tinygrad_lm.train.script import given, keep

options = argparse.ArgumentParser()
options.add_argument("--text", type=Path, help="a text of yours (UTF-8), from thirty kilobytes to megabytes")
options.add_argument("--steps", type=int, help="steps of training")
options.add_argument("--seed", type=int, default=0)
options.add_argument("--out", type=Path, default=Path("runs/examples"), help="folder for the figure")
options.add_argument("--fast", action="store_true", help="a smaller model, fewer steps")
options = given(options)
STEPS = options.steps or (60 if options.fast else 1500)
T, C, LAYERS = (32, 32, 2) if options.fast else (64, 96, 3)
rng = np.random.default_rng(options.seed)

# %% [markdown]
# 1. A text is a row of numbers. An example is a stretch of T of them; what is to be predicted is the same stretch one
# further on. The last tenth is kept apart, to measure on.

# %%
text = read_text(options.text) if options.text else stories("en")
tokenizer = CharTokenizer.from_text(text)
ids, V = tokenizer.encode(text), len(tokenizer)
cut = len(ids) * 9 // 10
learned, held_out = Windows(ids[:cut], T), Windows(ids[cut:], T)
idx, targets = learned.sample(np.random.default_rng(0), 1)
print(f"1. {len(ids):,} characters, {len(set(text))} different ones")
print(f"   it reads        {tokenizer.decode(idx[0, :24])!r}\n   it is to say    {tokenizer.decode(targets[0, :24])!r}")
model = GPT(GPTConfig(V, T, n_layer=LAYERS, n_head=4, n_embd=C, dropout=0.1), rng=rng)
print(f"   Guess first: what is the loss of a model of {model.n_parameters():,} random numbers?")
print(f"   {evaluate(model, held_out):.2f} nats a character; if all were equally likely, log {V} = {log(V):.2f}")

# %% [markdown]
# 2. The loop: a rate that warms up and falls, a batch, a step. Now and then we measure, and let it write from the same
# beginning.

# %%
def write(length=240, *, temperature=0.8):
    """What the model writes after a line's end, drawn from the same seed each time."""
    begin = tokenizer.encode("\n" if "\n" in tokenizer.chars else text[:1])[None]
    tokens = generate(model, begin, length, rng=np.random.default_rng(options.seed), temperature=temperature).tokens
    return tokenizer.decode(tokens[0, 1:])


def shown(written, width=100):
    return "\n".join("      " + part for part in wrap(" ".join(written.split()), width))


print(f"\n2. Guess first: in {STEPS} steps, which comes first: words, spaces or the letters' frequencies? And does the "
      "loss\n"
      "   on what it has not read fall to the end?")
opt = tg.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.95), weight_decay=0.1)
history, samples = [], {}
for step in range(1, STEPS + 1):
    opt.lr = warmup_cosine(step - 1, lr=2e-3, warmup=min(100, STEPS // 10), total=STEPS)
    loss = train_step(model, opt, *learned.sample(rng, 24), max_norm=1.0)
    if step % max(1, STEPS // 60) == 0 or step == STEPS:
        history.append({"step": step, "loss": loss})
    if step in (1, STEPS // 10) or step % max(1, STEPS // 5) == 0:
        history.append({"step": step, "held_out": evaluate(model, held_out)})
        samples[step] = write()
        print(f"\n   step {step:>5}   {loss:.2f} nats on its batch, {history[-1]['held_out']:.2f} on what it has not read\n"
              f"{shown(samples[step][:200])}", flush=True)

# %% [markdown]
# 3. The temperature divides the scores before the softmax.

# %%
print("\n3. Guess first: of the temperatures 0.3, 0.8 and 1.5, which one repeats itself, and which one misspells?")
for temperature in (0.3, 0.8, 1.5):
    print(f"\n   temperature {temperature}\n{shown(write(temperature=temperature)[:200])}")

# %% [markdown]
# 4. Is that good? A 5-gram only counts which character followed which four.

# %%
print("\n4. Guess first: a 5-gram that has read the same, is it better or worse?")
counts = NGram([text[:cut]], tokenizer, order=5)
counted = -counts.logprob(text[cut:]) / (len(ids) - cut)
losses = [h["held_out"] for h in history if "held_out" in h]
print(f"   GPT {losses[-1]:.2f}, at its best {min(losses):.2f}; 5-gram {counted:.2f} nats a character\n")

# %%
figure, axes = panels(1, 2, size=(5.4, 3.6))
line(axes[0], history, "loss", "on its batch", color=BLUE, lw=1, alpha=0.6)
line(axes[0], history, "held_out", "on what it has not read", color=ORANGE, marker="o", ms=4)
axes[0].axhline(counted, color=GREY, lw=1.2, ls="--", label="5-gram, not read")
axes[0].set(title="Loss", xlabel="step", ylabel="nats a character")
axes[0].legend()
axes[1].axis("off")
axes[1].set(title="What it writes", xlim=(0, 1), ylim=(0, 1))
chosen = list(samples)[::max(1, len(samples) // 4)][:3] + list(samples)[-1:]
for i, step in enumerate(chosen):
    printable = "".join(c if c.isprintable() and ord(c) < 0x250 else " " for c in " ".join(samples[step].split()))
    axes[1].text(0, 0.97 - 0.25 * i, f"step {step}", color=BLUE, weight="bold", va="top", fontsize=8)
    axes[1].text(0, 0.91 - 0.25 * i, "\n".join(wrap(printable, 80)[:3]).replace("$", r"\$"), color=INK, va="top",
                 fontsize=7.5, family="monospace", linespacing=1.3)
keep(figure, options.out / "tiny-gpt.png")

# %%
print(f"{model.n_parameters():,} parameters read 9 characters in 10: {losses[-1]:.2f} nats a character on the rest; "
      f"a 5-gram {counted:.2f}")
