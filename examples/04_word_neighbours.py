# %% [markdown]
"""# Where the words came to lie

Idea: to predict the next word, a network gives every word a place (Bengio et al. 2003 [NPLM]). Words that are followed by
the same words end up together, so that the network finds pronouns, verbs and prepositions, of which nobody told it.

    python examples/04_word_neighbours.py                # the few stories that ship; --fast: fewer steps
    python examples/04_word_neighbours.py --text FILE    # a megabyte of stories, as in docs/neural.md: 80 s

Takes 10 s on two cores. Guess where it asks, before you read on.
Last line: 974 words, 600 steps: perplexity 330.3 a word; nearest to he: she, ever, bram
"""
# %%
import argparse
from collections import Counter
from pathlib import Path

import numpy as np

from tinygrad_lm.models import FeedForward, FeedForwardConfig
from tinygrad_lm.models.network import NetworkModel
from tinygrad_lm.models.neural import neighbours, plane
from tinygrad_lm.text.batches import Windows
from tinygrad_lm.text.corpus import read_text
from tinygrad_lm.text.stories import paragraphs, split, stories
from tinygrad_lm.text.words import WordTokenizer, words_of
from tinygrad_lm.train.pretrain import PretrainConfig, pretrain
from tinygrad_lm.train.report import BLUE, GREEN, GREY, INK, ORANGE, RED, panels
from tinygrad_lm.train.run import Run
from tinygrad_lm.train.script import given, keep

options = argparse.ArgumentParser()
options.add_argument("--text", type=Path, help="a text of yours (UTF-8), a megabyte or more")
options.add_argument("--out", type=Path, default=Path("runs/examples"), help="folder for the figure")
options.add_argument("--fast", action="store_true", help="fewer steps")
options = given(options)
WORDS, SHOWN = 1500, 60
STEPS = 60 if options.fast else 3000 if options.text else 600

# %% [markdown]
# 1. The text in small letters, as words: the most common ones are tokens, and all others one, <unk>.

# %%
text = (read_text(options.text) if options.text else stories("en")).lower()
learned, held_out = split(paragraphs(text))
common = Counter(words_of("\n".join(learned))).most_common(WORDS)
tokenizer = WordTokenizer(word for word, _ in common)


def row(texts):
    """The texts as one row of tokens, with an end token around each."""
    return np.concatenate([[tokenizer.end], *(np.append(tokenizer.encode(t), tokenizer.end) for t in texts)])


network = FeedForward(FeedForwardConfig(len(tokenizer), context=4, n_embd=32, n_hidden=64), rng=np.random.default_rng(0))
config = PretrainConfig(steps=STEPS, batch_size=32, lr=5e-3, warmup=STEPS // 10, eval_every=STEPS)
pretrain(network, Windows(row(learned), 32), Windows(row(held_out), 32), config, rng=np.random.default_rng(1), run=Run())
perplexity = NetworkModel(network, tokenizer).perplexity(held_out)

# %% [markdown]
# 2. Neighbours: which words of the most common ones lie in nearly the same direction?

# %%
places = network.wte.weight.data[3:3 + min(len(common), 300)]                    # without <pad>, <end>, <unk>
words = [word for word, _ in common[:300]]
places = places / np.linalg.norm(places, axis=-1, keepdims=True)
print(f"{len(tokenizer.words) - 3:,} words, {network.n_parameters():,} parameters, {STEPS:,} steps\n\n"
      "Guess first: which words lie next to `he`, and which next to `three`? Nearest (cosine):")
nearest = {}
for word in "he his said little in and was king three would".split():
    if word in words:
        order, cosines = neighbours(places, words.index(word))
        nearest[word] = [words[i] for i in order]
        print(f"   {word:<8}" + "   ".join(f"{words[i]} {c:.2f}" for i, c in zip(order[:5], cosines)))

# %% [markdown]
# 3. The picture: the plane in which the most common words differ most, coloured by a grammar that the network never saw.

# %%
GRAMMAR = {
    "pronouns": (BLUE, "i you he she it we they him her them me who what all one"),
    "before a noun": (GREEN, "the a an his my your their this that no some very little"),
    "verbs": (RED, "was had is were be have said do did could would came went see go will"),
    "where, how, and": (ORANGE, "of to in on at for with from into up down out as and but so then if when not there by"),
    "marks": (GREY, ". , ; : ! ? \" ' - — _")}


def pushed_apart(xy, size):
    """Points moved until no two labels of about `size` overlap: (N, 2), (N, 2) -> (N, 2)"""
    xy = xy.copy()
    for _ in range(200):
        gap = xy[:, None] - xy                                                   # (N, N, 2)
        overlap = np.maximum((size[:, None] + size) / 2 - np.abs(gap), 0)
        overlap[np.arange(len(xy)), np.arange(len(xy))] = 0
        touch = overlap.min(-1)                                                  # (N, N): how deep two labels overlap
        if not touch.any():
            break
        xy[:, 1] += (np.sign(gap[..., 1]) * touch * 0.5).sum(-1).clip(-size[:, 1] / 2, size[:, 1] / 2)
    return xy


kind = {word: color for color, members in GRAMMAR.values() for word in members.split()}
shown = words[:SHOWN]
xy = plane(places[:SHOWN])
wide, high = np.ptp(xy, 0)
size = np.array([[wide * (0.012 * len(w) + 0.006), high * 0.028] for w in shown])
figure, (ax,) = panels(1, 1, size=(8.6, 6.2))
for word, (x, y), (x0, y0) in zip(shown, pushed_apart(xy, size), xy):
    ax.plot([x0, x], [y0, y], color="#d5dae0", lw=0.7, zorder=1)
    ax.text(x, y, word, color=kind.get(word, INK), fontsize=11 if word[0].isalpha() else 16, weight="bold", ha="center",
            va="center")
for name, (color, _) in GRAMMAR.items():
    ax.plot([], [], "o", color=color, label=name)
if not kind.keys() >= {*shown}:
    ax.plot([], [], "o", color=INK, label="others")
ax.set(title=f"The {SHOWN} most common words, in the plane in which their directions differ most", xticks=[], yticks=[],
       xlim=(xy[:, 0].min() - 0.05 * wide, xy[:, 0].max() + 0.05 * wide))
ax.spines[:].set_visible(False)
figure.legend(loc="outside lower center", ncols=6)
keep(figure, options.out / "word-neighbours.png")

# %%
print(f"\n{len(common):,} words, {STEPS:,} steps: perplexity {perplexity:.1f} a word" +
      (f"; nearest to he: {', '.join(nearest['he'][:3])}" if "he" in nearest else ""))
