# %% [markdown]
"""# Attention by hand

Idea: attention is a weighted mean of what was seen before. A query says what a place looks for, a key what a place has
to offer; where they match, the weight is large, and the place's value is fetched. Here nothing is learned: we write
queries, keys and values ourselves, first to average, then to look one place back, then to find what followed the last
time. Two such heads, one after the other, continue any pattern that repeats ([INDUCTION] found that trained
transformers build the very same).

    python examples/07_attention_by_hand.py                  # --pattern TEXT: a pattern of yours; --fast: fewer strings

Takes 2 s on two cores. There is a question before each result: answer it before you read on.
Last line: untrained, it predicts 100% of the second half of 200 repeated strings, and 0% of the first
"""
# %%
import argparse
from pathlib import Path

import numpy as np

import tinygrad_lm as tg
from tinygrad_lm.text.char import CharTokenizer
from tinygrad_lm.text.jamo import romanised
from tinygrad_lm.train.report import BLUE, GREY, ORANGE, hangul_font, panels
from tinygrad_lm.train.script import given, keep

options = argparse.ArgumentParser()
options.add_argument("--pattern", default="kitchen", help="letters that the heat maps repeat")
options.add_argument("--out", type=Path, default=Path("runs/examples"), help="folder for the figure")
options.add_argument("--fast", action="store_true", help="fewer strings")
options = given(options)
F = tg.functional

# %% [markdown]
# 1. The formula, in four lines. The mask keeps a place from looking ahead: a score of −∞ is a weight of 0.


# %%
def attend(query, key, value):                                    # (T, D), (T, D), (T, C)
    """What each place fetches (T, C), and how much from where (T, T)."""
    scores = query @ key.T / query.shape[-1] ** 0.5               # (T, T): row t, what place t thinks of each place s
    ahead = np.triu(np.ones_like(scores, dtype=bool), k=1)
    weights = np.exp(np.where(ahead, -np.inf, scores))
    weights /= weights.sum(-1, keepdims=True)                     # softmax: each row sums to 1
    return weights @ value, weights


def show(weights, letters):
    """A heat map in text: each row is a place, and what it looks at."""
    width = 2 if any(c >= "ᄀ" for c in letters) else 1                # columns of a letter: Hangul takes two
    print("     " + " " * width + " " + " ".join(letters))
    for letter, row in zip(letters, weights):
        print(f"     {letter} " + " ".join(width * " ░▒▓█"[int(4 * w + 0.5)] for w in row))


rng = np.random.default_rng(0)
q, k, v = (rng.standard_normal((6, 4)) for _ in range(3))
ours, weights = attend(q, k, v)
theirs = F.scaled_dot_product_attention(*(tg.Tensor(x[None, None]) for x in (q, k, v)), is_causal=True).numpy()[0, 0]
print("1. Guess first: with queries of nothing but zeros, at which place is the weight on the first letter the smallest?")
mean, equal = attend(np.zeros((6, 4)), k, v)
for t in range(6):
    print(f"   place {t}: " + " ".join(f"{w:.2f}" for w in equal[t, :t + 1]))
print(f"   No preference: the mean of all so far. Against the library's attention, our four lines are off by "
      f"{np.abs(ours - theirs).max():.0e} at most")

# %% [markdown]
# 2. Why the scores are divided by √D. The product of two random vectors of D numbers is about √D large, so without the
# division long vectors make softmax choose one place and ignore the rest, where its gradient vanishes.

# %%
print("\n2. Random queries and keys, 16 places. Guess first: a row's largest weight, on average, for D = 4, 64 and 1024?")
for D in (4, 64, 1024):
    q, k = rng.standard_normal((2, 200, 16, D))
    scores = q @ k.swapaxes(-1, -2)                               # (200, 16, 16)
    largest = [F.softmax(tg.Tensor(s)).numpy().max(-1).mean() for s in (scores, scores / D ** 0.5)]
    print(f"   D {D:>4}   not divided {largest[0]:.2f}   divided by √D {largest[1]:.2f}")

# %% [markdown]
# 3. A head that looks one place back. A place's key is its own number, written as a vector with a single 1; its query is the
# number of the place before. What it fetches is the letter there.

# %%
letters = options.pattern * 2 + options.pattern[:1]
tokenizer = CharTokenizer.from_text(letters)
SHARP = 30.0                                                      # how much a match scores: large, so that softmax chooses


def one_hot(ids, n):
    return np.eye(n)[ids]


def previous(tokens, n):
    """Head 1: each place fetches the letter before it. tokens int (T,) -> (T, n), weights (T, T)"""
    T = len(tokens)
    places = one_hot(np.arange(T), T)
    before = one_hot(np.maximum(np.arange(T) - 1, 0), T)          # the first place has none, and takes itself
    return attend(SHARP * T ** 0.5 * before, places, one_hot(tokens, n))


ids = tokenizer.encode(letters)
fetched, back = previous(ids, len(tokenizer))
print(f"\n3. Guess first: what does each place of {letters!r} fetch?")
print("   letters  " + " ".join(letters))
print("   fetched  " + " ".join(tokenizer.decode(fetched.argmax(-1)[i:i + 1]) for i in range(len(ids))))

# %% [markdown]
# 4. A head that finds what followed last time. The key of a place is now what head 1 fetched for it: the letter before.
# The query is the place's own letter. They match at a place whose predecessor is what I am: right after the last time
# that I was here. The value there is the letter that came: a prediction.


# %%
def follow(tokens, n):
    """Two heads, one after the other: scores of the next letter at each place (T, n), and weights of the second (T, T)"""
    before, _ = previous(tokens, n)
    before[0] = 0                                                 # the first letter followed nothing
    return attend(SHARP * n ** 0.5 * one_hot(tokens, n), before, one_hot(tokens, n))


expected, found = follow(ids, len(tokenizer))
print("\n4. Guess first: where does each letter of the second time look, and where those of the first, when nothing "
      "matches?\n")
show(found, letters)
guesses = expected.argmax(-1)
print("\n   letters      " + " ".join(letters))
half = len(options.pattern)
print("   it predicts  " + " ".join(" " if t < half else tokenizer.decode(guesses[t:t + 1]) for t in range(len(ids) - 1)) +
      "      (the place to the right is what came)")

# %% [markdown]
# 5. On strings that nobody has seen: twelve letters in any order, and the same again. And with letters that may come
# twice in the twelve?

# %%
STRINGS = 40 if options.fast else 200
print(f"\n5. {STRINGS} random strings of 12 letters, each written twice. Guess first: what share of the second half is\n"
      "   predicted, if no letter comes twice in the twelve, and if they may?")
shares = {}
for kind, twice in (("all different", False), ("some twice", True)):
    hits = []
    for _ in range(STRINGS):
        tokens = np.tile(rng.choice(26, 12, replace=twice), 2)
        predicted = follow(tokens, 26)[0].argmax(-1)
        hits.append(predicted[:-1] == tokens[1:])
    hits = np.array(hits)                                         # (N, 23): place t predicts t + 1
    shares[kind] = hits[:, :11].mean(), hits[:, 12:].mean(), hits.mean(0)
    print(f"   {kind:<14} first half {shares[kind][0]:.0%}, second half {shares[kind][1]:.0%}")
print("   A letter that has come twice has two successors: the weights are shared, and the first in the alphabet is taken.")

# %%
figure, axes = panels(1, 4, size=(3.5, 3.5))
labels = [*letters] if hangul_font() else [romanised(c) for c in letters]
nothing = np.zeros((len(ids), 1))
average = attend(nothing, nothing, nothing)[1]
maps = {"no preference": average, "one place back": back, "what followed last time": found}
for ax, (title, weights) in zip(axes, maps.items()):
    ax.imshow(weights, cmap="Blues", vmin=0, vmax=1)
    ax.set_xticks(range(len(letters)), labels)
    ax.set_yticks(range(len(letters)), labels)
    ax.tick_params(length=0)
    ax.grid(visible=False)
    ax.set(title=title, xlabel="looks at")
axes[0].set_ylabel("this place")
for kind, color in (("all different", BLUE), ("some twice", ORANGE)):
    axes[3].plot(np.arange(1, 24), shares[kind][2], "o-", ms=3, color=color, label=kind)
axes[3].axvline(12.5, color=GREY, lw=1)
axes[3].text(12.2, 0.5, "the string begins again", rotation=90, color=GREY, ha="right", va="center")
axes[3].set(title="Share predicted", xlabel="letters read", ylim=(-0.03, 1.05))
axes[3].legend(loc="upper left", title="letters")
figure.suptitle("Three heads written by hand, and what the last two predict", fontsize=11)
keep(figure, options.out / "attention-by-hand.png")

# %%
first, second, _ = shares["all different"]
print(f"untrained, it predicts {second:.0%} of the second half of {STRINGS} repeated strings, and {first:.0%} of the first")
