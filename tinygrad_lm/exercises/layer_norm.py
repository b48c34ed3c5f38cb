"""Layer norm.

Deep in a network numbers drift: too large, too small, all to one side. Layer norm brings each row, the vector of one token,
back to mean 0 and variance 1, and then lets the network choose: a weight and a bias for each channel ([LN]):

    y = w x̂ + b         x̂ = (x − mean) / √(variance + ε)

Mean and variance are of that row alone, over its C channels. The variance is the mean of the squared distances from the
mean, divided by C, not by C − 1. ε, a small number, keeps a row whose numbers are all equal from being divided by 0.
"""
import numpy as np
from hypothesis import strategies as st

from .draws import numbers
from .parts import holds, mistake

HINTS = (
    "Mean and variance of each row: over which axis, and how do they stay columns that can be taken from x?",
    "x.mean(-1, keepdims=True), x.var(-1, keepdims=True): NumPy's var divides by C, which is right here.",
    "ε is added to the variance before the root. Last, w times what you have, plus b.",
)


def layer_norm(x, w, b, eps):
    """w (x − mean) / √(variance + ε) + b, the same shape as x.

    x: float (…, C); w, b: float (C,); eps: ε, a number
    """
    centred = x - x.mean(-1, keepdims=True)
    return w * centred / np.sqrt((centred ** 2).mean(-1, keepdims=True) + eps) + b


ANSWER = layer_norm

C = st.shared(st.integers(2, 3), key="C")
VECTOR = numbers(st.tuples(C))
X = numbers(st.tuples(st.integers(1, 2), C))
INPUTS = dict(x=X, w=VECTOR, b=VECTOR, eps=st.sampled_from((0.25, 1.0)))


@holds("A row whose numbers are all equal becomes b, and is not divided by 0", level=st.integers(-2, 2).map(float), b=VECTOR)
def flat_row(answer, level, b):
    return answer(np.full((1, len(b)), level), np.ones(len(b)), b, 0.25), b[None]


@holds("The row (0, 4), of mean 2 and variance 4, becomes (−1, 1) times √(4 / (4 + ε))",
       eps=st.sampled_from((0.0, 4.0, 12.0)))
def by_hand(answer, eps):
    return answer(np.array([[0.0, 4.0]]), np.ones(2), np.zeros(2), eps), np.array([[-1, 1]]) * np.sqrt(4 / (4 + eps))


@holds("Each row is treated alone, whatever else is in the batch", **INPUTS)
def rows_alone(answer, x, w, b, eps):
    return answer(x, w, b, eps), np.concatenate([answer(row[None], w, b, eps) for row in x])


@holds("Each channel has its own weight and bias", **INPUTS)
def weight_and_bias(answer, x, w, b, eps):
    return answer(x, w, b, eps), w * np.asarray(answer(x, np.ones_like(w), np.zeros_like(b), eps)) + b


PROPERTIES = (by_hand, flat_row, weight_and_bias, rows_alone)


def like(x, w, b, eps, *, ddof=0, outside=False, axis=-1):
    """Layer norm with slips."""
    root = np.sqrt(x.var(axis, keepdims=True, ddof=ddof) + eps * (not outside)) + eps * outside
    return w * (x - x.mean(axis, keepdims=True)) / root + b


@mistake("the variance is divided by C − 1: here it is the mean of the squares, divided by C", caught_by=by_hand)
def unbiased(x, w, b, eps):
    return like(x, w, b, eps, ddof=1)


@mistake("ε is added to the root, and not below it", caught_by=by_hand)
def outside(x, w, b, eps):
    return like(x, w, b, eps, outside=True)


@mistake("mean and variance are of the whole batch: they are those of each row, over the last axis", caught_by=rows_alone)
def whole_batch(x, w, b, eps):
    return like(x, w, b, eps, axis=None)


@mistake("mean and variance go over the first axis, the rows: that is batch norm", caught_by=by_hand)
def first_axis(x, w, b, eps):
    return like(x, w, b, eps, axis=0)


@mistake("it is divided by the variance, and not by its root", caught_by=by_hand)
def no_root(x, w, b, eps):
    return w * (x - x.mean(-1, keepdims=True)) / (x.var(-1, keepdims=True) + eps) + b


@mistake("the mean is not subtracted: that is RMS norm, and its squares are not those of the distances", caught_by=by_hand)
def not_centred(x, w, b, eps):
    return w * x / np.sqrt((x ** 2).mean(-1, keepdims=True) + eps) + b


@mistake("mean and variance have lost their axis, and NumPy sets them beside the wrong numbers: keepdims=True",
         caught_by=weight_and_bias)
def lost_axis(x, w, b, eps):
    return w * (x - x.mean(-1)) / np.sqrt(x.var(-1) + eps) + b


MISTAKES = (unbiased, outside, whole_batch, first_axis, no_root, not_centred, lost_axis)
