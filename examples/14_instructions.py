# %% [markdown]
"""# From a model that continues to a model that answers

Idea: a base model has read what "cat" is backwards, and cannot be asked for it: whatever it is told, it goes on writing. A
few hundred instructions with their answers teach it what a question is (Ouyang et al. 2022 [INSTRUCT]). Each instruction has
a checker, so obedience is a number, before and after.

    python examples/14_instructions.py               # --fast: seconds
    python examples/14_instructions.py --full        # what docs/instructions.md quotes: three minutes

Takes 45 s on two cores. Guess where it asks, before you read on.
Last line: it obeys 1% of the held-out instructions before, 25% after, and 89% of those that it learned from
"""
# %%
import argparse
from pathlib import Path

import numpy as np

from tinygrad_lm.generate import generate
from tinygrad_lm.models.conversation import Conversation
from tinygrad_lm.models.grown import ready_to_chat
from tinygrad_lm.text.batches import pack
from tinygrad_lm.text.conversations import render_all
from tinygrad_lm.text.instructions import KINDS, LANGUAGES, fact, instructions
from tinygrad_lm.text.show import show_learned
from tinygrad_lm.train.instruct import ask, base_model, base_texts, complete, obedience, tokenizer_for
from tinygrad_lm.train.pretrain import PretrainConfig
from tinygrad_lm.train.report import BLUE, GREEN, GREY, ORANGE, panels
from tinygrad_lm.train.run import Run
from tinygrad_lm.train.script import given, keep
from tinygrad_lm.train.sft import SFTConfig, sft

options = argparse.ArgumentParser()
options.add_argument("--out", type=Path, default=Path("runs/examples"), help="folder for the figure")
options.add_argument("--seed", type=int, default=0)
options.add_argument("--steps", type=int, nargs=2, help="of pretraining, and of fine-tuning")
length = options.add_mutually_exclusive_group()
length.add_argument("--full", action="store_true", help="1500 steps of pretraining and 600 of fine-tuning")
length.add_argument("--fast", action="store_true", help="a smaller model, and few steps")
options = given(options)
T = 72                                                                           # tokens that the model reads
steps, width = ((6, 6), 32) if options.fast else ((1500, 600) if options.full else options.steps or (1200, 400), 64)

# %% [markdown]
# 1. The base model reads stories, and lines about words: `cat: backwards tac.` or `cat: letters 3.` No line is a
# question, and none is about a word that we shall ask for in the end.

# %%
learned, held_out = instructions(seed=options.seed)
texts = base_texts(held_out)
tokenizer = tokenizer_for(texts)
folder = options.out / f"base-{options.seed}-{steps[0]}"                          # pretrained once, and kept there
run = Run(folder, stage="pretrain", tokenizer=tokenizer, resume=True)
config = PretrainConfig(steps=steps[0], batch_size=16)
model = base_model(texts, tokenizer, config, block_size=T, width=width, seed=options.seed, run=run)
print(f"1. {len(texts):,} texts; {model.n_parameters():,} parameters, {len(tokenizer)} tokens in the vocabulary; after "
      f"{steps[0]} steps the loss is {run.history[-1]['loss']:.2f} nats a token")

# %% [markdown]
# 2. What does it know? Where its own lines would go on, it says what it has understood, of words that it never read. But who
# asks like that? Ask it for its name in plain words: what will it write?

# %%
print("\nGuess first: of instructions about words that it never saw, what share will it obey before tuning, and after?")
rng = np.random.default_rng(options.seed)


def base_answers(prompts):
    """What it writes behind each of them, up to a full stop."""
    prompts = [[tokenizer.end, *tokenizer.encode(prompt)] for prompt in prompts]
    return complete(model, tokenizer, prompts, end=tokenizer.encode(".")[0], rng=rng)


about_words = [i for i in held_out if i.kind != "name"]
knows = obedience(about_words, base_answers([fact(i.kind, i.language, i.word) for i in about_words]))
before = obedience(held_out, base_answers([i.text + " " for i in held_out]))
print("\n2. Asked in plain words, the base model goes on and on:")
QUESTIONS = ("What is your name?", "milk: spell it backwards.", "milk: how many letters?", "이름이 뭐야?")
for question in QUESTIONS:
    idx = np.array([[tokenizer.end, *tokenizer.encode(question + " ")]])
    written = generate(model, idx, 60, rng=np.random.default_rng(3), temperature=0.7).tokens[0]
    print(f"   {question} …{tokenizer.decode(written)[len(question):]}")

# %% [markdown]
# 3. Fine-tuning: the vocabulary grows by four role tokens, and the loss is on the answers alone. Which tokens will be green?

# %%
model, tokenizer, template = ready_to_chat(model, tokenizer, rng=rng)
examples, counts = render_all([i.conversation() for i in learned], tokenizer, template, room=T + 1)
answers = pack(examples, T)
print(f"\n3. {len(learned)} instructions in {len(answers.idx)} rows, {answers.filled:.0%} full; the first three:")
for example in examples[:3]:
    show_learned(tokenizer, example.ids, example.learned)
sft(model, answers, answers, SFTConfig(steps=steps[1], batch_size=16), rng=np.random.default_rng(2), run=Run())

# %% [markdown]
# 4. The same questions again. Of which kinds will it answer what it was never told, and of which only what it has learned
# by heart?

# %%


def told(items):
    return obedience(items, ask(model, tokenizer, template, [i.text for i in items], rng=rng))


print("\n4. The tuned model answers:")
for question in QUESTIONS:
    talk = Conversation(model, tokenizer, template, rng=rng, temperature=0, max_new_tokens=32)
    print(f"   {question} {''.join(talk.ask(question))}")
after, by_heart = told(held_out), told(learned)
print(f"\n   {'share that obeys, %':<24}{'known as a line':>16}{'before':>9}{'after':>9}{'learned from':>15}")
rows = [(k, language) for language in LANGUAGES for k in KINDS if (k, language) in after]
for key in rows:
    known = f"{knows[key]:16.0%}" if key in knows else " " * 16
    print(f"   {' '.join(key):<24}{known}{before[key]:9.0%}{after[key]:9.0%}{by_heart[key]:15.0%}")

# %%
figure, (ax,) = panels(1, 1, size=(8.4, 3.8))
places = np.arange(len(rows))
for n, (label, shares, color) in enumerate([
        ("the line's beginning, base model", knows, GREY), ("the question, base model", before, ORANGE),
        ("the question, tuned", after, BLUE), ("learned from, tuned", by_heart, GREEN)]):
    ax.bar(places + 0.2 * (n - 1.5), [100 * shares.get(key, 0) for key in rows], 0.2, color=color, label=label)
ax.set(title="Instructions that are obeyed, %", ylim=(0, 104))
ax.set_xticks(places, ["\n".join(key) for key in rows])
ax.grid(axis="x", visible=False)
figure.legend(loc="outside lower center", ncols=4, fontsize=8)
keep(figure, options.out / "instructions.png")

# %%
print(f"\nit obeys {before['all']:.0%} of the held-out instructions before, {after['all']:.0%} after, and "
      f"{by_heart['all']:.0%} of those that it learned from")
