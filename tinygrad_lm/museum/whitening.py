"""Advantages are whitened over the whole rectangle, padding included. The zeros behind short answers pull mean and spread towards 0,
and how large a step is comes to depend on how much padding a batch happens to have.

No curve shows it: Adam forgives a wrong scale, and a wrong mean is small.
"""
import numpy as np

from ..train import ppo
from .replace import replaced
from .tasks import bandit

TITLE = "Advantages are whitened over padding"
WATCHED, SHOWN, AXIS = "reward", "spread of the advantages", "columns of padding behind four of answer"
right = ppo.whiten


def wrong(x, m, **options):
    return right(np.where(m, x, 0), np.ones_like(m), **options) * m                   # right: over m


def patch():
    return replaced(right, wrong)


def advantages(columns):
    """64 answers of four tokens, and padding behind."""
    rng = np.random.default_rng(0)
    m = np.arange(4 + columns) < np.full((64, 1), 4)
    return np.where(m, 1 + rng.normal(size=m.shape), 0), m


def run():
    """PPO goes well either way; the spread is measured on advantages with more and more padding."""
    shown = [float(ppo.whiten(x, m)[m].std()) for x, m in map(advantages, range(9))]
    return bandit(end=1, iterations=20)[0], shown


def test():
    """Mean 0 and standard deviation 1 under the mask, whatever lies outside."""
    for columns in (0, 1, 7):
        x, m = advantages(columns)
        white = ppo.whiten(x, m)[m]
        np.testing.assert_allclose([white.mean(), white.std()], [0, 1], atol=1e-5)
