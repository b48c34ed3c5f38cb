# %% [markdown]
"""# Fill the blank

Idea: a GPT sees what came before. Hide letters within a text and let a network see both sides, and it learns to say
what stood there: BERT (Devlin et al. 2019 [BERT]). The blocks are the GPT's, without the mask that forbids to look
ahead; what is learned comes from the text itself, as before. How much is the right side worth?

    python examples/12_fill_the_blank.py                     # --language ko, --text FILE; --fast: fewer steps

Takes 60 s on two cores. There is a question before each result: answer it before you read on.
Last line: of single hidden letters BERT fills in 64%, a 5-gram that sees the left side alone 52%
"""
# %%
import argparse
import re
from pathlib import Path

import numpy as np

import tinygrad_lm as tg
from tinygrad_lm.models import BERT, GPTConfig, NGram
from tinygrad_lm.models.bert import hide
from tinygrad_lm.nn import evaluating
from tinygrad_lm.optim import warmup_cosine
from tinygrad_lm.text.batches import Windows
from tinygrad_lm.text.corpus import read_text
from tinygrad_lm.text.letters import LetterTokenizer
from tinygrad_lm.text.stories import stories
from tinygrad_lm.train import train_step
from tinygrad_lm.train.report import BLUE, GREY, ORANGE, line, panels
from tinygrad_lm.train.script import given, keep

options = argparse.ArgumentParser()
options.add_argument("--language", choices=["en", "ko"], default="en")
options.add_argument("--text", type=Path, help="a text of yours (UTF-8)")
options.add_argument("--steps", type=int, help="steps of training")
options.add_argument("--out", type=Path, default=Path("runs/examples"), help="folder for the figure")
options.add_argument("--fast", action="store_true", help="a smaller model, fewer steps")
options = given(options)
STEPS = options.steps or (80 if options.fast else 1000)
T, C, LAYERS, BATCH = (24, 32, 2, 24) if options.fast else (24, 96, 3, 48)
HIDDEN = "_"

# %% [markdown]
# 1. The task. Of the letters, 20 % are to be guessed; most of them are hidden, some are replaced by another and some
# stay, so that the network must have an opinion of every letter. The last tenth of the text is kept apart.

# %%
text = (read_text(options.text) if options.text else stories(options.language)).replace(HIDDEN, " ")
tokenizer = LetterTokenizer.from_text(text + HIDDEN)
ids, V, hidden = tokenizer.encode(text), len(tokenizer), int(tokenizer.encode(HIDDEN)[0])
cut = len(ids) * 9 // 10
learned, held_out = Windows(ids[:cut], T), Windows(ids[cut:], T)
rng = np.random.default_rng(0)


def letters(row):
    """Tokens as letters, Hangul too: what the network sees."""
    return "".join(tokenizer.decode([i]) for i in row).replace("\n", " ")


idx, _ = held_out.sample(np.random.default_rng(1), 1)
inputs, targets = hide(idx, hidden=hidden, vocab_size=V, rng=np.random.default_rng(3), share=0.2)
print("1. Guess first: what stood at each of the blanks?")
print(f"   {letters(inputs[0])}\n   {letters(idx[0])}")
print("   to guess: " + "".join(letters([i]) if t != -100 else "·" for i, t in zip(idx[0], targets[0])))

# %% [markdown]
# 2. Learning: the loop of the tiny GPT, with hidden letters in place of next ones.

# %%
model = BERT(GPTConfig(V, T, n_layer=LAYERS, n_head=4, n_embd=C, causal=False, activation="gelu"), rng=rng)
for embedding in (model.wte, model.wpe):             # BERT had a million steps to find out where its neighbours are:
    embedding.weight.data *= 10                      # where places are larger from the start, hundreds will do


def guesses(rows, places):
    """The scores of each token at one place of each row, which is hidden: (N, V)"""
    blanked = rows.copy()
    blanked[np.arange(len(rows)), places] = hidden
    with tg.no_grad(), evaluating(model):
        scores = np.concatenate([model(part).numpy() for part in np.array_split(blanked, -(-len(rows) // 64))])
    return scores[np.arange(len(rows)), places]


exam = np.random.default_rng(2)
rows, _ = held_out.sample(exam, 100 if options.fast else 800)
places = exam.integers(5, T - 5, size=len(rows))                          # with something on both sides
answers = rows[np.arange(len(rows)), places]


def share_right(scores):
    return (scores.argmax(-1) == answers).mean()


print(f"\n2. {model.n_parameters():,} parameters. Guess first: of single letters hidden in text that it has not read, what "
      "share\n"
      "   will it fill in?")
opt, history = tg.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.98), weight_decay=0.01), []
for step in range(1, STEPS + 1):
    opt.lr = warmup_cosine(step - 1, lr=3e-3, warmup=min(100, STEPS // 10), total=STEPS)
    batch, _ = learned.sample(rng, BATCH)
    loss = train_step(model, opt, *hide(batch, hidden=hidden, vocab_size=V, rng=rng, share=0.2), max_norm=1.0)
    if step == 1 or step % max(1, STEPS // 10) == 0:
        history.append({"step": step, "right": share_right(guesses(rows, places))})
        if step == 1 or step % max(1, STEPS // 5) == 0:
            print(f"   step {step:>5}   {loss:.2f} nats a hidden letter; fills in {history[-1]['right']:.0%}", flush=True)

# %% [markdown]
# 3. The left side alone: a 5-gram says which letter comes next. And what each is worth where the letter stands.

# %%
print("\n3. Guess first: a 5-gram that has read the same guesses from the four letters on the left. What share of them?")
counts = NGram([text[:len(text) * 9 // 10]], tokenizer, order=5)
from_left = np.stack([counts.next_logprobs(row[:place]) for row, place in zip(rows, places)])
print(f"   5-gram {share_right(from_left):.0%}, BERT {share_right(guesses(rows, places)):.0%}")
sure = guesses(rows, places)
for number in np.random.default_rng(5).choice(len(rows), 5, replace=False):
    row, place = rows[number].copy(), places[number]
    p = np.exp(sure[number] - sure[number].max())
    p /= p.sum()
    best = np.argsort(-p)[:3]
    row[place] = hidden
    print(f"   {letters(row)}   {letters(answers[number:number + 1])!r}: BERT "
          f"{', '.join(f'{letters([i])} {p[i]:.0%}' for i in best)}; 5-gram {letters([from_left[number].argmax()])}")

# %% [markdown]
# 4. A whole word. All of its letters are hidden; the network fills in the one that it is surest of, and looks again.

# %%


def fill(row, blank):
    """The row with its places `blank` filled in, surest first."""
    row, left = row.copy(), list(blank)
    row[left] = hidden
    while left:
        with tg.no_grad(), evaluating(model):
            scores = model(row[None]).numpy()[0, left]                    # (how many are left, V)
        scores[:, hidden] = -np.inf
        p = np.exp(scores - scores.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        surest = p.max(-1).argmax()
        row[left[surest]] = p[surest].argmax()
        del left[surest]
    return row


print("\n4. Guess first: with a whole word hidden, will it write a word? The right one?")
hits = []
vocabulary = set(re.findall(r"\w+", text))
for row in rows[:30 if options.fast else 200]:
    shown = letters(row)
    words = [m for m in re.finditer(r"(?<=\s)\w{3,6}(?=\s)", shown) if 4 <= m.start() and m.end() <= T - 4]
    if words:
        word = words[len(words) // 2]
        filled = letters(fill(row, range(*word.span())))
        hits.append((filled[slice(*word.span())] == word[0], filled[slice(*word.span())] in vocabulary))
        if len(hits) <= 6:
            print(f"   {shown[:word.start()]}[{filled[slice(*word.span())]}]{shown[word.end():]}   was {word[0]!r}")
if hits:
    right, real = np.mean(hits, axis=0)
    print(f"   of {len(hits)} words {right:.0%} right; {real:.0%} are words of the text")

# %%
figure, (ax,) = panels(1, 1, size=(5.6, 3.4))
line(ax, history, "right", "BERT: both sides", color=BLUE, marker="o", ms=3)
ax.axhline(share_right(from_left), color=ORANGE, ls="--", lw=1.2, label="5-gram: the left side")
ax.axhline(np.mean(answers == np.bincount(ids[:cut]).argmax()), color=GREY, ls=":", lw=1.2, label="always the commonest")
ax.set(title="Hidden letters that are filled in", xlabel="step", ylabel="share, in text not read", ylim=(0, None))
ax.legend(loc="lower right")
keep(figure, options.out / "fill-the-blank.png")

# %%
print(f"of single hidden letters BERT fills in {share_right(sure):.0%}, a 5-gram that sees the left side alone "
      f"{share_right(from_left):.0%}")
