"""How far has the policy gone? Three estimates from samples.

The distance of a distribution p from q is the KL divergence, a mean over everything that p could write:

    KL(p‖q) = Σₓ p(x) (log p(x) − log q(x))

That sum cannot be had for a language model. But p writes samples x, and of each of them log p(x) and log q(x) are known.
With r = q(x) / p(x) there are three estimates [KL], of which one takes the mean over samples of p:

    k1 = −log r                 right on average, but a single one may be negative
    k2 = ½ (log r)²             never negative; right on average only nearly, where p and q are near each other
    k3 = r − 1 − log r          never negative, and right on average
"""
import numpy as np
from hypothesis import strategies as st

from .parts import holds, mistake

HINTS = (
    "You are given log p and log q. What is log r?",
    "log r = log_q - log_p, and r itself is exp of that.",
    "log_r = log_q - log_p, and then: -log_r, 0.5 * log_r ** 2, np.exp(log_r) - 1 - log_r",
)


def kl_estimates(log_p, log_q):
    """(k1, k2, k3) of each sample that p has drawn, three arrays of the samples' shape.

    log_p, log_q: float arrays of one shape, what each distribution thinks of the samples
    """
    log_r = log_q - log_p
    return -log_r, 0.5 * log_r ** 2, np.exp(log_r) - 1 - log_r


ANSWER = kl_estimates

COINS = [(1 / 2, 1 / 2), (1 / 4, 3 / 4), (3 / 4, 1 / 4), (1 / 8, 7 / 8)]
DICE = [(1 / 2, 1 / 4, 1 / 4), (1 / 4, 1 / 2, 1 / 4), (1 / 8, 1 / 8, 3 / 4)]
DISTRIBUTION = st.shared(st.sampled_from((COINS, DICE)), key="kind").flatmap(st.sampled_from).map(np.array)
TWO = dict(p=DISTRIBUTION, q=DISTRIBUTION)


@holds("k1 of each sample is −log r", **TWO)
def k1_is_right(answer, p, q):
    return answer(np.log(p), np.log(q))[0], np.log(p / q)


@holds("k2 is the square of k1, halved", **TWO)
def k2_is_a_square(answer, p, q):
    return answer(np.log(p), np.log(q))[1], np.log(p / q) ** 2 / 2


@holds("The mean of k3 over all that p may write, each as often as p writes it, is KL(p‖q)", **TWO)
def k3_is_right(answer, p, q):
    return p @ answer(np.log(p), np.log(q))[2], p @ np.log(p / q)


@holds("k3 is never negative", **TWO)
def k3_is_positive(answer, p, q):
    k3 = answer(np.log(p), np.log(q))[2]
    return k3, abs(k3)


PROPERTIES = (k1_is_right, k2_is_a_square, k3_is_right, k3_is_positive)


@mistake("the ratio is upside down: r is q / p, since it is p that has drawn the samples", caught_by=k1_is_right)
def upside_down(log_p, log_q):
    return kl_estimates(log_q, log_p)


@mistake("in k3 alone the ratio is upside down: exp(log p − log q) has the mean 1 over samples of q, not of p",
         caught_by=k3_is_right)
def k3_upside_down(log_p, log_q):
    return *kl_estimates(log_p, log_q)[:2], np.exp(log_p - log_q) - 1 - (log_p - log_q)


@mistake("k3 lacks its − 1: where p = q it must be 0", caught_by=k3_is_right)
def k3_without_one(log_p, log_q):
    k1, k2, k3 = kl_estimates(log_p, log_q)
    return k1, k2, k3 + 1


@mistake("k2 lacks its ½", caught_by=k2_is_a_square)
def k2_not_halved(log_p, log_q):
    k1, k2, k3 = kl_estimates(log_p, log_q)
    return k1, 2 * k2, k3


@mistake("k3 has r − 1 alone, whose mean over samples of p is 0", caught_by=k3_is_right)
def k3_without_log(log_p, log_q):
    return *kl_estimates(log_p, log_q)[:2], np.expm1(log_q - log_p)


MISTAKES = (upside_down, k3_upside_down, k3_without_one, k2_not_halved, k3_without_log)
