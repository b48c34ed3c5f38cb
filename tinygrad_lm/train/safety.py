"""Two reward models, one for what helps and one for what is safe, and one reward for PPO made of both (Touvron et al. 2023
[LLAMA2], sec. 3.2): a single one that must weigh them loses the smaller voice."""
import numpy as np

from .reward import score_answers

THRESHOLD = 0.15                    # below this probability of being safe, safety alone is the reward


def sigmoid(x):
    """σ(x): what a safety model's reward x says, as the probability of being safe."""
    return 1 / (1 + np.exp(-x))


def logit(p):
    """log p/(1 − p): the x of which p is σ(x)."""
    return np.log(p) - np.log1p(-p)


def llama2_rule(helpful, safe, *, about_safety=False):
    """Safety's reward where the prompt is about safety or the answer is safe with a probability below THRESHOLD, else
    helpfulness's ([LLAMA2] sec. 3.2.3). All (B,).

    The rule chooses between R = σ(reward) of both models and takes the logit of its choice. logit σ(x) = x, so it is the
    rewards themselves that are chosen between here: going there and back would lose the digits of all that is far from 0.
    """
    return np.where(about_safety | (safe < logit(THRESHOLD)), safe, helpful)


def weighted_sum(helpful, safe, *, weight=0.5):
    """The rival: a little of both, always. (B,)"""
    return (1 - weight) * helpful + weight * safe


def combined_score(combine, helpful, safety, baseline):
    """A function (tokens, last) -> rewards for PPO, `combine` of what the two RewardModels say, whitened: mean 0 and
    standard deviation 1 on those of the answers `baseline`, (tokens, last), of the model that PPO starts from, that the safety
    model lets pass. So the KL penalty weighs as much against what distinguishes safe answers as against a single reward; the
    unsafe ones, a few with rewards far below, would make most of the spread if they counted."""
    def raw(tokens, last):
        safe = score_answers(safety, tokens, last)
        return combine(score_answers(helpful, tokens, last), safe), safe >= logit(THRESHOLD)
    rewards, passed = raw(*baseline)
    rewards = rewards[passed]
    if not len(rewards):
        raise ValueError(f"the safety model holds all of these {len(passed)} answers to be unsafe: there is nothing to whiten "
                         "on. Is it a safety model (`reward --safety`) of these answers?")
    mean, std = float(rewards.mean()), float(rewards.std())
    if not std > 0:
        raise ValueError(f"these {len(rewards)} rewards are all {rewards[0]:g}: without a spread nothing can be whitened")
    return lambda tokens, last: (raw(tokens, last)[0] - mean) / std
