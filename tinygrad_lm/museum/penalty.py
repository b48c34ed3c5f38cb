"""The log prints the KL that everybody means, the mean of log π − log π_ref, while the reward is charged with another estimator of
the same number. As an estimate that other one is fine, even better; as a penalty its gradient belongs to another objective.

The curve of the reward looks as good or better, since the policy spends more KL than the coefficient should allow.
"""
import numpy as np

from ..train import ppo
from .replace import replaced
from .tasks import bandit

TITLE = "The KL reported is not the KL trained"
WATCHED, SHOWN, AXIS = "reward", "distance from the optimum", "iteration of PPO"
right = ppo.token_rewards


def wrong(scores, log_ratio, *others):
    return right(scores, 0.5 * log_ratio ** 2, *others)         # right: log_ratio; this is k2 of [KL]


def patch():
    return replaced(right, wrong)


def run():
    """PPO where the optimum is known."""
    return bandit()


def test():
    """An answer's rewards add up to its score less β times its log ratio."""
    rng = np.random.default_rng(0)
    scores, log_ratio, m = rng.normal(size=8), rng.normal(size=(8, 5)), np.arange(5) < rng.integers(1, 6, (8, 1))
    rewards = ppo.token_rewards(scores, log_ratio, m, 0.3)
    np.testing.assert_allclose(rewards.sum(-1), scores - 0.3 * (log_ratio * m).sum(-1))
