"""Dropout stays on while PPO learns. The ratio between the new policy and the one that wrote then compares two random parts of
one network: it is not 1 where nothing has been learned yet, and the clip cuts at random.

TRL has a function of its own, `disable_dropout_in_model`, which its trainers call first.
"""
from ..nn import Module
from ..train import ppo
from .replace import replaced
from .tasks import bandit

TITLE = "Dropout is left on"
WATCHED, SHOWN, AXIS = "reward", "share of ratios that are clipped", "iteration of PPO"
right = Module.eval


def wrong(self):
    return self                                                 # right: self.train(False)


def patch():
    return replaced(right, wrong)


def run():
    """PPO where the optimum is known, with a model that was made with dropout."""
    return bandit("clip_fraction", dropout=0.3)


def test():
    """Before the first update every ratio is 1."""
    seen, plain = [], ppo.policy_loss

    def spy(new, old, advantages, m, clip):
        seen.append(abs(new.numpy() - old)[m].max())
        return plain(new, old, advantages, m, clip)
    with replaced(plain, spy):
        bandit(dropout=0.3, iterations=1, epochs=1)
    assert seen[0] < 1e-4
