# %% [markdown]
"""# A model that only counts

Idea: what comes next is what came next before. The longer the stretch that is compared, the better the guess, and the rarer
the stretch; smoothing decides what to do with what was never seen.

    python examples/02_counting.py                               # --language ko, --text FILE

Takes 5 s on two cores. Guess where it asks, before you read on.
Last line: Kneser-Ney, order 5: perplexity 3.997 a character, 1.999 bits a byte
"""
# %%
import argparse
from functools import partial
from pathlib import Path

import numpy as np

from tinygrad_lm.models import NGram
from tinygrad_lm.models.ngram import add_k, kneser_ney, maximum_likelihood
from tinygrad_lm.text.char import CharTokenizer
from tinygrad_lm.text.letters import LetterTokenizer
from tinygrad_lm.text.corpus import read_text
from tinygrad_lm.text.stories import paragraphs, split, stories
from tinygrad_lm.train.report import BLUE, GREEN, GREY, ORANGE, panels
from tinygrad_lm.train.script import given, keep

options = argparse.ArgumentParser()
options.add_argument("--language", choices=["en", "ko"], default="en")
options.add_argument("--text", type=Path, help="a text of yours (UTF-8)")
options.add_argument("--out", type=Path, default=Path("runs/examples"), help="folder for the figure")
options = given(options)

text = read_text(options.text) if options.text else stories(options.language)
learned, held_out = split(paragraphs(text))
tokenizer = CharTokenizer.from_text(text)
print(f"{sum(map(len, learned)):,} characters to count, {sum(map(len, held_out)):,} held out, {len(set(text))} different\n")

# %% [markdown]
# 1. The likeliest explanation of a text is no explanation of another: to the maximum likelihood, one n-gram that it has not
# seen makes the held-out text impossible. Adding k to every count helps, and hurts as n grows.

# %%
SMOOTHINGS = {"maximum likelihood": maximum_likelihood, "add 1": partial(add_k, k=1), "add 0.01": partial(add_k, k=0.01),
              "Kneser-Ney": kneser_ney}
ORDERS = range(1, 9)
print("Guess first: which order is the best, for each way to deal with what was never seen? Which k would you add?")
perplexity = {name: [NGram(learned, tokenizer, order=n, smoothing=s).perplexity(held_out) for n in ORDERS]
              for name, s in SMOOTHINGS.items()}
print("1. Perplexity on held-out text\n" + f"{'order':>21}" + "".join(f"{n:>8}" for n in ORDERS))
for name, values in perplexity.items():
    print(f"{name:>21}" + "".join(f"{v:8.2f}" for v in values))

figure, (ax,) = panels(1, 1, size=(6.2, 3.6))
for (name, values), color in zip(perplexity.items(), (GREY, ORANGE, GREEN, BLUE)):
    shown = [(n, v) for n, v in zip(ORDERS, values) if np.isfinite(v)]
    if len(shown) > 1:
        ax.plot(*zip(*shown), color=color, marker="o", ms=4)
        ax.annotate(name, shown[-1], (8, 0), textcoords="offset points", color=color, va="center")
ax.set(title="What to do with what was never seen", xlabel="n", ylabel="perplexity on held-out text", yscale="log",
       xlim=(0.7, 9.6), xticks=list(ORDERS))
ticks = [t for t in (2, 4, 8, 16, 32, 64, 128, 256, 512) if ax.get_ylim()[0] < t < ax.get_ylim()[1]]
ax.set_yticks(ticks, map(str, ticks))
ax.minorticks_off()
keep(figure, options.out / "counting.png")

# %% [markdown]
# 2. What a model of each order writes. It copies as soon as there is only one way to go on.

# %%
print("\nGuess first: from which order on does it copy whole sentences?")
print("2. What they write, from the same draws")
for n in (1, 2, 3, 5, 8):
    start = learned[0][:n - 1]
    written = NGram(learned, tokenizer, order=n).sample(70, rng=np.random.default_rng(3), prompt=start, temperature=0.8)
    print(f"   order {n}: {written!r}")

# %% [markdown]
# 3. Perplexities of different tokens cannot be compared: a letter says less than a syllable. Bits a byte can.

# %%
print("\nGuess first: characters or letters, which has the lower perplexity, and does that make it the better model?")
print("3. Tokens")
for name, tokens in ("characters", tokenizer), ("letters", LetterTokenizer.from_text(text)):
    model = NGram(learned, tokens, order=7)
    print(f"   {name:<11} {len(tokens):4} in the vocabulary   perplexity {model.perplexity(held_out):6.2f} a token   "
          f"{model.bits_per_byte(held_out):.3f} bits a byte")

# %%
best = NGram(learned, tokenizer, order=5, smoothing=kneser_ney)
print(f"\nKneser-Ney, order 5: perplexity {best.perplexity(held_out):.3f} a character, "
      f"{best.bits_per_byte(held_out):.3f} bits a byte")
