"""The price of leaving the reference: estimators of the KL, its place in the reward or in the loss, and its coefficient β
(Schulman 2020 [KL]; Ziegler et al. 2019 [LMHF])."""
import numpy as np

from .. import functional as F
from ..text.batches import last_token


def kl_estimates(log_ratio):
    """Three estimators of KL(π‖π_ref) from samples of π, with log_ratio = log π − log π_ref: (k1, k2, k3), each an array
    of the same shape (Schulman 2020 [KL]). k1 and k3 are unbiased, k3 is never negative."""
    return log_ratio, 0.5 * log_ratio ** 2, np.expm1(-log_ratio) + log_ratio


def token_rewards(scores, log_ratio, m, kl_coef, kl="k1"):
    """−β (log π − log π_ref) on every answer token, and the score on the last one ([LMHF] eq. 2). (B, T)

    The penalty is this plain log ratio, k1: the other estimators measure the same KL and have another gradient.
    """
    estimate = dict(zip(("k1", "k2", "k3"), kl_estimates(log_ratio * m)))[kl]
    rewards = -kl_coef * estimate
    rewards[np.arange(len(m)), last_token(m)] += scores
    return rewards


def kl_loss(new, ref, m, kl):
    """mean over answer tokens of the estimator `kl` of log π − log π_ref, to be differentiated itself: new is a Tensor
    (B, T), ref an array. On policy k2 has the KL's gradient, k1 none on average, k3 that of KL(π_ref‖π)."""
    d = (new - ref) * m
    estimate = {"k1": lambda: d, "k2": lambda: 0.5 * d ** 2, "k3": lambda: F.exp(-d) - 1 + d}[kl]()
    return estimate.sum() / int(m.sum())


class Penalty:
    """β, the price of leaving the reference; checkpoints keep it, since it may change."""

    def __init__(self, value):
        self.value = np.array(float(value))

    def adapt(self, kl, target, pace):
        """β ← β (1 + clip(KL/target − 1, −0.2, 0.2) · pace): dearer above the target, cheaper below ([LMHF] sec. 2.2)"""
        self.value *= 1 + np.clip(kl / target - 1, -0.2, 0.2) * pace

    def state_dict(self):
        return {"value": self.value}

    def load_state_dict(self, state):
        self.value[...] = state["value"]
