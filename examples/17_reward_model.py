# %% [markdown]
"""# A reward model: what do people like?

Idea: nobody can write down what a good answer is, but anybody can say which of two is better. A reward model learns
from such votes to give every answer a number, such that the better one's is higher (Ouyang et al. 2022 [INSTRUCT], eq.
1). The person here is simulated, with noise in every vote, so that one can also look behind the curtain: is what the
model learned what they think?

    python examples/17_reward_model.py                       # --fast: seconds

Takes 25 s on two cores. There is a question before each result: answer it before you read on.
Last line: from 1600 rankings it orders 78% of held-out pairs as the person truly would, from 25 rankings 55%
"""
# %%
import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from tinygrad_lm.models import RewardModel
from tinygrad_lm.parallel import one_blas_thread
from tinygrad_lm.text.names import PROMPT_LENGTH, tokenizer
from tinygrad_lm.text.person import rank
from tinygrad_lm.train import road
from tinygrad_lm.train.calibration import calibration, preferences, true_preferences
from tinygrad_lm.train.demo import FAST, Demo, fine_tuned, pretrained
from tinygrad_lm.train.report import BLUE, GREY, ORANGE, panels
from tinygrad_lm.train.reward import RewardConfig, pair_accuracy, train_reward
from tinygrad_lm.train.run import Run
from tinygrad_lm.train.script import given, keep

options = argparse.ArgumentParser()
options.add_argument("--seed", type=int, default=0)
options.add_argument("--out", type=Path, default=Path("runs/examples"), help="folder for the figure")
options.add_argument("--fast", action="store_true", help="sizes too small to learn much")
options = given(options)
size, SIZES, HELD_OUT, STEPS = FAST, (25, 100, 400, 1600), 1000, 200
if options.fast:
    size = replace(FAST, pretrain=replace(FAST.pretrain, steps=10), sft=replace(FAST.sft, steps=5))
    SIZES, HELD_OUT, STEPS = (10, 40), 60, 4

# %% [markdown]
# 1. A model that has read names and has learned to obey: `^k5>` asks for a name of five letters that begins with k.

# %%
folder = options.out / ("names-fast" if options.fast else "names")                # kept: the next example starts here, too
demo = Demo(folder, size, seed=options.seed, resume=True, show=False, device="cpu")
with one_blas_thread():
    base = pretrained(demo, lambda said: print(f"1. {said}"))
    tuned = fine_tuned(demo, base, lambda said: print(f"   {said}", flush=True))

# %% [markdown]
# 2. Votes. The model answers each prompt four times, and the person puts the four in an order: six pairs from one look.

# %%
rng = np.random.default_rng(options.seed)
prompts = demo.prompts[rng.permutation(len(demo.prompts))[:max(SIZES)]]
with one_blas_thread():
    written = road.candidates(tuned, prompts, rng)                                # (N, 4, WIDTH)
    kept = road.candidates(tuned, demo.judged[:HELD_OUT], rng)
truth, kept_truth = road.true_scores(written), road.true_scores(kept)
order = rank(truth, rng)[0]                                                       # best first, as they vote
again = rank(truth, rng)[0]


def spelt(tokens):
    """A prompt and its answer as text."""
    return tokenizer.decode(tokens[:PROMPT_LENGTH]), tokenizer.decode(tokens[PROMPT_LENGTH:])


print("\n2. Four answers to a prompt. Guess first: in which order does the person put them? They like an answer that does "
      "what\n"
      "   was asked, sounds soft, and could be a name.")
for n in range(3):
    answers = [f"{spelt(written[n, k])[1]} ({truth[n, k]:+.1f})" for k in order[n]]
    print(f"   {spelt(written[n, 0])[0]}  best first: " + ", ".join(answers))
ranks, ranks_again = order.argsort(-1), again.argsort(-1)
print(f"   In brackets what they really think, which no model sees. Asked twice, they order "
      f"{pair_accuracy(-ranks, -ranks_again):.0%} of the pairs alike.")

# %% [markdown]
# 3. The loss of a pair is -log σ(r⁺ - r⁻). The model is the fine-tuned GPT with one number for a head, read off at the
# last token.

# %%
print(f"\n3. Guess first: learning from {', '.join(map(str, SIZES[:-1]))} and {SIZES[-1]} rankings, how many of the "
      "held-out\n"
      "   pairs come out in the order of what the person really thinks?")
ranked = np.take_along_axis(written, order[..., None], axis=1)
found = {}
with one_blas_thread():
    for n in SIZES:
        reward = RewardModel(tuned, rng=np.random.default_rng(options.seed))
        epochs = -(-STEPS // -(-n // RewardConfig.batch_size))                    # as many steps for each
        train_reward(reward, ranked[:n], road.last_of(ranked[:n]), RewardConfig(epochs=epochs), run=Run(),
                     rng=np.random.default_rng(options.seed), baseline=(kept[:, 0], road.last_of(kept[:, 0])))
        learned = road.learned_scores(reward, kept)
        seen = road.learned_scores(reward, ranked[:n])
        found[n] = pair_accuracy(learned, kept_truth), pair_accuracy(seen)
        truly, votes = found[n]
        print(f"   {n:>5} rankings: {truly:.0%} of held-out pairs as in truth; {votes:.0%} of the votes it learned from",
              flush=True)
print("   All took as many steps. What has only a few votes to learn from learns them by heart, with their noise.")

# %% [markdown]
# 4. Ask it about answers that nobody wrote.

# %%
print("\n4. Guess first: which of these answers to ^k5> does it like best, and what does it think of the last two?")


def asked(prompt, answers):
    """The learned and the true reward of answers that we write: two arrays"""
    rows = [[*tokenizer.encode(prompt + a), tokenizer.end] for a in answers]
    tokens = np.array([row + [tokenizer.pad] * (road.WIDTH - len(row)) for row in rows])
    return road.learned_scores(reward, tokens), road.true_scores(tokens)


OWN = ("kevin", "kelly", "kaelani", "bob", "kkkkk", "laaaaaaaaaa")
for answer, r, t in sorted(zip(OWN, *asked("^k5>", OWN)), key=lambda a: -a[1]):
    print(f"   {answer:<12} learned {r:+.2f}   true {t:+.2f}")

# %% [markdown]
# 5. It also says how sure it is: σ of the difference is the probability that the person prefers one to the other.

# %%
print("\n5. Guess first: where it says 90 %, is the person's true preference as clear?")
sure, signs = preferences(learned * reward.std.item())
really = true_preferences(kept_truth, signs)
said, is_so, n = calibration(sure, really)
for s, r, k in zip(said, is_so, n):
    print(f"   says {s:.0%}: {r:.0%} in truth, over {k:,} pairs")

# %%
figure, axes = panels(1, 3, size=(4.0, 3.3))
axes[0].plot(list(found), [f[0] for f in found.values()], "o-", color=BLUE, label="held out, the truth")
axes[0].plot(list(found), [f[1] for f in found.values()], "o-", color=ORANGE, label="learned from, the votes")
axes[0].set(title="Pairs in the right order", xscale="log", xlabel="rankings learned from", ylabel="share")
axes[0].set_xticks(list(found), list(found))
axes[0].minorticks_off()
axes[0].legend()
for k, color, label in ((0, BLUE, "its own answer"), (2, GREY, "drawn at temperature 1.4"),
                        (3, ORANGE, "another prompt's answer")):
    axes[1].plot(kept_truth[:, k], learned[:, k], "o", ms=2, color=color, alpha=0.5, label=label)
axes[1].set(title="What it learned, and what they think", xlabel="true reward", ylabel="learned reward")
axes[1].legend(markerscale=2.5, fontsize=8)
axes[2].plot([0.5, 1], [0.5, 1], color=GREY, lw=1)
axes[2].plot(said, is_so, "o-", color=BLUE)
axes[2].set(title="How sure, and how right", xlabel="it says", ylabel="in truth")
keep(figure, options.out / "reward-model.png")

# %%
few, many = SIZES[0], SIZES[-1]
print(f"from {many} rankings it orders {found[many][0]:.0%} of held-out pairs as the person truly would, from {few} "
      f"rankings {found[few][0]:.0%}")
