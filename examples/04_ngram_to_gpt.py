# %% [markdown]
"""# From n-grams to a GPT, at the same budget of tokens

Idea: three kinds of model may read the same number of tokens of the same text, and are asked about the same held-out text.
Which predicts it best? Guess before you run it: the answer depends on how much there is to read.

    python examples/04_ngram_to_gpt.py             # a minute; --fast: seconds; --language ko, --text FILE, --budgets

Last line: after 1,048,576 tokens read: 5-gram 4.00, FeedForward 5.19, GPT 4.55
"""
# %%
import argparse
from pathlib import Path

import numpy as np

from tinygrad_lm.models import GPT, FeedForward, FeedForwardConfig, GPTConfig, NGram
from tinygrad_lm.models.network import NetworkModel
from tinygrad_lm.text.batches import Windows
from tinygrad_lm.text.letters import LetterTokenizer
from tinygrad_lm.text.corpus import read_text
from tinygrad_lm.text.stories import paragraphs, split, stories
from tinygrad_lm.train.pretrain import PretrainConfig, pretrain
from tinygrad_lm.train.report import BLUE, GREEN, GREY, ORANGE, panels, png
from tinygrad_lm.train.run import Run

options = argparse.ArgumentParser()
options.add_argument("--language", choices=["en", "ko"], default="en")
options.add_argument("--text", type=Path, help="a text of yours (UTF-8)")
options.add_argument("--out", type=Path, default=Path("runs/examples"), help="folder for the figure")
options.add_argument("--budgets", type=int, nargs="+", help="tokens to read, each a multiple of 1024")
options.add_argument("--fast", action="store_true", help="small budgets")
options = options.parse_args()
BATCH, T = 32, 32                                                                # 1024 tokens a step
budgets = options.budgets or ([2**13, 2**14] if options.fast else [2**14, 2**16, 2**18, 2**20])

text = read_text(options.text) if options.text else stories(options.language)
learned, held_out = split(paragraphs(text))
tokenizer = LetterTokenizer.from_text(text)


def row(texts):
    """The texts as one row of tokens, with an end token around each."""
    return np.concatenate([[tokenizer.end], *(np.append(tokenizer.encode(t), tokenizer.end) for t in texts)])


tokens, measured = row(learned), row(held_out)
print(f"{len(tokens):,} tokens to read, {len(measured):,} held out, {len(tokenizer)} in the vocabulary\n")

# %% [markdown]
# A 5-gram reads a token once: reading it again changes no count. A network reads random stretches, again and again, and its
# learning rate falls to zero as its budget ends; so each budget is a run of its own.

# %%


def first(budget):
    """As many of the texts as the budget allows, the last one cut."""
    out = []
    for t in learned:
        ids = tokenizer.encode(t)[:budget]
        out, budget = out + [tokenizer.decode(ids)], budget - len(ids)
        if not budget:
            break
    return out


def five_gram(budget):
    return NGram(first(budget), tokenizer, order=5)


def trained(network, budget):
    steps = budget // (BATCH * T)
    config = PretrainConfig(steps=steps, batch_size=BATCH, lr=1e-2, warmup=max(1, steps // 10))
    pretrain(network, Windows(tokens, T), Windows(measured, T), config, rng=np.random.default_rng(1), run=Run())
    return NetworkModel(network, tokenizer)


def feed_forward(budget):
    config = FeedForwardConfig(len(tokenizer), context=8, n_embd=16, n_hidden=192)
    return trained(FeedForward(config, rng=np.random.default_rng(0)), budget)


def gpt(budget):
    config = GPTConfig(len(tokenizer), T, n_layer=2, n_head=4, n_embd=64)
    return trained(GPT(config, rng=np.random.default_rng(0)), budget)


KINDS = {"5-gram": (five_gram, BLUE), "FeedForward": (feed_forward, GREEN), "GPT": (gpt, ORANGE)}
curves = {name: [] for name in KINDS}
for budget in budgets:
    for name, (learn, _) in KINDS.items():
        curves[name].append(learn(budget).perplexity(held_out))
    print(f"{budget:>10,} tokens read: " + ", ".join(f"{name} {curve[-1]:6.2f}" for name, curve in curves.items()))

# %%
figure, (ax,) = panels(1, 1, size=(6.6, 3.9))
for name, (_, color) in KINDS.items():
    ax.plot(budgets, curves[name], color=color, marker="o", ms=5)
    ax.annotate(name, (budgets[-1], curves[name][-1]), (8, 0), textcoords="offset points", color=color, va="center")
ax.axvline(len(tokens), color=GREY, lw=1, ls="--")
ax.annotate("the whole text, once ", (len(tokens), 1), xycoords=("data", "axes fraction"), color=GREY, fontsize=8, va="top",
            ha="left", xytext=(4, 0), textcoords="offset points")
ax.set(title="Perplexity on the same held-out text", xlabel="tokens read", ylabel="perplexity a letter", xscale="log",
       yscale="log", xlim=(budgets[0] * 0.8, budgets[-1] * (budgets[-1] / budgets[0]) ** 0.22))
ax.set_xticks(budgets, [f"{b:,}" for b in budgets])
low, high = min(map(min, curves.values())), max(map(max, curves.values()))
ticks = [t for t in (2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50) if low * 0.9 < t < high * 1.1]
ax.set_yticks(ticks, map(str, ticks))
ax.minorticks_off()
options.out.mkdir(parents=True, exist_ok=True)
(options.out / "ngram-to-gpt.png").write_bytes(png(figure))

# %%
print(f"\nafter {budgets[-1]:,} tokens read: " + ", ".join(f"{name} {curve[-1]:.2f}" for name, curve in curves.items()))
