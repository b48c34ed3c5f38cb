"""How surprised was the model?

A model gives each next token a score; softmax makes probabilities p of a row of scores z. The loss of a position is how
surprised the model is by the token that really came, its target t:

    ℓ = −log p_t = log Σⱼ exp(zⱼ) − z_t

and the loss of a batch is the mean over its N positions. Its gradient is the simplest in all of deep learning:

    dz = (p − onehot(t)) / N

As in softmax, the largest score of a row may be subtracted from all of it, and has to be: exp must not overflow.
"""
import numpy as np
from hypothesis import strategies as st

from .draws import ROUND, numbers
from .parts import holds, mistake

HINTS = (
    "With s = z minus the largest of its row, log p_t = s_t − log Σⱼ exp(sⱼ). "
    "z[np.arange(len(z)), targets] takes one number of each row.",
    "The loss is the mean of log Σ exp(s) − s_t. For the gradient make p = exp(s) / Σ exp(s).",
    "From p take 1 at each target: p[np.arange(N), targets] -= 1. Then one thing is missing: the loss was a mean.",
)


def cross_entropy(z, targets):
    """(loss, dz): the mean of −log softmax(z)[target] over the rows, a number, and its gradient.

    z: float (N, V), scores; targets: int (N,), 0 to V − 1 -> a number, float (N, V)
    """
    rows = np.arange(len(z))
    s = z - z.max(-1, keepdims=True)
    e = np.exp(s)
    total = e.sum(-1, keepdims=True)
    p = e / total
    p[rows, targets] -= 1
    return (np.log(total[:, 0]) - s[rows, targets]).mean(), p / len(z)


ANSWER = cross_entropy

N, V = st.shared(st.integers(1, 3), key="N"), st.shared(st.integers(2, 3), key="V")
Z = numbers(st.tuples(N, V))


@st.composite
def tokens(draw):
    n, v = draw(N), draw(V)
    return np.array([draw(st.integers(0, v - 1)) for _ in range(n)])


@holds("Where all scores are equal the loss is log V: it is that of a die with V sides",
       z=Z.map(np.zeros_like), targets=tokens())
def a_die(answer, z, targets):
    return answer(z, targets)[0], np.log(z.shape[1])


@holds("The loss is the mean of −log p of the targets", z=Z, targets=tokens())
def mean_surprise(answer, z, targets):
    return answer(z, targets)[0], np.mean([-np.log(np.exp(row[t]) / np.exp(row).sum()) for row, t in zip(z, targets)])


@holds("Scores of 1000 and −1000 have a finite loss, and a gradient",
       z=numbers((1, 2), ROUND.map(lambda n: 500 * n)), target=st.integers(0, 1))
def large(answer, z, target):
    p = np.exp(z - np.logaddexp(*z[0]))
    return answer(z, np.array([target])), (np.logaddexp(*z[0]) - z[0, target], p - np.eye(2)[[target]])


@holds("dz is what a small change of each score does to the loss", z=Z, targets=tokens())
def small_changes(answer, z, targets):
    given, d, h = answer(z, targets)[1], np.zeros_like(z), 1e-4
    for at in np.ndindex(z.shape):
        step = np.zeros_like(z)
        step[at] = h
        d[at] = (cross_entropy(z + step, targets)[0] - cross_entropy(z - step, targets)[0]) / (2 * h)
    return np.round(given, 6), np.round(d, 6)


PROPERTIES = (a_die, mean_surprise, small_changes, large)


@mistake("the gradient lacks its 1/N: the loss is a mean over the positions", caught_by=small_changes)
def no_mean(z, targets):
    loss, dz = cross_entropy(z, targets)
    return loss, dz * len(z)


@mistake("the losses are summed, and not averaged", caught_by=a_die)
def summed(z, targets):
    loss, dz = cross_entropy(z, targets)
    return loss * len(z), dz


@mistake("the losses are summed, and not averaged: loss and gradient lack their 1/N", caught_by=a_die)
def both_summed(z, targets):
    loss, dz = cross_entropy(z, targets)
    return loss * len(z), dz * len(z)


@mistake("the sign of the loss: a logarithm of a probability is negative, and surprise is −log p", caught_by=a_die)
def negative(z, targets):
    loss, dz = cross_entropy(z, targets)
    return -loss, dz


@mistake("every row is asked for the targets of all rows: row i takes target i, [np.arange(N), targets]",
         caught_by=mean_surprise)
def all_pairs(z, targets):
    return np.mean([cross_entropy(z, np.roll(targets, k))[0] for k in range(len(z))]), cross_entropy(z, targets)[1]


@mistake("the logarithm is of a probability that underflowed to 0: take the difference of scores, log Σ exp(z) − z[target]",
         caught_by=large)
def underflowed(z, targets):
    e = np.exp(z - z.max(-1, keepdims=True))
    p = e / e.sum(-1, keepdims=True)
    return -np.log(p[np.arange(len(z)), targets]).mean(), cross_entropy(z, targets)[1]


@mistake("the gradient is p alone: the 1 at each target is not taken away", caught_by=small_changes)
def no_onehot(z, targets):
    return cross_entropy(z, targets)[0], np.exp(z - z.max(-1, keepdims=True)) / \
        np.exp(z - z.max(-1, keepdims=True)).sum(-1, keepdims=True) / len(z)


@mistake("the sign of the gradient: it is p − onehot, for the loss falls when p of the target rises",
         caught_by=small_changes)
def sign(z, targets):
    loss, dz = cross_entropy(z, targets)
    return loss, -dz


@mistake("the largest score is not subtracted: exp overflows", caught_by=large)
def no_shift(z, targets):
    e, rows = np.exp(z), np.arange(len(z))
    p = e / e.sum(-1, keepdims=True)
    loss = -np.log(p[rows, targets]).mean()
    p[rows, targets] -= 1
    return loss, p / len(z)


@mistake("the targets are off by one: each row is compared with its neighbour's", caught_by=mean_surprise)
def neighbour(z, targets):
    return cross_entropy(z, np.roll(targets, 1))


MISTAKES = (no_mean, summed, both_summed, negative, all_pairs, underflowed, no_onehot, sign, no_shift, neighbour)
