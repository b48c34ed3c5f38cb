# %% [markdown]
"""# Weights in 8 and 4 bits: what is saved, and what it costs

Idea: a trained network does not need its weights to seven digits. Round them to 255 whole numbers a row, or to 16 a group of
32, and measure: how much memory is left, and how much worse does the network predict text that it has not seen?

    python examples/24_quantisation.py                # --fast: seconds; --full: what docs/serving.md quotes, two minutes
    python examples/24_quantisation.py --model smollm2          # or a GGUF file, or a folder in Hugging Face's layout

Takes 45 s on two cores. Guess where it asks, before you read on.
Last line: int4: 0.56 MB instead of 3.24, perplexity 5.86 instead of 5.85
"""
# %%
import argparse
from copy import deepcopy
from pathlib import Path

import numpy as np

from tinygrad_lm.models import GPT, GPTConfig
from tinygrad_lm.models.named import load_named
from tinygrad_lm.models.quantised import layers, memory, quantise
from tinygrad_lm.ops.quantise import int4_groups, int4_weight
from tinygrad_lm.text.batches import Windows
from tinygrad_lm.text.letters import LetterTokenizer
from tinygrad_lm.text.stories import paragraphs, split, stories
from tinygrad_lm.train.pretrain import PretrainConfig, evaluate, pretrain
from tinygrad_lm.train.report import BLUE, GREY, ORANGE, panels
from tinygrad_lm.train.run import Run
from tinygrad_lm.train.script import given, keep

options = argparse.ArgumentParser()
options.add_argument("--model", help="measure this model: smollm2, a GGUF file, or a folder in Hugging Face's layout")
options.add_argument("--tokens", type=int, default=2048, help="of held-out text that --model is measured on")
options.add_argument("--out", type=Path, default=Path("runs/examples"), help="folder for the figure")
length = options.add_mutually_exclusive_group()
length.add_argument("--full", action="store_true", help="1500 steps")
length.add_argument("--fast", action="store_true", help="train for seconds")
options = given(options)
T = 64 if options.model is None else 512
learned, held_out = split(paragraphs(stories("en")))


def trained():
    """A GPT that has read the stories, letter by letter, and what it is measured on."""
    tokenizer = LetterTokenizer.from_text(stories("en"))

    def row(texts):
        return np.concatenate([[tokenizer.end], *(np.append(tokenizer.encode(t), tokenizer.end) for t in texts)])

    steps = 30 if options.fast else 1500 if options.full else 600
    model = GPT(GPTConfig(len(tokenizer), T, n_layer=4, n_head=4, n_embd=128, dropout=0.1), rng=np.random.default_rng(0))
    config = PretrainConfig(steps=steps, batch_size=16, warmup=steps // 10, eval_every=steps)
    pretrain(model, Windows(row(learned), T), Windows(row(held_out), T), config, rng=np.random.default_rng(1), run=Run())
    return model, row(held_out)


def given(name):
    """The model of that name, and the stories in its tokens."""
    model, tokenizer = load_named(name)
    return model, tokenizer.encode(stories("en"))[:options.tokens + 1]


model, tokens = trained() if options.model is None else given(options.model)


def perplexity(model):
    return np.exp(evaluate(model, Windows(tokens, T), batch_size=1 if options.model else 64))


# %% [markdown]
# The error of rounding, for other numbers of bits too: by how much the weights of a layer change, as a share of their size
# (root of the mean squares). A bit more halves the step, and so the error.

# %%


def error(w, bits, group):
    """Round each group of a row to 2^bits numbers between its lowest and its highest: w (O, I)."""
    w = w[:, :w.shape[1] // group * group].reshape(len(w), -1, group)
    low, span = w.min(-1, keepdims=True), np.ptp(w, axis=-1, keepdims=True)
    step = span / (2 ** bits - 1)
    return np.sqrt(np.square(low + np.rint((w - low) / step) * step - w).mean() / np.square(w).mean())


w = model.blocks[-1].mlp.fc.weight.data
bits = np.arange(2, 9)
errors = {f"a scale for {g} weights" if g < w.shape[1] else "a scale for each row": [error(w, b, g) for b in bits]
          for g in (32, w.shape[1])}

# %% [markdown]
# In 4 bits a group has a scale and a lowest value, of 16 bits each: 4 + 32 / size bits a weight. What larger groups cost in
# the end only the whole network can say; here everything but its layers stays as it is.

# %%


def in_groups(model, size):
    """The model, but its layers' weights are rounded to 4 bits in groups of that size, and then float32 again."""
    again = deepcopy(model)
    for _, layer in layers(again):
        w = layer.weight.data                                                      # (O, I)
        layer.weight.data = int4_weight(*int4_groups(w, size)).reshape(-1, len(w))[:w.shape[1]].T.copy()
    return again


print("Guess first: with weights rounded to one of 16 values, how much worse does it predict: hardly, by half, ten times?\n")
print("layers in 4 bits, all else in float32")
for size in (32, 64, 128):
    print(f"groups of {size:>3}: {4 + 32 / size:.2f} bits a weight, perplexity {perplexity(in_groups(model, size)):.4f}")

# %% [markdown]
# Now all of it, with `quantise`: int8 has a scale a row, int4 groups of 32.

# %%
measured = {"float32": (sum(memory(model).values()), perplexity(model))}
parts = {"float32": memory(model)}
for how in ("int8", "int4"):
    small = quantise(model if how == "int4" else deepcopy(model), how)
    measured[how], parts[how] = (sum(memory(small).values()), perplexity(small)), memory(small)
print(f"{'weights in':<10} {'MB':>8} {'perplexity':>11}   MB by part")
for how, (n_bytes, ppl) in measured.items():
    print(f"{how:<10} {n_bytes / 1e6:8.2f} {ppl:11.4f}   " + ", ".join(f"{k} {v / 1e6:.2f}" for k, v in parts[how].items()))

# %%
figure, (left, right) = panels(1, 2, size=(4.4, 3.2))
for (name, curve), color in zip(errors.items(), (BLUE, ORANGE)):
    left.plot(bits, curve, color=color, marker="o", ms=4, label=name)
left.set(title="Error of the weights against bits", xlabel="bits a weight", ylabel="error / size", yscale="log")
left.legend()
names = list(measured)
bars = right.bar(names, [measured[n][0] / 1e6 for n in names], color=[GREY, BLUE, ORANGE], width=0.6)
right.bar_label(bars, [f"{measured[n][0] / 1e6:.2f} MB\nperplexity {measured[n][1]:.2f}" for n in names],
                fontsize=8, padding=2)
right.set(title="The whole network", ylabel="MB of weights", ylim=(0, measured["float32"][0] / 1e6 * 1.2))
right.grid(False, axis="x")
keep(figure, options.out / "quantisation.png")

# %%
(before, ppl), (after, small) = measured["float32"], measured["int4"]
print(f"\nint4: {after / 1e6:.2f} MB instead of {before / 1e6:.2f}, perplexity {small:.2f} instead of {ppl:.2f}")
