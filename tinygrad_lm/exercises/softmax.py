"""Scores become probabilities.

A language model ends with a score zᵢ for every token, any number at all. Softmax makes probabilities of them: positive, and
of sum 1 over the last axis:

    yᵢ = exp(zᵢ) / Σⱼ exp(zⱼ)

exp(1000) is infinity to a computer. But softmax stays the same if every score of a row is shifted by the same number, and so
one may shift the largest to 0: exp is then at most 1, and cannot overflow. What underflows to 0 does no harm.
"""
import numpy as np
from hypothesis import strategies as st

from .draws import ROUND, numbers
from .parts import holds, mistake

HINTS = (
    "Three steps: shift, exp, divide by the sum. The last two with all numbers of a row, over the last axis.",
    "z.max(-1, keepdims=True) is the largest of each row, as a column that can be subtracted from z.",
    "e = np.exp(z - z.max(-1, keepdims=True)); what must e be divided by, so that each row's sum is 1?",
)


def softmax(z):
    """Probabilities, the same shape as z: yᵢ = exp(zᵢ) / Σⱼ exp(zⱼ) over the last axis.

    z: float (…, V), however large
    """
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


ANSWER = softmax

ROWS = numbers(st.tuples(st.integers(1, 2), st.integers(1, 3)))


@holds("Equal scores have equal probabilities, also where there are several rows",
       shape=st.tuples(st.integers(1, 2), st.integers(1, 3)))
def equal(answer, shape):
    return answer(np.zeros(shape)), np.full(shape, 1 / shape[1])


@holds("Two probabilities of a row are to each other as exp of the difference of their scores",
       z=numbers(st.tuples(st.integers(1, 2), st.just(2))))
def ratios(answer, z):
    p = 1 / (1 + np.exp(z[:, 1] - z[:, 0]))
    return answer(z), np.stack([p, 1 - p], -1)


@holds("A score of 1000 does not overflow, nor one of −1000", z=numbers((2,), ROUND.map(lambda n: 500 * n)))
def large(answer, z):
    return answer(z), 1 / np.exp(z - z[:, None]).sum(-1, where=z - z[:, None] < 700) * (z >= z.max() - 700)


@holds("Each row is shifted by its own maximum: one whose scores are all far below another's does not underflow",
       z=numbers((2, 2)), below=st.just(np.array([[0.0], [1000.0]])))
def far_apart(answer, z, below):
    p = 1 / (1 + np.exp(z[:, ::-1] - z))
    return answer(z - below), p


@holds("Every row has the sum 1, also in a batch of batches", z=numbers(st.tuples(*3 * [st.integers(1, 2)])))
def batches(answer, z):
    return np.asarray(answer(z)).sum(-1), np.ones(z.shape[:-1])


PROPERTIES = (equal, ratios, large, far_apart, batches)


@mistake("the largest score is not subtracted: exp overflows, and ∞ / ∞ is no number", caught_by=large)
def no_shift(z):
    e = np.exp(z)
    return e / e.sum(-1, keepdims=True)


@mistake("the sum goes over all rows: it is that of each row, over the last axis", caught_by=equal)
def whole(z):
    e = np.exp(z - z.max())
    return e / e.sum()


@mistake("the sum goes over all rows: it is that of each row, over the last axis", caught_by=equal)
def whole_and_no_shift(z):
    return np.exp(z) / np.exp(z).sum()


@mistake("the largest score of all rows is subtracted, and not that of each row", caught_by=far_apart)
def one_shift(z):
    e = np.exp(z - z.max())
    return e / e.sum(-1, keepdims=True)


@mistake("maximum and sum of a row have lost their axis, and NumPy sets them beside the wrong numbers: keepdims=True",
         caught_by=equal)
def lost_axis(z):
    e = np.exp(z - z.max(-1))
    return e / e.sum(-1)


@mistake("the sum of a row has lost its axis, and NumPy sets it beside the wrong numbers: keepdims=True", caught_by=equal)
def lost_axis_and_no_shift(z):
    return np.exp(z) / np.exp(z).sum(-1)


@mistake("the sum goes over the first axis, and not the last", caught_by=equal)
def first_axis(z):
    e = np.exp(z - z.max(0, keepdims=True))
    return e / e.sum(0, keepdims=True)


@mistake("nothing is divided by the sum: these are no probabilities yet", caught_by=equal)
def not_normalised(z):
    return np.exp(z - z.max(-1, keepdims=True))


@mistake("the sum is taken of the scores, and not of exp of them", caught_by=equal)
def of_scores(z):
    s = z - z.max(-1, keepdims=True)
    return np.exp(s) / np.exp(s.sum(-1, keepdims=True))


MISTAKES = (no_shift, whole, whole_and_no_shift, one_shift, lost_axis, lost_axis_and_no_shift, first_axis, not_normalised,
            of_scores)
