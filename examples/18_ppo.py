# %% [markdown]
"""# PPO, and what it really climbs

Idea: a reward model gives every answer a number; PPO [PPO] changes the model until its own answers get higher ones, and
a KL penalty holds it close to what it was. The number is learned, not true. Here the person behind it is simulated, so
that both can be drawn: what PPO climbs, and what the person thinks of it.

    python examples/18_ppo.py                                # --fast: seconds; --full: the demo's sizes, 3 minutes

Takes 25 s on two cores. There is a question before each result: answer it before you read on.
Last line: with a penalty: learned +0.89, true +3.26; without: learned +3.37, true +0.50
"""
# %%
import argparse
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np

from tinygrad_lm.parallel import one_blas_thread
from tinygrad_lm.text.names import tokenizer
from tinygrad_lm.train import road
from tinygrad_lm.train.demo import FAST, SHOWN, Demo, DemoConfig, judge_policy, narrowly_rewarded, prepared, without_penalty
from tinygrad_lm.train.ppo import PPOConfig, ppo, value_for
from tinygrad_lm.train.report import BLUE, GREY, INK, ORANGE, line, panels
from tinygrad_lm.train.run import Run
from tinygrad_lm.train.script import given, keep

options = argparse.ArgumentParser()
options.add_argument("--seed", type=int, default=0)
options.add_argument("--out", type=Path, default=Path("runs/examples"), help="folder for the figure")
length = options.add_mutually_exclusive_group()
length.add_argument("--full", action="store_true", help="the demo's sizes")
length.add_argument("--fast", action="store_true", help="sizes too small to learn much")
options = given(options)
size = replace(FAST, ppo=PPOConfig(iterations=40, warmup=5))
if options.full:
    size = DemoConfig()
elif options.fast:
    size = replace(FAST, pretrain=replace(FAST.pretrain, steps=10), sft=replace(FAST.sft, steps=5), rankings=40, judged=60,
                   ppo=PPOConfig(iterations=4, warmup=1, batch_size=16))

# %% [markdown]
# 1. The road so far: a model that obeys, and a reward model that has learned from ranked answers. A second reward
# model, with a blind spot, has learned only from the fine-tuned model's own answers, and has hardly ever seen an
# instruction broken.

# %%
folder = options.out / ("names" + "-full" * options.full + "-fast" * options.fast)         # what is there is kept
demo = Demo(folder, size, seed=options.seed, resume=True, show=False, device="cpu")
print("1. The road so far")
with one_blas_thread():
    tuned, reward, baseline, _ = prepared(demo, lambda said: print(f"   {said}", flush=True))
    narrow = narrowly_rewarded(demo, tuned, baseline)

# %% [markdown]
# 2. Two runs. One is held by a penalty of β = 0.16 for each nat that it leaves; the other by nothing, on the reward with the
# blind spot, and with bolder steps.

# %%
print("\n2. Guess first: which of the two ends with the higher learned reward? And which with the higher true one?")
RUNS = {"with a penalty": (size.ppo, reward), "without": (without_penalty(size.ppo), narrow)}
policies, histories, rows = {}, {}, {}
with one_blas_thread():
    for name, (config, judge) in RUNS.items():
        policy, run, score = deepcopy(tuned), Run(), road.learned_score(judge)
        ppo(policy, value_for(policy, config), tuned, score, demo.prompts, config, rng=demo.rng(name), run=run,
            end=tokenizer.end, pad=tokenizer.pad, watch=road.watch)
        policies[name], histories[name] = policy, run.history
        rows[name] = row = judge_policy(demo, name, policy, tuned, score, baseline)
        print(f"   {name:<15} learned {row['learned reward']:+.2f}   true {row['true reward']:+.2f}   "
              f"obeys {row['obeys']:.0%}   KL {row['KL']:.1f} nats   wins {row['win rate']:.0%}", flush=True)
print(f"   {'before':<15} learned +0.00   true {road.true_scores(baseline).mean():+.2f}   "
      f"obeys {road.obedience(baseline):.0%}")

# %% [markdown]
# 3. Read the answers: numbers that go up are not yet answers that are good.

# %%
print("\n3. Guess first: a run without a penalty has found out what its judge likes. What do its answers look like?")
prompts = np.array([tokenizer.encode(p) for p in SHOWN])
print("   prompt   " + f"{'before':<14}" + "".join(f"{name:<18}" for name in policies))
columns = [road.answer(model, prompts, np.random.default_rng(1)) for model in (tuned, *policies.values())]
for prompt, *answers in zip(SHOWN, *columns):
    before, *after = (tokenizer.decode(a[len(prompt):]) for a in answers)
    print(f"   {prompt:<8} {before:<14}" + "".join(f"{a:<18}" for a in after))

# %% [markdown]
# 4. The picture: both rewards while it learns, and how far from the fine-tuned model it has gone.

# %%
print("\n4. Guess first: when should the second run have been stopped, and could one have seen that without the truth?")
true = [h["true_reward"] for h in histories["without"]]
best = int(np.argmax(np.convolve(true, np.ones(3) / 3, "valid"))) + 2 if len(true) > 2 else 1
print(f"   Its true reward was highest around iteration {best} of {len(true)}, at KL "
      f"{histories['without'][best - 1]['kl']:.1f}; the learned one rose on")
figure, axes = panels(1, 3, size=(4.0, 3.3))
for ax, (name, history) in zip(axes, histories.items()):
    line(ax, history, "reward", "learned (seen)", color=BLUE)
    line(ax, history, "true_reward", "true (hidden)", color=ORANGE)
    ax.set(title=f"PPO {name}", xlabel="iteration", ylabel="mean over answers")
    ax.legend()
low = min(ax.get_ylim()[0] for ax in axes[:2])
high = max(ax.get_ylim()[1] for ax in axes[:2])
for ax in axes[:2]:
    ax.set(ylim=(low, high))
for (name, history), color in zip(histories.items(), (INK, GREY)):
    line(axes[2], history, "kl", name, color=color)
axes[2].set(title="KL to the fine-tuned model", xlabel="iteration", ylabel="nats an answer")
axes[2].legend()
for ax in axes:
    ax.xaxis.get_major_locator().set_params(integer=True)
keep(figure, options.out / "ppo.png")

# %%
print("; ".join(f"{name}: learned {row['learned reward']:+.2f}, true {row['true reward']:+.2f}"
                for name, row in rows.items()))
