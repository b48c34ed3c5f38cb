"""The old probabilities in the ratio are computed anew at every update instead of kept from when the answer was written. The ratio is
then always 1: nothing is ever clipped, and the later epochs follow a gradient that belongs to a policy long gone.

The same happens, less plainly, where a fast engine writes and another one computes "old": the ratio compares the trainer with itself.
"""
import numpy as np

from ..tensor import Tensor
from ..train import ppo
from .replace import replaced
from .tasks import bandit

TITLE = "The ratio is from recomputed probabilities"
WATCHED, SHOWN, AXIS = "reward", "distance from the optimum", "iteration of PPO"
right = ppo.policy_loss


def wrong(new, old, *others):
    return right(new, new.detach().data, *others)               # right: old


def patch():
    return replaced(right, wrong)


def run():
    """PPO where the optimum is known, many epochs an iteration."""
    return bandit(epochs=8, lr=5e-3, iterations=25)


def test():
    """What has gone far enough on the good side gets no gradient."""
    new, old = Tensor(np.full((1, 3), 1.0), True), np.zeros((1, 3))
    ppo.policy_loss(new, old, np.ones((1, 3)), np.ones((1, 3), bool), 0.2).backward()
    assert not new.grad.any()
