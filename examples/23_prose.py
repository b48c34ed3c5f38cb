# %% [markdown]
"""# A style by preference: prose that asks

Idea: the three stages on real prose. A small GPT learns to write as a text is written. A person, here a checker of style,
says which of two continuations they like better: they like to be asked something, in words that sound like the text. A
reward model learns that taste from their votes, and PPO makes the GPT write to it, held close to the GPT that it was.

    python examples/23_prose.py                      # --fast: seconds; --text FILE: prose of your own
    python examples/23_prose.py --full               # what docs/ppo.md quotes: three minutes or more

Takes 90 s on two cores. Guess where it asks, before you read on.
Last line: continuations that ask: 3% before, 59% after PPO at KL 13.6; true reward -1.74 -> -0.65
"""
# %%
import argparse
import copy
import re
import sys
from pathlib import Path

import numpy as np

from tinygrad_lm.generate import generate
from tinygrad_lm.models import GPT, GPTConfig, NGram, RewardModel
from tinygrad_lm.text import person
from tinygrad_lm.text.batches import Windows
from tinygrad_lm.text.char import CharTokenizer
from tinygrad_lm.text.corpus import read_text
from tinygrad_lm.text.stories import stories
from tinygrad_lm.train.pretrain import PretrainConfig, pretrain
from tinygrad_lm.train.ppo import PPOConfig, ppo
from tinygrad_lm.train.report import BLUE, GREY, ORANGE, line, panels
from tinygrad_lm.train.reward import RewardConfig, pair_accuracy, score_answers, train_reward
from tinygrad_lm.train.run import Run
from tinygrad_lm.train.script import given, keep

options = argparse.ArgumentParser()
options.add_argument("--text", type=Path,
                     help="prose of yours (UTF-8), a few hundred kilobytes or more, instead of the stories")
options.add_argument("--steps", type=int, help="steps of pretraining")
options.add_argument("--seed", type=int, default=0)
options.add_argument("--out", type=Path, default=Path("runs/examples"), help="folder for the figure")
length = options.add_mutually_exclusive_group()
length.add_argument("--full", action="store_true", help="a larger model, more steps")
length.add_argument("--fast", action="store_true", help="a smaller model, fewer steps")
options = given(options)
C, STEPS, ANSWERS, ITERATIONS, BATCH = ((32, 60, 96, 6, 32) if options.fast else (96, 700, 1000, 40, 96) if options.full else
                                        (64, 400, 1000, 45, 64))
BEGIN, LENGTH = 16, 48                              # characters that are given, and that are written
rng = np.random.default_rng(options.seed)

# %% [markdown]
# 1. Pretraining, on nine tenths of the text. A continuation begins where a word begins.

# %%
text = read_text(options.text) if options.text else stories("en")
tokenizer = CharTokenizer.from_text(text)
ids = tokenizer.encode(text)
cut = len(ids) * 9 // 10
gpt = GPT(GPTConfig(len(tokenizer), BEGIN + LENGTH, n_layer=3, n_head=4, n_embd=C, dropout=0.1), rng=rng)
loss = pretrain(gpt, Windows(ids[:cut], BEGIN + LENGTH), Windows(ids[cut:], BEGIN + LENGTH),
                PretrainConfig(steps=options.steps or STEPS, batch_size=24), rng=rng, run=Run())
print(f"1. {gpt.n_parameters():,} parameters; {loss:.2f} nats a character on held-out text", flush=True)
starts = np.array([m.start() for m in re.finditer(r"(?<=\s)\w", text[:cut - BEGIN])])
prompts = ids[starts[:, None] + np.arange(BEGIN)]                                # (N, BEGIN)


def write(model, prompts, rng):
    """A continuation of each prompt, with the prompt before it: int (N, BEGIN + LENGTH)"""
    return generate(model, prompts, LENGTH, rng=rng).tokens


# %% [markdown]
# 2. The person. One question is what they want, a heap of question marks is none; and a text that nobody could have written
# pleases them less. How they judge is known here, and no model ever sees it: only votes, with noise.

# %%
letters = NGram([text[:cut]], tokenizer, order=5)
usual = letters.logprob(text[:cut]) / cut                                        # nats a character of the text itself


def asks(answer):
    """Does it ask, once or twice, behind a word?"""
    return 1 <= len(re.findall(r"\w[?？]", answer)) == len(re.findall("[?？]", answer)) <= 2


def true_rewards(tokens):
    """2 for a question, and up to 2 less where the letters follow one another as they never do in the text. (N,)"""
    answers = [tokenizer.decode(row) for row in tokens[:, BEGIN:]]
    likely = letters.logprob_each(answers) / LENGTH
    return 2.0 * np.array([asks(a) for a in answers]) + np.clip(likely - usual, -2, 0)


def share_that_asks(tokens):
    return np.mean([asks(tokenizer.decode(answer)) for answer in tokens[:, BEGIN:]])


def last(tokens):
    return np.full(len(tokens), tokens.shape[1] - 1)


# %% [markdown]
# Where questions are rare, so are votes about them. So a third of the continuations that are put to the vote are the text's
# own that ask something: of the answers that people rank, some were written by people, too.

# %%
asking = starts[[bool(asks(text[s + BEGIN:s + BEGIN + LENGTH])) for s in starts]]
asking = asking[asking + BEGIN + LENGTH <= cut]
if not len(asking):
    sys.exit("this text asks nothing within reach of a prompt: give a --text with question marks in it")
chosen = prompts[rng.integers(len(prompts), size=ANSWERS)]
own = ids[rng.choice(asking, ANSWERS)[:, None] + np.arange(BEGIN + LENGTH)]
answers = np.stack([write(gpt, chosen, rng), write(gpt, chosen, rng), np.concatenate([chosen, own[:, BEGIN:]], axis=1)],
                   axis=1)
truth = true_rewards(answers.reshape(-1, BEGIN + LENGTH)).reshape(ANSWERS, 3)
order = person.rank(2 * truth, rng)[0]                                            # best first, as the person votes
ranked, truth = np.take_along_axis(answers, order[..., None], axis=1), np.take_along_axis(truth, order, axis=1)
learn = ANSWERS * 9 // 10
reward = RewardModel(gpt, rng=rng)
train_reward(reward, ranked[:learn], np.full((learn, 3), BEGIN + LENGTH - 1), RewardConfig(epochs=2, lr=5e-4), rng=rng,
             run=Run(), baseline=(answers[:, 0], last(answers[:, 0])))
held_out = ranked[learn:].reshape(-1, BEGIN + LENGTH)
learned = score_answers(reward, held_out, last(held_out)).reshape(-1, 3)
print(f"2. {share_that_asks(answers[:, 0]):.0%} of its continuations ask something. The reward model orders "
      f"{pair_accuracy(learned, truth[learn:]):.0%} of held-out pairs as the person truly would", flush=True)

# %% [markdown]
# 3. Your prediction, before PPO begins.

# %%
print("\n3. Guess first: PPO now climbs the learned reward. What will the model do: ask real questions, strew question "
      "marks, or repeat\n"
      "   one question for ever?")
guess = input("   real, marks, one: ").strip() if sys.stdin.isatty() else None

# %% [markdown]
# 4. PPO, with the GPT of step 1 as the reference that it is held to.

# %%
policy, run = copy.deepcopy(gpt), Run()
config = PPOConfig(iterations=ITERATIONS, batch_size=BATCH, lr=7e-4, warmup=5, kl_coef=0.12, max_new_tokens=LENGTH)
ppo(policy, RewardModel(gpt), gpt, lambda tokens, last: score_answers(reward, tokens, last), prompts, config, rng=rng,
    run=run, end=None, watch=lambda tokens: {"true_reward": true_rewards(tokens).mean(), "asks": share_that_asks(tokens)})

# %%
same = prompts[np.random.default_rng(1).integers(len(prompts), size=500)]
before, after = (write(m, same, np.random.default_rng(2)) for m in (gpt, policy))
print("\n4. the same beginnings before and after\n")
for a, b in list(zip(before, after))[:6]:
    given, old, new = (tokenizer.decode(x).replace("\n", "⏎") for x in (a[:BEGIN], a[BEGIN:], b[BEGIN:]))
    print(f"   {given}|{old}\n   {'':{BEGIN}}|{new}\n")
if guess is not None:
    print(f"   You expected: {guess}. Look for yourself.\n")

# %%
figure, axes = panels(1, 3)
line(axes[0], run.history, "reward", "learned (seen)", color=BLUE)
line(axes[0], run.history, "true_reward", "true (hidden)", color=ORANGE)
axes[0].legend()
line(axes[1], run.history, "asks", color=ORANGE)
line(axes[2], run.history, "kl", color=GREY)
for ax, title in zip(axes, ["Reward", "Share of continuations that ask", "KL to the pretrained model (nats)"]):
    ax.set(title=title, xlabel="iteration")
keep(figure, options.out / "prose.png")

# %%
print(f"continuations that ask: {share_that_asks(before):.0%} before, {share_that_asks(after):.0%} after PPO at KL "
      f"{run.history[-1]['kl']:.1f}; "
      f"true reward {true_rewards(before).mean():+.2f} -> {true_rewards(after).mean():+.2f}")
