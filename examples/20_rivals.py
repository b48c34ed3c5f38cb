# %% [markdown]
"""# PPO and its rivals: reward against distance

Idea: every method that learns from preference buys reward with distance from the model that it started from. On one task,
with one reward model and one set of ranked pairs: what does each nat of KL buy, in the judge's eyes and in truth?

    python examples/20_rivals.py                     # --iterations, --rankings; --fast: seconds
    python examples/20_rivals.py --full              # the table in docs/ppo.md: five minutes or more

Takes 55 s on two cores. Guess where it asks, before you read on.
Last line: Without a penalty, and a narrow judge: learned reward +3.02, true +1.07; PPO: +0.86 and +3.14
"""
# %%
import argparse
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np

from tinygrad_lm.generate import generate
from tinygrad_lm.parallel import one_blas_thread
from tinygrad_lm.text.names import MAX_ANSWER, tokenizer
from tinygrad_lm.train import road
from tinygrad_lm.train.best_of_n import best_of_n_kl
from tinygrad_lm.train.demo import FAST, Demo, DemoConfig, judge, judge_policy, narrowly_rewarded, prepared, without_penalty
from tinygrad_lm.train.dpo import DPOConfig, dpo
from tinygrad_lm.train.ppo import PPOConfig, ppo, value_for
from tinygrad_lm.train.rejection import RejectionConfig, rejection_sampling
from tinygrad_lm.train.report import BLUE, GREEN, GREY, ORANGE, RED, panels, running_mean
from tinygrad_lm.train.run import Run
from tinygrad_lm.train.script import given, keep

options = argparse.ArgumentParser()
options.add_argument("--seed", type=int, default=0)
options.add_argument("--iterations", type=int, help="of PPO, RLOO and GRPO")
options.add_argument("--rankings", type=int, help="prompts whose answers the person ranks")
options.add_argument("--run", type=Path, help="folder of what all start from: made where missing, below --out by default")
options.add_argument("--out", type=Path, default=Path("runs/examples"), help="folder for the figure")
length = options.add_mutually_exclusive_group()
length.add_argument("--full", action="store_true", help="the demo's sizes, 2000 rankings, 40 iterations")
length.add_argument("--fast", action="store_true", help="small sizes")
options = given(options)
size, iterations = FAST, options.iterations or (40 if options.full else 15)
if options.full or options.rankings:
    size = replace(DemoConfig() if options.full else FAST, rankings=options.rankings or 2000)
if options.fast:
    size = replace(FAST, pretrain=replace(FAST.pretrain, steps=10), sft=replace(FAST.sft, steps=5), rankings=20, judged=30)
    iterations = 3

# %% [markdown]
# 1. What all start from: a model that obeys, a reward model, ranked pairs.

# %%
print("Guess first: with nothing to hold it back, does PPO end with a higher learned reward, and with a higher true one?\n")
folder = options.run or options.out / ("rivals" + "-full" * options.full + "-fast" * options.fast)
demo = Demo(folder, size, seed=options.seed, resume=True, show=False, device="cpu")
with one_blas_thread():
    tuned, reward, baseline, ranked = prepared(demo, print)
score = road.learned_score(reward)
judge(demo, "fine-tuned", baseline, score, baseline, kl=0.0)
shared = dict(rng=demo.rng("rivals"), end=tokenizer.end, pad=tokenizer.pad)

# %% [markdown]
# 2. Best of n trains nothing: it writes n answers and keeps the one that the judge likes best. Its distance is a formula,
#    log n − (n − 1)/n.

# %%
MOST, asked = 64, demo.judged[:4 if options.fast else 200]
written = road.widen(generate(tuned, asked.repeat(MOST, axis=0), MAX_ANSWER, **shared).tokens).reshape(len(asked), MOST, -1)
liked = np.where((written == tokenizer.end).any(-1), road.learned_scores(reward, written), -np.inf)          # (prompts, 64)
for n in (2, 4, 8, 16, 32, 64):
    groups = liked.reshape(-1, n)
    best = written.reshape(-1, n, road.WIDTH)[np.arange(len(groups)), groups.argmax(-1)]
    plain = road.answer(tuned, asked.repeat(MOST // n, axis=0), demo.rng("against"))
    judge(demo, f"best of {n}", best, score, plain, best_of_n_kl(n))

# %% [markdown]
# 3. Those that train a copy of the model. Rejection sampling fine-tunes on the best of 8, round by round; DPO learns from
#    the pairs, without a reward model; PPO, RLOO and GRPO climb the reward model, and the price β of a nat decides how far.
#    Last, nothing holds PPO back: with the same judge, and with one that has only seen the fine-tuned model's own answers,
#    and so has hardly ever seen an instruction broken.

# %%
paths = {}


def trained(method, how, score=score):
    policy, run = deepcopy(tuned), Run()
    with one_blas_thread():
        how(policy, run)
    paths[method] = run.history
    row = judge_policy(demo, method, policy, tuned, score, baseline)
    print(f"{method:<24} win {row['win rate']:4.0%}   true {row['true reward']:+.2f}   learned {row['learned reward']:+.2f}"
          f"   KL {row['KL']:.1f}", flush=True)


def climb(config=PPOConfig(iterations=iterations, warmup=5), score=score, **settings):
    config = replace(config, **settings)
    return lambda policy, run: ppo(policy, value_for(policy, config), tuned, score, demo.prompts, config, run=run,
                                   watch=road.watch, **shared)


for rounds in (1, 3):
    config = RejectionConfig(rounds=rounds, prompts=8 if options.fast else 512, n=8)
    trained(f"rejection, {rounds} rounds", lambda policy, run: rejection_sampling(
        policy, score, demo.prompts, config, run=run, max_new_tokens=MAX_ANSWER, **shared))
for beta in (0.3, 0.1):
    config = DPOConfig(epochs=1, lr=3e-4, beta=beta)
    trained(f"DPO, β {beta:g}",
            lambda policy, run: dpo(policy, tuned, *road.all_pairs(ranked), config, rng=shared["rng"], run=run))
for beta in (0.4, 0.16, 0.05):
    trained(f"PPO, β {beta:g}", climb(kl_coef=beta))
trained("RLOO, β 0.16", climb(advantage="rloo", group=4))
trained("GRPO, β 0.16", climb(advantage="grpo", group=4, whiten_advantages=False, kl="k3", kl_in="loss"))
free = without_penalty(PPOConfig(iterations=2 * iterations, warmup=5))
trained("PPO, no penalty", climb(free))
with one_blas_thread():
    narrow = road.learned_score(narrowly_rewarded(demo, tuned, baseline))
trained("and a narrow judge", climb(free, narrow), narrow)

# %% [markdown]
# 4. Laws (Gao, Schulman and Hilton 2023): with d = √KL the true reward of best of n gains d (α − β d), that of reinforcement
#    learning d (α − β log d). Each is two numbers, found by least squares; a law that explains less than 0.9 of the variance
#    is not drawn.

# %%
start = demo.results.rows[0]["true reward"]


def fitted(d, gain, bend):
    """(the law as a function of d, the share of the variance that it explains)"""
    d, gain = np.array(d), np.array(gain)
    (a, b), *_ = np.linalg.lstsq(np.stack([d, -d * bend(d)], axis=1), gain, rcond=None)
    law = lambda d: d * (a - b * bend(d))
    return law, 1 - ((gain - law(d)) ** 2).mean() / gain.var(), a, b


PURPLE = "#7c3aed"
STYLE = {"fine-tuned": (GREY, "o"), "best": (ORANGE, "s"), "rejection": ("#a16207", "^"), "DPO": (GREEN, "D"),
         "PPO": (BLUE, "o"), "RLOO": (BLUE, "v"), "GRPO": (BLUE, "P"), "PPO, no penalty": (PURPLE, "o"),
         "and a narrow judge": (RED, "o")}
bests = [(np.sqrt(r["KL"]), r["true reward"] - start) for r in demo.results.rows if r["method"].startswith("best")]
laws = {"best of n": (bests, lambda d: d, ORANGE, "d")}
for free, color in (("PPO, no penalty", PURPLE), ("and a narrow judge", RED)):
    smooth = running_mean([(max(h["kl"], 0), h["true_reward"]) for h in paths[free]])
    laws[free] = [(np.sqrt(kl), true - start) for kl, true in smooth if kl > 0.05], np.log, color, "log d"

figure, axes = panels(1, 2, size=(5.6, 4.2))
for ax, key, logged, title in ((axes[0], "learned reward", "reward", "Learned reward: what is climbed"),
                               (axes[1], "true reward", "true_reward", "True reward: the person's")):
    for free in ("PPO, no penalty", "and a narrow judge"):
        ax.plot(*zip(*running_mean([(max(h["kl"], 0) ** 0.5, h[logged]) for h in paths[free]])), color=STYLE[free][0], lw=1,
                alpha=0.5)
    for row in demo.results.rows:
        name = row["method"] if row["method"] in STYLE else row["method"].replace(",", " ").split()[0]
        color, marker = STYLE[name]
        label = name if name not in ax.get_legend_handles_labels()[1] else None
        ax.plot(max(row["KL"], 0) ** 0.5, row[key], marker, color=color, ms=6, label=label)
    ax.set(title=title, xlabel="√KL to the fine-tuned model (√nats)", ylabel="mean over answers")
print()
for name, (points, bend, color, written_as) in laws.items():
    law, explained, a, b = fitted(*zip(*points), bend)
    print(f"{name}: true reward gains d ({a:.2f} {-b:+.2f} {written_as}), which explains {explained:.2f} of its variance")
    if explained > 0.9:
        d = np.linspace(0.05, max(p[0] for p in points), 100)
        axes[1].plot(d, start + law(d), ":", color=color, lw=1.5)
axes[0].legend(fontsize=8)
keep(figure, options.out / "rivals.png")

# %%
rows = {row["method"]: row for row in demo.results.rows}
free, held = rows["and a narrow judge"], rows["PPO, β 0.16"]
print(f"\nWithout a penalty, and a narrow judge: learned reward {free['learned reward']:+.2f}, true "
      f"{free['true reward']:+.2f}; PPO: {held['learned reward']:+.2f} and {held['true reward']:+.2f}")
