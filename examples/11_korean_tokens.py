# %% [markdown]
"""# What a tokenizer does to Korean

Idea: a syllable of Hangul is three bytes. A byte-level tokenizer begins with bytes and learns which belong together,
but only from what it reads: merges learned from English leave Korean in bytes, three tokens a syllable; merges learned
from Korean make words of them. One tale in both languages, learned from but for its last paragraph, which is measured.

    python examples/11_korean_tokens.py              # --out FILE.png; --font FILE.ttf where no font with Hangul is installed

Takes 5 s on two cores. Guess where it asks, before you read on.
Last line: Korean in merges learned from English 61.7 tokens a sentence, from Korean 15.0
"""
# %%
import argparse
from importlib.resources import files
from pathlib import Path

from tinygrad_lm.text.jamo import romanised
from tinygrad_lm.text.show import COLOURS, readable
from tinygrad_lm.text.tokenizer_json import train_bpe
from tinygrad_lm.train.report import BLUE, GREEN, GREY, INK, ORANGE, hangul_font, panels
from tinygrad_lm.train.script import given, keep

MERGES = 250
SHOWN = {"Korean": "하늘이의 이야기를 읽었다.", "English": "They read the story of Haneul."}


def tale(language):
    """(the paragraphs to learn from, the sentences of the last one)"""
    text = (files("tinygrad_lm") / "data" / f"{language.lower()}.txt").read_text(encoding="utf-8").rstrip()
    learned, _, last = text.rpartition("\n\n")
    return learned, last.removesuffix(".").split(". ")


# %% [markdown]
# The same training, from nothing, on one language, on the other, and on both together.

# %%
tales = {language: tale(language) for language in ("Korean", "English")}
LESSONS = {"learned from Korean": (ORANGE, ["Korean"]), "learned from English": (BLUE, ["English"]),
           "learned from both": (GREEN, ["Korean", "English"])}


def trained(lesson, merges):
    return train_bpe([tales[language][0] for language in LESSONS[lesson][1]], 256 + merges, special=())


def tokens_a_sentence(tokenizer, language):
    sentences = tales[language][1]
    return sum(len(tokenizer.encode(s + ".")) for s in sentences) / len(sentences)


steps = [0, 5, 10, 20, 30, 45, 60, 80, 100, 130, 160, 200, MERGES]
curves = {lesson: [trained(lesson, merges) for merges in steps] for lesson in LESSONS}

# %%
def counted(tokenizer):
    return "  ".join(f"{language} {tokens_a_sentence(tokenizer, language):5.1f}" for language in tales)


print("Guess first: with merges learned from the other language, how many times as many tokens does a Korean sentence take?")
print(f"tokens a sentence, after {MERGES} merges\n\nnothing learned       {counted(curves['learned from both'][0])}")
for lesson, tokenizers in curves.items():
    print(f"{lesson:<21} {counted(tokenizers[-1])}")


# %% [markdown]
# The picture. Above: one sentence, a box a token, as wide as its bytes. Below: tokens a sentence while merges are learned.

# %%
def box(ax, x, y, width, height, color):
    from matplotlib.patches import FancyBboxPatch
    ax.add_patch(FancyBboxPatch((x + 0.06, y), width - 0.12, height, boxstyle="round,pad=0,rounding_size=0.12",
                                fc=color, ec="none", mutation_aspect=0.5))


def write(ax, x, y, text, size, font, color=INK):
    """Text in the middle of (x, y); Hangul in a font that has it, or romanised where there is none."""
    ax.text(x, y, text if font else romanised(text), ha="center", va="center", color=color, size=size)


def strip(ax, y, tokenizer, text, font):
    """The tokens of a text, in a row of boxes as wide as their bytes; one that is no whole character is written as bytes."""
    ids = tokenizer.encode(text)
    x = 0
    for n, token in enumerate(map(tokenizer.token, ids)):
        label = readable(token)
        box(ax, x, y, len(token), 0.62, COLOURS[n % len(COLOURS)])
        write(ax, x + len(token) / 2, y + 0.3, label.strip("‹›"), 6.5 if "‹" in label else 10.5, font)
        x += len(token)
    ax.text(x + 0.4, y + 0.3, f"{len(ids)} tokens", va="center", color=INK, weight="bold")


def sentence(ax, language, font):
    """The text itself, each character over its bytes, and below it what the bytes and two tokenizers make of it."""
    text, x = SHOWN[language], 0
    for c in text:
        width = len(c.encode())
        write(ax, x + width / 2, 3.55 if width > 1 or language == "Korean" else 3.05, c, 15, font)
        if font and width > 1:
            write(ax, x + width / 2, 3.0, romanised(c), 8, font, GREY)
        x += width
    lessons = [f"learned from {other}" for other in sorted(SHOWN, key=lambda other: other == language)]    # its own last
    rows = [("bytes, nothing learned", curves[lessons[0]][0])]
    for lesson in lessons:
        rows.append((f"{MERGES} merges {lesson}", curves[lesson][-1]))
    for y, (label, tokenizer) in zip((2.1, 1.1, 0.1), rows):
        strip(ax, y, tokenizer, text, font)
        ax.text(-0.5, y + 0.3, label, ha="right", va="center", color=INK)
    ax.set(xlim=(-9.5, 41), ylim=(-0.1, 4.1))
    ax.axis("off")


def picture(font):
    figure, axes = panels(3, 2, size=(6, 2.6))
    for row, language in enumerate(SHOWN):
        for ax in axes[2 * row:2 * row + 2]:
            ax.remove()
        sentence(figure.add_subplot(axes[0].get_gridspec()[row, :]), language, font)
    for ax, language in zip(axes[4:], tales):
        for lesson, (color, _) in LESSONS.items():
            sizes = [tokens_a_sentence(tokenizer, language) for tokenizer in curves[lesson]]
            ax.plot(steps, sizes, color=color, lw=2, label=lesson)
        ax.set(title=f"Sentences in {language}", xlabel="merges learned", ylabel="tokens a sentence", xlim=(0, MERGES),
               ylim=(0, None))
        ax.legend()
    return figure


# %%
if __name__ == "__main__":
    options = argparse.ArgumentParser(description="What a tokenizer does to Korean")
    options.add_argument("--out", type=Path, default=Path("runs/korean-tokens.png"), help="where the picture goes")
    options.add_argument("--font", help="a font file with Hangul")
    options = given(options)
    font = hangul_font(options.font)
    keep(picture(font), options.out)
    print(f"\npicture in {options.out}" + ("" if font else " (no font here has Hangul, so it is romanised; see --font)"))
    english, korean = (tokens_a_sentence(curves[f"learned from {l}"][-1], "Korean") for l in ("English", "Korean"))
    print(f"Korean in merges learned from English {english:.1f} tokens a sentence, from Korean {korean:.1f}")
