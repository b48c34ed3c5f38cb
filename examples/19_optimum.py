# %% [markdown]
"""# What proves a loop

Idea: a curve of rewards that rises proves little, for half of the bugs of RLHF do not show in it. Where all answers can be
listed the best policy is known, π*(y) ∝ π_ref(y) exp(r(y)/β), and a loop either finds it or does not.

    python examples/19_optimum.py                # one seed; --fast: few iterations
    python examples/19_optimum.py --full         # three seeds, as docs/optimum.md quotes: two to three minutes

Takes 25 s on two cores. Guess where it asks, before you read on.
Last line: The right loop ends 0.003 from the optimum at worst, one epoch 0.005, k3 in the reward 0.836
"""
# %%
import argparse
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np

from tinygrad_lm import no_grad
from tinygrad_lm.parallel import one_blas_thread
from tinygrad_lm.train import ppo as loop
from tinygrad_lm.train.logprobs import token_logprobs
from tinygrad_lm.train.optimum import Task
from tinygrad_lm.train.report import BLUE, GREEN, GREY, RED, panels
from tinygrad_lm.train.script import given, keep

options = argparse.ArgumentParser()
options.add_argument("--seeds", type=int, help="1 by default, 3 with --full")
options.add_argument("--out", type=Path, default=Path("runs/examples"), help="folder for the figure")
length = options.add_mutually_exclusive_group()
length.add_argument("--full", action="store_true", help="three seeds")
length.add_argument("--fast", action="store_true", help="one seed, fewer iterations")
options = given(options)
seeds = range(options.seeds or (3 if options.full else 1))
fewer = {"iterations": 8, "batch_size": 64} if options.fast else {}

# %% [markdown]
# 1. Answers of two symbols out of six: 36 answers, each with a random reward. The reference is a small GPT with random
#    weights; β is 0.5. What should the policy become?

# %%
task = Task(0)
order = np.argsort(-task.optimum())
print("1. The likeliest answers of the best policy\n   answer   reward   π_ref     π*")
for i in order[:5]:
    print(f"   {task.answers[i]!s:<8} {[*task.rewards.values()][i]:+6.2f}   {task.probabilities(task.reference)[i]:.3f}   "
          f"{task.optimum()[i]:.3f}")

# %% [markdown]
# 2. The same loop with one thing changed, and its distance from π* (total variation: the largest difference in the
#    probability of any set of answers). The temperature's bug: answers are written at 0.7 and everything else, the
#    recorded log-probabilities too, is at 1. Every ratio is 1, as it should be, and the curves look well. A penalty that is
#    a loss term is weighed against advantages as they are: whitened ones, which grow while the policy settles, would outvote
#    it.

# %%


@contextmanager
def forgotten_temperature(written=0.7):
    honest = loop.generate

    def generate(model, idx, n, **settings):
        answers = honest(model, idx, n, **settings | {"temperature": written})
        with no_grad():
            mask = np.arange(answers.tokens.shape[1]) > np.zeros((len(idx), 1))
            return replace(answers, logprobs=token_logprobs(model, answers.tokens, mask).data)
    with patch.object(loop, "generate", generate):
        yield


def ppo(seed, temperature=1.0, **settings):
    task = Task(seed, temperature=temperature)
    task.ppo(seed, **fewer | settings)
    return task


def ppo_with_the_bug(seed):
    task = Task(seed, temperature=0.7)
    with forgotten_temperature():
        task.ppo(seed, **fewer | {"temperature": 1.0})
    return task


def dpo(seed):
    task = Task(seed)
    task.dpo(seed, **{"pairs": 4000} if options.fast else {})
    return task


GROUP = {"group": 4, "advantage": "rloo"}
IN_LOSS = {"kl_in": "loss", "whiten_advantages": False}
VARIANTS = [  # name, what trains, what it teaches
    ("PPO: k1 in the reward", ppo, "the right loop finds the optimum"),
    ("the same at temperature 0.7", lambda s: ppo(s, temperature=0.7), "log-probabilities use the temperature, too"),
    ("RLOO: leave-one-out baseline", lambda s: ppo(s, **GROUP), "a value model is not needed"),
    ("GRPO's baseline", lambda s: ppo(s, **GROUP | {"advantage": "grpo"}), "dividing by a group's spread costs little here"),
    ("DPO, pairs of all answers", dpo, "the same optimum, if the pairs cover it"),
    ("written at 0.7, judged at 1", ppo_with_the_bug, "every ratio is 1, and it is wrong"),
    ("k2 in the reward", lambda s: ppo(s, kl="k2"), "a good estimate is a bad penalty:"),
    ("k3 in the reward", lambda s: ppo(s, kl="k3"), "its gradient is another objective's"),
    ("k1 as a loss term", lambda s: ppo(s, **IN_LOSS), "its expected gradient is zero"),
    ("k2 as a loss term", lambda s: ppo(s, **IN_LOSS, kl="k2"), "right on policy, token by token; drifts"),
    ("k3 as a loss term", lambda s: ppo(s, **IN_LOSS, kl="k3"), "the gradient of KL(π_ref‖π)"),
    ("one epoch an iteration", lambda s: ppo(s, epochs=1), "as right, with a quarter of the updates"),
]
print("\nGuess first: which of these twelve loops do not end at the best policy?")
print("\n2. Total variation from the optimum" + " " * 14 + "".join(f"{f'seed {s}':>9}" for s in seeds))
with one_blas_thread():                                                                     # the products are small
    start = [Task(s).distance() for s in seeds]
    print(f"   {'before training':<30}" + " " * 15 + "".join(f"{d:9.3f}" for d in start))
    distances, first = {}, {}
    for name, train, lesson in VARIANTS:
        tasks = [train(s) for s in seeds]
        distances[name], first[name] = [t.distance() for t in tasks], tasks[0]
        print(f"   {name:<30}" + " " * 15 + "".join(f"{d:9.3f}" for d in distances[name]) + f"   {lesson}", flush=True)

# %% [markdown]
# 3. The picture: who finds the optimum, and where the others go instead. k3 in the reward likes answers of the reference
#    too well or too little?

# %%
figure, (left, right) = panels(1, 2, size=(5.6, 4.2))
for y, (name, values) in enumerate(reversed(distances.items())):
    left.plot(values, [y] * len(values), "o", ms=6, color=GREEN if max(values) <= 0.05 else RED, alpha=0.8)
left.set(title="Distance from the best policy", xscale="log", xlabel="total variation, one dot a seed",
         yticks=range(len(distances)), yticklabels=[*reversed(distances)])
for name, color in (("k3 in the reward", RED), (VARIANTS[0][0], BLUE)):
    right.plot(first[name].optimum(), first[name].probabilities(first[name].policy), "o", color=color, ms=4, label=name)
right.plot([1e-5, 1], [1e-5, 1], color=GREY, lw=1, zorder=0)
right.set(title="Each of the 36 answers", xscale="log", yscale="log", xlabel="probability under π*",
          ylabel="under the trained policy")
right.legend()
keep(figure, options.out / "optimum.png")

# %%
print(f"\nThe right loop ends {max(distances[VARIANTS[0][0]]):.3f} from the optimum at worst, one epoch "
      f"{max(distances['one epoch an iteration']):.3f}, k3 in the reward {max(distances['k3 in the reward']):.3f}")
