# %% [markdown]
"""# Two rewards: one for what helps, one for what is safe

Idea: a model that names is tuned to please a person who likes soft names. Nobody told that person's reward model that
answers with `an` in them are forbidden. What happens to the forbidden ones, and how does a second reward model hold them
down?

    python examples/22_two_rewards.py                 # --fast: seconds; --seeds 0 1 2

Takes 90 s on two cores. Guess where it asks, before you read on.
Last line: unsafe answers: fine-tuned 16%, helpfulness alone 37%, Llama 2's rule 0%, weighted sum 0%
"""
# %%
import argparse
import sys
from copy import deepcopy
from pathlib import Path

import numpy as np

from tinygrad_lm import no_grad
from tinygrad_lm.models import RewardModel
from tinygrad_lm.parallel import one_blas_thread
from tinygrad_lm.text import names
from tinygrad_lm.text.names import tokenizer
from tinygrad_lm.train import road
from tinygrad_lm.train.calibration import calibration, calibration_error, preferences, true_preferences
from tinygrad_lm.train.logprobs import answer_logprobs
from tinygrad_lm.train.ppo import PPOConfig, ppo
from tinygrad_lm.train.pretrain import PretrainConfig, pretrain
from tinygrad_lm.train.report import BLUE, GREEN, GREY, ORANGE, RED, line, panels
from tinygrad_lm.train.reward import RewardConfig, pair_accuracy, train_reward
from tinygrad_lm.train.run import Run
from tinygrad_lm.train.safety import combined_score, llama2_rule, sigmoid, weighted_sum
from tinygrad_lm.train.script import given, keep
from tinygrad_lm.train.sft import SFTConfig, sft

options = argparse.ArgumentParser()
options.add_argument("--seeds", type=int, nargs="+", default=[0], help="one whole run each; the figure is of the first")
options.add_argument("--out", type=Path, default=Path("runs/examples"), help="folder for the figure")
options.add_argument("--fast", action="store_true", help="every stage much shorter")
options = given(options)
fast = options.fast
learned, held_out = names.split_names(names.load_names())
prompts, judged = names.prompts_from(learned), names.prompts_from(held_out)[:100 if fast else 2000]


def tuned_model(rng):
    """A model that has read the names, and then three thousand prompts with an answer."""
    model, steps = road.new_model(rng), 30 if fast else 600
    pretrain(model, names.plain_rows(learned), names.plain_rows(held_out[:500]),
             PretrainConfig(steps=steps, eval_every=steps), rng=rng, run=Run())
    examples = [learned[i] for i in rng.permutation(len(learned))[:road.N_EXAMPLES]]
    sft(model, names.instruction_rows(examples), names.instruction_rows(held_out[:500]),
        SFTConfig(steps=steps // 2, eval_every=steps // 2), rng=rng, run=Run())
    return model


# %% [markdown]
# 1. Two reward models see the same answers, four to a prompt. One learns from the person's ranking, the other from a label:
# does the answer have an `an` in it? A third learns from the ranking too, and must keep a margin: the better an answer
# seemed, the further apart the rewards (Llama 2's large margins).

# %%


def reward_models(tuned, baseline, rng):
    """{"plain", "margin", "safety"}: RewardModels."""
    asked = prompts[rng.permutation(len(prompts))[:60 if fast else 1500]]
    ranked, ratings = road.rate_answers(tuned, asked, rng)
    what = {"plain": (dict(ratings=ratings, baseline=baseline), RewardConfig(epochs=3)),
            "margin": (dict(ratings=ratings, baseline=baseline), RewardConfig(epochs=3, margin="large")),
            "safety": (dict(safe=road.safe(ranked)), RewardConfig(epochs=3))}
    models = {}
    for name, (targets, config) in what.items():
        models[name] = RewardModel(tuned, rng=rng)
        train_reward(models[name], ranked, road.last_of(ranked), config, rng=rng, run=Run(), **targets)
    return models


# %% [markdown]
# 2. Accuracy asks for the order alone. Calibration asks more: of the pairs of which the model is 80% sure, does the person
# prefer the one it names in 80 of 100? The person is simulated, so the true probability is known. A model that was
# normalised must first be stretched back: σ of a difference is a probability only in the units in which it was learned.

# %%


def calibrations(models, tuned, rng):
    """For each model (accuracy, what it said, what was true), both probabilities of the same cases."""
    answers = road.candidates(tuned, judged[:1000], rng)
    true, safe, found = road.true_scores(answers), road.safe(answers), {}
    for name in ("plain", "margin"):
        scores = road.learned_scores(models[name], answers)
        said, order = preferences(scores * models[name].std.numpy())
        found[name] = pair_accuracy(scores, true), said, true_preferences(true, order)
    said = sigmoid(road.learned_scores(models["safety"], answers))
    found["safety"] = ((said > 0.5) == safe).mean(), said, safe
    return found


# %% [markdown]
# 3. PPO from the same fine-tuned model, three times: on helpfulness alone, by Llama 2's rule, and on the mean of both
#    rewards.

# %%


def method_scores(models, baseline):
    helpful, safety = models["plain"], models["safety"]
    return {"helpfulness alone": road.learned_score(helpful),
            "Llama 2's rule": combined_score(llama2_rule, helpful, safety, baseline),
            "weighted sum": combined_score(weighted_sum, helpful, safety, baseline)}


def watch(tokens):
    tokens = road.widen(tokens)
    return {"true_reward": road.true_scores(tokens).mean(), "unsafe": 1 - road.safe(tokens).mean()}


def trained(tuned, score, seed):
    """(the policy, what PPO logged)"""
    config = PPOConfig(iterations=4, batch_size=32) if fast else PPOConfig(iterations=50)
    policy, run = deepcopy(tuned), Run()
    ppo(policy, RewardModel(tuned), tuned, score, prompts, config, rng=np.random.default_rng([seed, 3]), run=run,
        end=tokenizer.end, pad=tokenizer.pad, watch=watch)
    return policy, run.history


def row(policy, tuned, baseline, seed):
    """What the person and the rule about `an` think of a policy's answers."""
    tokens = road.answer(policy, judged, np.random.default_rng([seed, 4]))
    mask = road.mask_of(tokens)
    with no_grad():
        kl = (answer_logprobs(policy, tokens, mask).numpy() - answer_logprobs(tuned, tokens, mask).numpy()).mean()
    return {"unsafe": 1 - road.safe(tokens).mean(), "win rate": road.win_rate(tokens, baseline[0]),
            "true reward": road.true_scores(tokens).mean(), "KL": kl}


def show(method, r):
    print(f"   {method:<20}{r['unsafe']:>13.1%}{r['win rate']:>13.1%}{r['true reward']:>+13.2f}{r['KL']:>13.1f}", flush=True)


def walk(seed):
    """Everything once: (calibrations, {method: history}, {method: row})."""
    rng = np.random.default_rng(seed)
    tuned = tuned_model(rng)
    answers = road.answer(tuned, judged, rng)
    baseline = answers, road.last_of(answers)
    rows = {"fine-tuned": row(tuned, tuned, baseline, seed)}
    print(f"\nseed {seed}. {rows['fine-tuned']['unsafe']:.0%} of the fine-tuned model's answers have `an` in them",
          flush=True)
    models = reward_models(tuned, baseline, rng)
    checked = calibrations(models, tuned, rng)
    for name, (accuracy, said, true) in checked.items():
        print(f"   {name:<8} right in {accuracy:.1%} of {'answers' if name == 'safety' else 'pairs'}; its probability is "
              f"off by {calibration_error(said, true, bins=20):.1%} on average", flush=True)
    guess = ask(rows["fine-tuned"]["unsafe"]) if seed == options.seeds[0] else None
    print(f"   {'':<20}" + "".join(f"{key:>13}" for key in rows["fine-tuned"]))
    show("fine-tuned", rows["fine-tuned"])
    histories = {}
    for method, score in method_scores(models, baseline).items():
        policy, histories[method] = trained(tuned, score, seed)
        rows[method] = row(policy, tuned, baseline, seed)
        show(method, rows[method])
    if guess:
        print(f"   You said {guess}: it is {rows['helpfulness alone']['unsafe']:.0%}.")
    return checked, histories, rows


# %% [markdown]
# Your prediction, before PPO runs.

# %%


def ask(now):
    print(f"   Guess first: PPO now climbs helpfulness alone, which knows nothing of `an`. {now:.0%} of the answers have "
          "it. Afterwards:\n"
          "   fewer, as many, or more? And by Llama 2's rule?")
    return input("   your guess in per cent: ").strip() if sys.stdin.isatty() else None


with one_blas_thread():
    walks = [walk(seed) for seed in options.seeds]
checked, histories, _ = walks[0]

# %% [markdown]
# 4. The picture. Left: what the reward models say against what is so (on the line: calibrated). Right: three runs of PPO.

# %%
COLORS = {"helpfulness alone": RED, "Llama 2's rule": BLUE, "weighted sum": GREEN}
figure, axes = panels(1, 4, size=(3.4, 3.3))
for ax, names_of, title in ((axes[0], ("plain", "margin"), "Which of two is preferred?"),
                            (axes[1], ("safety",), "Is it safe?")):
    low = 0.5 if "plain" in names_of else 0
    ax.plot([low, 1], [low, 1], color=GREY, lw=1, ls="--")
    for name, color in zip(names_of, (BLUE, ORANGE)):
        _, said, true = checked[name]
        x, y, n = calibration(said, true, bins=20 if low else 10)
        ax.plot(x, y, color=color, marker="o", ms=3.5, lw=1.2,
                label=f"{name}: off by {calibration_error(said, true, bins=20):.1%}")
    ax.set(title=title, xlabel="probability by the reward model", ylabel="true share")
    ax.legend(loc="upper left", fontsize=8)
for ax, key, title in ((axes[2], "unsafe", "Share of unsafe answers"), (axes[3], "true_reward", "True helpfulness")):
    for method, history in histories.items():
        line(ax, history, key, method, color=COLORS[method], lw=1.4)
    ax.set(title=title, xlabel="iteration of PPO")
axes[2].legend(fontsize=8)
keep(figure, options.out / "two-rewards.png")

# %%
mean = {method: np.mean([rows[method]["unsafe"] for _, _, rows in walks]) for method in walks[0][2]}
print("\nunsafe answers: " + ", ".join(f"{method} {share:.0%}" for method, share in mean.items()))
