# %% [markdown]
"""# The first neural language model

Idea: give every token a place in a space, and let a small network read the last few places (Bengio et al. 2003 [NPLM]).
Nobody says where the places are: tokens that are used alike end up near each other.

    python examples/03_neural.py                     # --fast: fewer steps; --language ko, --text FILE

Takes 10 s on two cores. Guess where it asks, before you read on.
Last line: FeedForward, 8 characters of context: perplexity 5.28 a character, 2.40 bits a byte
"""
# %%
import argparse
from pathlib import Path

import numpy as np

from tinygrad_lm.models import FeedForward, FeedForwardConfig
from tinygrad_lm.models.network import NetworkModel
from tinygrad_lm.models.neural import neighbours, plane
from tinygrad_lm.text.batches import Windows
from tinygrad_lm.text.jamo import INITIALS, VOWELS, romanised, to_letters
from tinygrad_lm.text.letters import LetterTokenizer
from tinygrad_lm.text.corpus import read_text
from tinygrad_lm.text.stories import paragraphs, split, stories
from tinygrad_lm.train.pretrain import PretrainConfig, pretrain
from tinygrad_lm.train.report import BLUE, GREEN, GREY, ORANGE, RED, hangul_font, panels
from tinygrad_lm.train.run import Run
from tinygrad_lm.train.script import given, keep

options = argparse.ArgumentParser()
options.add_argument("--language", choices=["en", "ko"], default="en")
options.add_argument("--text", type=Path, help="a text of yours (UTF-8)")
options.add_argument("--out", type=Path, default=Path("runs/examples"), help="folder for the figure")
options.add_argument("--fast", action="store_true", help="fewer steps")
options = given(options)

text = read_text(options.text) if options.text else stories(options.language)
learned, held_out = split(paragraphs(text))
tokenizer = LetterTokenizer.from_text(text)

# %% [markdown]
# 1. The text as one row of tokens, with an end token around every paragraph; an example is any stretch of 32 of them.

# %%


def row(texts):
    return np.concatenate([[tokenizer.end], *(np.append(tokenizer.encode(t), tokenizer.end) for t in texts)])


network = FeedForward(FeedForwardConfig(len(tokenizer), context=8, n_embd=16, n_hidden=192), rng=np.random.default_rng(0))
config = PretrainConfig(steps=60 if options.fast else 1000, batch_size=32, lr=1e-2)
run = Run()
pretrain(network, Windows(row(learned), 32), Windows(row(held_out), 32), config, rng=np.random.default_rng(1), run=run)
model = NetworkModel(network, tokenizer)
print(f"Guess first: were all tokens equally likely, the loss would be {np.log(len(tokenizer)):.2f} nats; where does it "
      "end?")
print(f"1. {network.n_parameters():,} parameters, {config.steps} steps; loss on held-out text:")
for logged in run.history:
    if "held_out" in logged and (logged["step"] % 200 == 0 or logged["step"] == config.steps):
        print(f"   step {logged['step']:>5.0f}   {logged['held_out']:.3f} nats a token")

# %% [markdown]
# 2. It writes. A 3-gram sees 2 letters; this sees 8, and has few parameters: how many would a table for 8 letters have?

# %%
print("\nGuess first: does it write words?")
print(f"2. {model.sample(120, rng=np.random.default_rng(0), temperature=0.8)!r}")
print(f"   A table of all 9-grams would have {len(tokenizer):,} ** 9 = {len(tokenizer) ** 9:.0e} entries")

# %% [markdown]
# 3. Where did the letters go? Nobody told the model what a vowel is.

# %%
vectors = network.wte.weight.data
print("\nGuess first: which letters lie near a vowel, and which near a full stop?")
print("3. Neighbours")
for letter in "aet.T" if options.language == "en" else "ㅏㅓㄱㅂ.":
    if letter in tokenizer.chars:
        near, cosines = neighbours(vectors, tokenizer.encode(letter)[0])
        shown = (f"{tokenizer.decode([i]) or '<end>'!r} {c:.2f}" for i, c in zip(near[:5], cosines))
        print(f"   {letter}   " + "  ".join(shown))

if options.language == "en":
    kinds = {"vowels": ("aeiou", RED), "consonants": ("bcdfghjklmnpqrstvwxyz", BLUE),
             "capitals": ("ABCDEFGHIJKLMNOPQRSTUVWXYZ", GREEN)}
else:
    kinds = {"vowels": (VOWELS, RED), "consonants": (INITIALS, BLUE)}
kinds["marks and space"] = ' .,?!:;-"\'', ORANGE
label = str if options.language == "en" or hangul_font() else romanised
chars = [c for c in tokenizer.chars if sum(to_letters(t).count(c) for t in learned) >= 20]   # rare ones have not moved
shown = vectors[tokenizer.encode("".join(chars))]
places = dict(zip(chars, plane(shown / np.linalg.norm(shown, axis=-1, keepdims=True))))
figure, (ax,) = panels(1, 1, size=(6.2, 4.8))
for name, (members, color) in kinds.items():
    ax.plot([], [], "o", color=color, label=name)
    for c in set(members) & set(places):
        ax.text(*places[c], "␣" if c == " " else label(c), color=color, fontsize=13, weight="bold", ha="center", va="center")
x, y = np.array([*places.values()]).T
ax.set(title="Where the letters came to lie", xticks=[], yticks=[], xlim=(x.min() * 1.1, x.max() * 1.1),
       ylim=(y.min() * 1.1, y.max() * 1.1))
ax.axhline(0, color=GREY, lw=0.5)
ax.axvline(0, color=GREY, lw=0.5)
figure.legend(loc="outside lower center", ncols=4)
keep(figure, options.out / "embeddings.png")

# %%
print(f"\nFeedForward, 8 characters of context: perplexity {model.perplexity(held_out):.2f} a character, "
      f"{model.bits_per_byte(held_out):.2f} bits a byte")
