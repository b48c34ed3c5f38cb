# %% [markdown]
"""# A language model is the probability of a sentence

Idea: whoever can say what comes next can say how likely a sentence is; and whoever can say that can choose the best of
several translations, and correct spelling. A model that only counts letters is enough to see it.

    python examples/01_probability_of_a_sentence.py                          # --language ko, --text FILE

Takes 5 s on two cores. Guess where it asks, before you read on.
Last line: of 548 words 49 were mistyped; after correction 16 are wrong
"""
# %%
import argparse
from math import exp, log
from pathlib import Path

import numpy as np

from tinygrad_lm.models import NGram
from tinygrad_lm.models.language_model import rank
from tinygrad_lm.text.jamo import romanised
from tinygrad_lm.text.letters import LetterTokenizer
from tinygrad_lm.text.corpus import read_text
from tinygrad_lm.text.stories import paragraphs, split, stories, translations
from tinygrad_lm.text.noise import misspell_text
from tinygrad_lm.text.spelling import learn_corrector, score
from tinygrad_lm.train.report import BLUE, INK, ORANGE, hangul_font, panels
from tinygrad_lm.train.script import given, keep

options = argparse.ArgumentParser()
options.add_argument("--language", choices=["en", "ko"], default="en")
options.add_argument("--text", type=Path, help="a text of yours (UTF-8)")
options.add_argument("--out", type=Path, default=Path("runs/examples"), help="folder for the figure")
options.add_argument("--font", type=Path, help="a font file with Hangul, for the Korean figure")
options = given(options)

text = read_text(options.text) if options.text else stories(options.language)
learned, held_out = split(paragraphs(text))
choices = translations(options.language)
tokenizer = LetterTokenizer.from_text(text + "".join(c for _, candidates in choices for c in candidates))
model = NGram(learned, tokenizer, order=7)

# %% [markdown]
# 1. What comes next? After each beginning, the five letters that the model thinks likeliest.

# %%
print("Guess first: in the middle of a word, how sure is it of the next letter? And behind a word?")
print("1. What comes next?")
for beginning in ("The old man said noth", "The d") if options.language == "en" else ("노인은 아무 말도 하지 않", "할머니는 "):
    p = np.exp(model.next_logprobs(model.ids(beginning)))
    likeliest = np.argsort(-p)[:5]
    print(f"   {beginning!r:<28}", "  ".join(f"{tokenizer.decode([i])!r} {p[i]:.0%}" for i in likeliest))

# %% [markdown]
# 2. The probability of a sentence is the product of these probabilities. It is tiny, so we add logarithms.

# %%
good, bad = choices[0][1][0], choices[0][1][2]
print("\nGuess first: six words that are right have a probability of one in how many?")
print("2. The probability of a sentence")
for sentence in (good, bad):
    logp = model.sentence_logprob(sentence)
    print(f"   {sentence:<36} log p = {logp:7.2f}   p = {exp(logp):.1e}")

# %% [markdown]
# In bits, −log₂ p, the logarithms say how surprising each letter is: below each letter a bar, ▁ for none and █ for most.

# %%
spelt = [[tokenizer.decode([i]).replace(" ", "␣") for i in model.ids(s)] for s in (good, bad)]       # Hangul: by its letters
surprise = [-model.logprobs(model.ids(s)) / log(2) for s in (good, bad)]                             # bits a letter
most = max(map(max, surprise))
for letters, bits in zip(spelt, surprise):
    wide = [c if "ㄱ" <= c <= "힣" else c + " " for c in letters]                                     # two columns each
    print("\n   " + "".join(wide) + "\n   " + "".join("▁▂▃▄▅▆▇█"[int(7 * b / most + 0.5)] + " " for b in bits))

label = str if hangul_font(options.font) else romanised
if label is romanised and options.language == "ko":
    print("\n   no font here has Hangul, so the figure is romanised: see --font")
figure, axes = panels(2, 1, size=(8, 2.1))
for ax, sentence, letters, bits, color in zip(axes, (good, bad), spelt, surprise, (BLUE, ORANGE)):
    ax.bar(range(len(bits)), bits, color=color, width=0.85)
    ax.set_xticks(range(len(bits)), map(label, letters))
    ax.tick_params(axis="x", length=0, labelcolor=INK, labelsize=10)
    ax.set(title=f"{label(sentence)}  {bits.sum():.0f} bits", ylabel="bits", ylim=(0, most * 1.05),
           xlim=(-0.7, max(map(len, spelt)) - 0.3))
    ax.grid(axis="x", visible=False)
figure.suptitle("How surprising is each letter, given those before it?", fontsize=11)
keep(figure, options.out / "surprise.png")

# %% [markdown]
# 3. Which translation would one say? Which mistakes can a model see that looks at seven letters?

# %%
print(f"\nGuess first: of {len(choices)} sentences, for how many does it choose the best translation?")
print("3. Which translation would one say?")
meaning, candidates = choices[1]
print(f"   {meaning}")
for logp, sentence in rank(model, candidates):
    print(f"   {logp:8.2f}  {sentence}")
first = sum(rank(model, candidates)[0][1] == candidates[0] for _, candidates in choices)
print(f"   the best comes first {first} times out of {len(choices)}")

# %% [markdown]
# 4. Spelling: what was meant is what is likely, and what fingers may turn into what was typed. Mistakes are made by a seeded
# noise in text that the corrector has never seen.

# %%
print("\nGuess first: how many of the mistyped words does it mend, and how many good ones does it spoil?")
print("4. Spelling")
corrector, rng = learn_corrector(learned), np.random.default_rng(0)
noisy = [misspell_text(t, rng, rate=0.1) for t in held_out]
print(f"   typed:     {noisy[1]}\n   corrected: {corrector.correct(noisy[1])}")
on_clean = score(corrector, held_out, held_out)
print(f"   in the same text without mistakes it spoils {on_clean.spoiled} words out of {on_clean.words}")
result = score(corrector, held_out, noisy)
print(f"of {result.words} words {result.wrong_before} were mistyped; after correction {result.wrong_after} are wrong")
