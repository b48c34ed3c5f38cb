# %% [markdown]
"""# A model that makes its own instructions

Idea: instructions are dear. From a few dozen a model can propose more, and answer them itself; a filter keeps what is new
(Wang et al. 2023 [SELFINSTRUCT]). Nobody looks at the answers. Here every answer can be judged: how much of such data is
wrong, and does a model that learns from it obey more than one that learned from the seeds alone?

    python examples/15_self_instruct.py                 # --fast: seconds
    python examples/15_self_instruct.py --full          # what docs/instructions.md quotes: two to three minutes

Takes 50 s on two cores. Guess where it asks, before you read on.
Last line: held-out instructions obeyed: seeds alone 8%, with the model's own 7%; 67% of its own answers are wrong
"""
# %%
import argparse
from collections import Counter
from copy import deepcopy
from pathlib import Path

import numpy as np

from tinygrad_lm.models.grown import ready_to_chat
from tinygrad_lm.text.instructions import instructions, obeys, understood
from tinygrad_lm.train import self_instruct as si
from tinygrad_lm.train.instruct import ask, base_model, base_texts, obedience, tokenizer_for
from tinygrad_lm.train.pretrain import PretrainConfig
from tinygrad_lm.train.report import BLUE, GREEN, GREY, ORANGE, panels
from tinygrad_lm.train.run import Run
from tinygrad_lm.train.script import given, keep
from tinygrad_lm.train.sft import SFTConfig

options = argparse.ArgumentParser()
options.add_argument("--out", type=Path, default=Path("runs/examples"), help="folder for the figure and the base model")
options.add_argument("--seed", type=int, default=0)
options.add_argument("--rounds", type=int, help="2 by default, 3 with --full")
length = options.add_mutually_exclusive_group()
length.add_argument("--full", action="store_true", help="more steps and proposals")
length.add_argument("--fast", action="store_true", help="a smaller model, and few steps")
options = given(options)
steps, width, proposals = (((6, 6), 32, 16) if options.fast else ((1500, 300), 64, 200) if options.full else
                           ((1200, 300), 64, 150))
ROUNDS = options.rounds or (3 if options.full else 2)
T, SEEDS = 72, 4                                                                 # seeds of each kind in each language

# %% [markdown]
# 1. The base model of 14_instructions.py, and a few instructions of each kind: the seeds.

# %%
learned, held_out = instructions(seed=options.seed)
texts = base_texts(held_out)
tokenizer = tokenizer_for(texts)
run = Run(options.out / f"base-{options.seed}-{steps[0]}", stage="pretrain", tokenizer=tokenizer, resume=True)
base = base_model(texts, tokenizer, PretrainConfig(steps=steps[0], batch_size=16), block_size=T, width=width,
                  seed=options.seed, run=run)
rng = np.random.default_rng(options.seed)
base, tokenizer, template = ready_to_chat(base, tokenizer, rng=rng)
seen, seeds = Counter(), []
for i in (learned[n] for n in rng.permutation(len(learned))):
    seen[i.kind, i.language] += 1
    if seen[i.kind, i.language] <= SEEDS:
        seeds.append((i.text, i.answer))
print(f"1. {len(seeds)} seeds, such as {seeds[0][0]!r} -> {seeds[0][1]!r}")
config = SFTConfig(steps=steps[1], batch_size=16)


def tuned(pairs, *, also_asking=False):
    """The base model, fine-tuned on these pairs."""
    model = deepcopy(base)
    si.learn(model, tokenizer, template, pairs, config, rng=np.random.default_rng(1), also_asking=also_asking)
    return model


# %% [markdown]
# 2. Rounds. Each begins by fine-tuning the base model on the pool, on the questions too, so that it can ask; what it
# asks and the filter keeps joins the pool.

# %%
print(f"\nGuess first: of {proposals} proposals a round, how many will the filter keep, and how many of those are "
      "questions?")
first = tuned(seeds)


def propose(pool, n):
    asking = tuned([(k.text, k.answer) for k in pool], also_asking=True)
    return si.proposer(asking, tokenizer, template, rng=rng)(pool, n)


answer = si.answerer(first, tokenizer, template, rng=rng)
own, history = si.self_instruct(seeds, propose, answer, rounds=ROUNDS, proposals=proposals)
print("\n2. " + "".join(f"{name:>12}" for name in ("round", *history[0])))
for number, counts in enumerate(history, 1):
    print("   " + "".join(f"{n:12}" for n in (number, *counts.values())))
for k in own[:: max(1, len(own) // 8)][:8]:
    item = understood(k.text)
    verdict = "nobody can say" if item is None else "right" if obeys(item, k.answer) else f"wrong: {item.answer}"
    print(f"   {k.text} -> {k.answer}   ({verdict})")

# %% [markdown]
# 3. What is it worth? The same base model, on the seeds alone and on the seeds with its own; the same number of steps.

# %%
both = tuned([*seeds, *((k.text, k.answer) for k in own)])
shares = [obedience(held_out, ask(m, tokenizer, template, [i.text for i in held_out], rng=rng)) for m in (first, both)]
known, wrong = (sum(h[key] for h in history) for key in ("known", "wrong"))
kinds = Counter(f"{item.kind} {item.language}" if item else "unknown" for item in (understood(k.text) for k in own))
print("\n3. What it asked about: " + ", ".join(f"{kind} {n}" for kind, n in kinds.most_common()))

figure, (left, right) = panels(1, 2, size=(4.6, 3.4))
left.hist([k.similarity for k in own], bins=np.linspace(0, si.SIMILAR, 15), color=BLUE)
left.set(title="How near the nearest in the pool was", xlabel="ROUGE-L", ylabel="instructions kept", xlim=(0, 1))
left.axvline(si.SIMILAR, color=GREY, ls="--", lw=1)
numbers = np.arange(1, ROUNDS + 1)
bottom = np.zeros(ROUNDS)
right_ones = [h["known"] - h["wrong"] for h in history]
for label, values, color in (("right", right_ones, GREEN), ("wrong", [h["wrong"] for h in history], ORANGE),
                             ("no checker", [h["kept"] - h["known"] for h in history], GREY)):
    right.bar(numbers, values, 0.6, bottom=bottom, color=color, label=label)
    bottom += values
right.set(title="What a round keeps", xlabel="round", xticks=numbers)
right.set_ylim(0, 1.4 * max(bottom))
right.legend(loc="upper right", ncols=3, fontsize=8)
keep(figure, options.out / "self-instruct.png")

# %%
print(f"\nheld-out instructions obeyed: seeds alone {shares[0]['all']:.0%}, with the model's own {shares[1]['all']:.0%}; "
      f"{wrong / max(known, 1):.0%} of its own answers are wrong")
