# %% [markdown]
"""# From n-grams to a GPT, at the same budget of tokens

Idea: three kinds of model may read the same number of tokens of the same text, and are asked about the same held-out text.
Which predicts it best? The answer depends on how much there is to read, and how often one may.

    python examples/10_ngram_to_gpt.py           # letters; --fast: small budgets; --language ko, --text FILE, --budgets
    python examples/10_ngram_to_gpt.py --tokens words --text FILE       # words of a megabyte of text: five minutes

Every point is kept in the folder of the figure, which shows letters and words side by side, where both were run.

Takes 30 s on two cores. Guess where it asks, before you read on.
Last line: after 1,048,576 letters read: 5-gram 4.00, FeedForward 5.19, GPT 4.57
"""
# %%
import argparse
import json
from hashlib import sha256
from pathlib import Path

import numpy as np

from tinygrad_lm.checkpoint import replace
from tinygrad_lm.models import GPT, FeedForward, FeedForwardConfig, GPTConfig, NGram
from tinygrad_lm.models.network import NetworkModel
from tinygrad_lm.text.batches import Windows
from tinygrad_lm.text.letters import LetterTokenizer
from tinygrad_lm.text.corpus import read_text
from tinygrad_lm.text.stories import paragraphs, split, stories
from tinygrad_lm.text.words import WordTokenizer
from tinygrad_lm.train.pretrain import PretrainConfig, pretrain
from tinygrad_lm.train.report import BLUE, GREEN, GREY, ORANGE, panels
from tinygrad_lm.train.run import Run
from tinygrad_lm.train.script import given, keep

options = argparse.ArgumentParser()
options.add_argument("--tokens", choices=["letters", "words"], default="letters")
options.add_argument("--language", choices=["en", "ko"], default="en")
options.add_argument("--text", type=Path, help="a text of yours (UTF-8)")
options.add_argument("--out", type=Path, default=Path("runs/examples"), help="folder for the figure")
options.add_argument("--budgets", type=int, nargs="+", help="tokens to read, each a multiple of 1024")
options.add_argument("--fast", action="store_true", help="small budgets")
options = given(options)
BATCH, T = 32, 32                                                                # 1024 tokens a step

text = read_text(options.text) if options.text else stories(options.language)
learned, held_out = split(paragraphs(text))
if options.tokens == "letters":
    tokenizer = LetterTokenizer.from_text(text)
    small, large = dict(context=8, n_embd=16, n_hidden=192), dict(n_layer=2, n_head=4, n_embd=64)
    rates, budgets = [1e-2, 1e-2], [2**14, 2**16, 2**18, 2**20]
else:                                          # many tokens to tell apart, and a text that is read several times: dropout
    tokenizer = WordTokenizer.from_text(text, least=10)                          # all rarer words are one token
    small, large = dict(context=5, n_embd=64, n_hidden=128, dropout=0.2), dict(n_layer=2, n_head=4, n_embd=96, dropout=0.2)
    rates, budgets = [1e-2, 3e-3], [2**16, 2**18, 2**20]
budgets = options.budgets or ([2**13, 2**14] if options.fast else budgets)


def row(texts):
    """The texts as one row of tokens, with an end token around each."""
    return np.concatenate([[tokenizer.end], *(np.append(tokenizer.encode(t), tokenizer.end) for t in texts)])


tokens, measured = row(learned), row(held_out)
print(f"{len(tokens):,} {options.tokens} to read, {len(measured):,} held out, {len(tokenizer):,} in the vocabulary\n")

# %% [markdown]
# A 5-gram reads a token once: reading it again changes no count. A network reads random stretches, again and again, and its
# learning rate falls to zero as its budget ends; so each budget is a run of its own.

# %%


def five_gram(budget):
    """Counts the first paragraphs that the budget pays for."""
    ends = np.cumsum([len(tokenizer.encode(t)) for t in learned])
    return NGram(learned[:max(1, np.searchsorted(ends, budget, side="right"))], tokenizer, order=5)


def trained(network, budget, lr):
    steps = budget // (BATCH * T)
    config = PretrainConfig(steps=steps, batch_size=BATCH, lr=lr, warmup=max(1, steps // 10))
    pretrain(network, Windows(tokens, T), Windows(measured, T), config, rng=np.random.default_rng(1), run=Run())
    return NetworkModel(network, tokenizer)


def feed_forward(budget):
    return trained(FeedForward(FeedForwardConfig(len(tokenizer), **small), rng=np.random.default_rng(0)), budget, rates[0])


def gpt(budget):
    return trained(GPT(GPTConfig(len(tokenizer), T, **large), rng=np.random.default_rng(0)), budget, rates[1])


KINDS = {"5-gram": (five_gram, BLUE), "FeedForward": (feed_forward, GREEN), "GPT": (gpt, ORANGE)}
kept = options.out / f"ngram-to-gpt-{options.tokens}.json"
asked = {"text": options.text.name if options.text else f"the shipped stories ({options.language})",
         "sha256": sha256(text.encode()).hexdigest(), "once": len(tokens), "networks": [small, large, rates]}
found = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
points = found["points"] if found.get("asked") == asked else {}                  # of another text: start anew
print(f"Guess first: having read {budgets[0]:,} and {budgets[-1]:,} {options.tokens}, which predicts the held-out text "
      "best?")
for budget in budgets:
    point = points.setdefault(str(budget), {})
    for name, (learn, _) in KINDS.items():
        if name not in point:
            point[name] = learn(budget).perplexity(held_out)
            replace(kept, json.dumps({"asked": asked, "points": points}, indent=1, ensure_ascii=False).encode())
    print(f"{budget:>10,} {options.tokens} read: " + ", ".join(f"{name} {point[name]:6.2f}" for name in KINDS), flush=True)

# %% [markdown]
# The picture: a panel for letters and one for words, where both have been run.

# %%


def panel(ax, unit, asked, points):
    budgets = sorted(map(int, points))
    curves = {name: [points[str(b)][name] for b in budgets] for name in KINDS}
    low, high = min(map(min, curves.values())), max(map(max, curves.values()))
    step = (high / low) ** 0.055                                                 # labels are at least so far apart
    height = 0
    for name in sorted(KINDS, key=lambda name: curves[name][-1]):
        ax.plot(budgets, curves[name], color=KINDS[name][1], marker="o", ms=5, lw=1.8)
        height = max(curves[name][-1], height * step)
        ax.annotate(f"{name}  {curves[name][-1]:#.3g}", (budgets[-1], height), (9, 0), textcoords="offset points",
                    color=KINDS[name][1], va="center", weight="bold")
    if asked["once"] < budgets[-1]:
        ax.axvline(asked["once"], color=GREY, lw=1, ls="--")
        ax.annotate("the whole text, once", (asked["once"], 0.99), (4, 0), xycoords=("data", "axes fraction"), va="top",
                    textcoords="offset points", color=GREY, fontsize=8)
    ax.set(title=f"{unit.capitalize()} of {asked['text']}", xlabel=f"{unit} read", ylabel=f"perplexity a {unit[:-1]}",
           xscale="log", yscale="log", xlim=(budgets[0] * 0.8, budgets[-1] * (budgets[-1] / budgets[0]) ** 0.4))
    ax.set_xticks(budgets, [f"{b:,}" for b in budgets])
    ticks = [t for t in (2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 40, 50, 60, 80, 100, 150, 200, 300) if low * 0.9 < t < high * 1.1]
    ax.set_yticks(ticks, map(str, ticks))
    ax.minorticks_off()


files = [(unit, options.out / f"ngram-to-gpt-{unit}.json") for unit in ("letters", "words")]
runs = [(unit, json.loads(path.read_text(encoding="utf-8"))) for unit, path in files if path.exists()]
figure, axes = panels(1, len(runs), size=(6.2, 3.9))
for ax, (unit, run) in zip(axes, runs):
    panel(ax, unit, **run)
figure.suptitle("Perplexity on the same held-out text: lower is better", fontsize=11)
keep(figure, options.out / "ngram-to-gpt.png")

# %%
print(f"\nafter {budgets[-1]:,} {options.tokens} read: " + ", ".join(f"{name} {point[name]:.2f}" for name in KINDS))
