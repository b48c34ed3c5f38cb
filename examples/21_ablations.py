# %% [markdown]
"""# What each trick is worth

Idea: PPO comes with a dozen tricks. Switch each one off, alone, on several seeds, and look at what the curve of rewards
shows and what it does not: how often a person prefers the answers, what they really think of them, and at which KL.

    python examples/21_ablations.py                  # 22 short runs on one seed; --fast: seconds
                                                     # --full: long ones on three seeds, half an hour: docs/ppo.md's table

Takes 90 s on two cores. Guess where it asks, before you read on.
Last line: Default: win 0.70 at KL 2.0; of 21 changes 1 makes it lose to the fine-tuned model
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
from tinygrad_lm.train.demo import FAST, Demo, DemoConfig, judge_policy, prepared
from tinygrad_lm.train.ppo import PPOConfig, ppo, value_for
from tinygrad_lm.train.report import BLUE, GREY, ORANGE, panels
from tinygrad_lm.train.run import Run
from tinygrad_lm.train.script import given, keep

off = np.inf
CHANGES = {
    "the default": {},
    "no KL penalty": {"kl_coef": 0.0},
    "adaptive β, target 3": {"kl_coef": 0.05, "kl_target": 3.0, "kl_horizon": 2000},
    "k2 in the reward": {"kl": "k2"},
    "k3 in the reward": {"kl": "k3"},
    "k1 in the loss": {"kl_in": "loss"},
    "k2 in the loss": {"kl_in": "loss", "kl": "k2"},
    "k3 in the loss": {"kl_in": "loss", "kl": "k3"},
    "advantages not whitened": {"whiten_advantages": False},
    "rewards whitened": {"whiten_rewards": True},
    "ratio not clipped": {"clip": off},
    "value not clipped": {"value_clip": off},
    "gradient not clipped": {"max_norm": off},
    "Adam's ε 1e-8": {"adam_eps": 1e-8},
    "no warm-up": {"warmup": 0},
    "λ 1": {"lam": 1.0},
    "value on the policy's trunk": {"shared": True},
    "0 without an end": {"no_end_reward": 0.0},
    "one epoch": {"epochs": 1},
    "8 epochs": {"epochs": 8},
    "leave-one-out, 4 a prompt": {"advantage": "rloo", "group": 4},
    "group's mean and spread": {"advantage": "grpo", "group": 4, "whiten_advantages": False},
}

options = argparse.ArgumentParser()
options.add_argument("--seeds", type=int, nargs="+", help="0 by default, 0 1 2 with --full")
options.add_argument("--only", nargs="+", choices=CHANGES, default=list(CHANGES), metavar="CHANGE")
options.add_argument("--run", type=Path, help="folder of each seed's models: made where missing, below --out by default")
options.add_argument("--out", type=Path, default=Path("runs/examples"), help="folder for the figure")
length = options.add_mutually_exclusive_group()
length.add_argument("--full", action="store_true", help="the demo's sizes, 40 iterations")
length.add_argument("--fast", action="store_true", help="sizes too small for a trick to matter")
options = given(options)
size, base = FAST, PPOConfig(iterations=12, warmup=3)
if options.full:
    size, base = DemoConfig(), PPOConfig(iterations=40, warmup=5)
elif options.fast:
    size = replace(FAST, pretrain=replace(FAST.pretrain, steps=10), sft=replace(FAST.sft, steps=5), rankings=20, judged=30)
    base = PPOConfig(iterations=2, batch_size=16)
folder = options.run or options.out / ("ablations" + "-full" * options.full + "-fast" * options.fast)
seeds = options.seeds or ([0, 1, 2] if options.full else [0])
names = list(dict.fromkeys(["the default", *options.only]))

# %% [markdown]
# Each change starts from the same fine-tuned model, reward model, prompts and draws as the default of its seed. Which of
# them, switched off, makes the model worse than it was? And which makes no difference at all?

# %%
print(f"Guess first: of {len(names) - 1} changes, how many do harm that you would see in the learned reward?\n")
rows = {name: [] for name in names}
with one_blas_thread():
    for seed in seeds:
        demo = Demo(folder / str(seed), size, seed=seed, resume=True, show=False, device="cpu")
        tuned, reward, baseline, _ = prepared(demo, lambda line: None)
        score = road.learned_score(reward)
        for name in names:
            config, policy = replace(base, **CHANGES[name]), deepcopy(tuned)
            ppo(policy, value_for(policy, config), tuned, score, demo.prompts, config, rng=demo.rng("ablation"), run=Run(),
                end=tokenizer.end, pad=tokenizer.pad)
            row = judge_policy(demo, name, policy, tuned, score, baseline)
            rows[name].append(row)
            print(f"seed {seed}  {name:<28} win {row['win rate']:.2f}   true {row['true reward']:+.2f}   learned "
                  f"{row['learned reward']:+.2f}   KL {row['KL']:.1f}", flush=True)

# %% [markdown]
# The table: a row a change, a figure a seed. Which of these would you have noticed?

# %%
COLUMNS = ("win rate", "true reward", "learned reward", "KL")
print("\n| change | " + " | ".join(COLUMNS) + " |\n|---|" + "---|" * len(COLUMNS))
for name, found in rows.items():
    print(f"| {name} | " + " | ".join(" ".join(f"{row[key]:.2f}" for row in found) for key in COLUMNS) + " |")

figure, axes = panels(1, 3, size=(3.6, 5.2))
places = {name: -i for i, name in enumerate(rows)}
for ax, key, color in zip(axes, ("learned reward", "true reward", "KL"), (BLUE, ORANGE, GREY)):
    for name, y in places.items():
        ax.plot([row[key] for row in rows[name]], [y] * len(seeds), "o", color=color, ms=4)
    ax.axvline(np.mean([row[key] for row in rows["the default"]]), color=GREY, lw=0.8)
    ax.set(title=key, yticks=[*places.values()], yticklabels=places if ax is axes[0] else [])
axes[2].set(xscale="log")
axes[2].set_xticks([1, 3, 10, 30], ["1", "3", "10", "30"])
axes[2].minorticks_off()
keep(figure, options.out / "ablations.png")

# %%
lost = sum(np.mean([row["win rate"] for row in found]) < 0.5 for found in rows.values())
default = {key: np.mean([row[key] for row in rows["the default"]]) for key in COLUMNS}
print(f"\nDefault: win {default['win rate']:.2f} at KL {default['KL']:.1f}; of {len(rows) - 1} changes {lost} makes it lose "
      "to the fine-tuned model")
