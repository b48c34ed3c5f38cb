# %% [markdown]
"""# A tiny GPT learns Korean

Idea: the same network and the same loop, in a script where a character is a syllable built of letters. What is a token
then? With a token a letter (jamo) 33 of them spell every syllable there is; with byte-level merges a token is a
frequent piece, and a text is fewer of them. Both read the same Korean stories, as many steps each, and both are
measured in bits a byte: losses a token cannot be compared where tokens differ.

    python examples/09_tiny_gpt_korean.py                    # --steps N; --fast: fewer steps; --text FILE: a text of yours

Takes 60 s on two cores. There is a question before each result: answer it before you read on.
Last line: bits a byte: letters 2.25, at best 2.25; merges 2.34, at best 2.30; a 5-gram of letters 1.88
"""
# %%
import argparse
from math import log
from pathlib import Path

import numpy as np

import tinygrad_lm as tg
from tinygrad_lm.generate import generate
from tinygrad_lm.models import GPT, GPTConfig, NGram
from tinygrad_lm.optim import warmup_cosine
from tinygrad_lm.text.batches import Windows
from tinygrad_lm.text.corpus import read_text
from tinygrad_lm.text.letters import LetterTokenizer
from tinygrad_lm.text.stories import stories
from tinygrad_lm.text.tokenizer_json import train_bpe
from tinygrad_lm.train import train_step
from tinygrad_lm.train.pretrain import evaluate
from tinygrad_lm.train.report import BLUE, GREY, ORANGE, line, panels
from tinygrad_lm.train.script import given, keep

options = argparse.ArgumentParser()
options.add_argument("--text", type=Path, help="a Korean text of yours (UTF-8)")
options.add_argument("--steps", type=int, help="steps of training, of each of the two")
options.add_argument("--merges", type=int, default=250, help="merges of the byte-level tokenizer")
options.add_argument("--seed", type=int, default=0)
options.add_argument("--out", type=Path, default=Path("runs/examples"), help="folder for the figure")
options.add_argument("--fast", action="store_true", help="a smaller model, fewer steps")
options = given(options)
STEPS = options.steps or (40 if options.fast else 600)
T, C, LAYERS = (32, 32, 2) if options.fast else (64, 96, 3)

# %% [markdown]
# 1. The same text as two rows of tokens. The last tenth is kept apart; merges are learned from the rest.

# %%
text = read_text(options.text) if options.text else stories("ko")
learned, held_out = text[:len(text) * 9 // 10], text[len(text) * 9 // 10:]
SENTENCE = "할머니는 물을 마셨다."
TOKENIZERS = {"letters": LetterTokenizer.from_text(text + SENTENCE),
              "merges": train_bpe([learned], 256 + options.merges, special=())}
print(f"1. Guess first: {SENTENCE!r} is how many letters, and how many tokens of byte-level merges?")
for name, tokenizer in TOKENIZERS.items():
    ids = tokenizer.encode(SENTENCE)
    pieces = tokenizer.encode(learned)
    print(f"   {name:<8} {len(ids):>3} tokens, of {len(tokenizer)} that there are; the stories are {len(pieces):,}, "
          f"{len(learned.encode()) / len(pieces):.1f} bytes each")


# %% [markdown]
# 2. The loop, for one after the other.

# %%
def bits_a_byte(nats, tokens, text):
    """Nats a token, over so many tokens, in bits a byte of the text that they spell."""
    return nats * tokens / log(2) / len(text.encode())


def write(model, tokenizer, length, *, temperature=0.8):
    """What the model writes after an empty line, from the same seed each time."""
    tokens = generate(model, tokenizer.encode("\n\n")[None], length, rng=np.random.default_rng(options.seed),
                      temperature=temperature).tokens
    return " ".join(tokenizer.decode(tokens[0]).split())


def learn(name, tokenizer):
    """(the model, its history)"""
    rng = np.random.default_rng(options.seed)
    ids, kept = tokenizer.encode(learned), tokenizer.encode(held_out)
    data, apart, history = Windows(ids, T), Windows(kept, T), []
    model = GPT(GPTConfig(len(tokenizer), T, n_layer=LAYERS, n_head=4, n_embd=C, dropout=0.1), rng=rng)
    opt = tg.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.95), weight_decay=0.1)
    print(f"\n   {name}: {model.n_parameters():,} parameters")
    for step in range(1, STEPS + 1):
        opt.lr = warmup_cosine(step - 1, lr=2e-3, warmup=min(100, STEPS // 10), total=STEPS)
        train_step(model, opt, *data.sample(rng, 24), max_norm=1.0)
        if step == 1 or step % max(1, STEPS // 8) == 0:
            nats = evaluate(model, apart)
            history.append({"step": step, "bits": bits_a_byte(nats, len(kept), held_out)})
            if step == 1 or step % max(1, STEPS // 4) == 0:
                print(f"   step {step:>5}   {nats:.2f} nats a token, {history[-1]['bits']:.2f} bits a byte   "
                      f"{write(model, tokenizer, 64 if name == 'letters' else 32)[:36]}", flush=True)
    return model, history


print("\n2. Guess first: which of the two writes whole words sooner? Which has the larger loss a token, and which a byte?")
trained = {name: learn(name, tokenizer) for name, tokenizer in TOKENIZERS.items()}

# %% [markdown]
# 3. What a network of letters can do wrong that one of syllables cannot: letters in an order that makes no syllable
# stay letters.

# %%
print("\n3. Guess first: how many syllables that are written letter by letter fall apart? How many words are in the text?")
words = set(text.split())
for name, (model, _) in trained.items():
    written = write(model, TOKENIZERS[name], 400 if name == "letters" else 200)
    syllables = sum("가" <= c <= "힣" for c in written)
    single = sum("ㄱ" <= c <= "ㅣ" for c in written) + written.count("\ufffd")
    own = np.mean([word in words for word in written.split()[:-1]] or [0])
    print(f"   {name:<8} {syllables} syllables, {single} loose letters or bytes; {own:.0%} of its words are in the text\n"
          f"      {written[:110]}")

# %% [markdown]
# 4. And a table of counts, of the letters.

# %%
print("\n4. Guess first: on so little text, which is best: letters, merges, or a 5-gram of letters, which only counts?")
counts, kept = NGram([learned], TOKENIZERS["letters"], order=5), TOKENIZERS["letters"].encode(held_out)
counted = bits_a_byte(-counts.logprob(held_out) / len(kept), len(kept), held_out)
figure, (ax,) = panels(1, 1, size=(5.6, 3.4))
for (name, (_, history)), color in zip(trained.items(), (ORANGE, BLUE)):
    line(ax, history, "bits", f"GPT, {name}", color=color, marker="o", ms=4)
ax.axhline(counted, color=GREY, ls="--", lw=1.2, label="5-gram of letters")
ax.set(title="Korean stories that it has not read", xlabel="step", ylabel="bits a byte")
ax.legend()
keep(figure, options.out / "tiny-gpt-korean.png")

# %%
bits = {name: [h["bits"] for h in history] for name, (_, history) in trained.items()}
print("bits a byte: " + "; ".join(f"{name} {b[-1]:.2f}, at best {min(b):.2f}" for name, b in bits.items()) +
      f"; a 5-gram of letters {counted:.2f}")
