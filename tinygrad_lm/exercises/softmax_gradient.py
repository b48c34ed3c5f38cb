"""The gradient of softmax.

y = softmax(z), over the last axis. A score zᵢ moves its own probability up and, since they share a sum of 1, all others of
its row down:

    dyⱼ/dzᵢ = yⱼ (1[i = j] − yᵢ)

With the gradient dy of the loss, summed over the probabilities j that zᵢ moves:

    dzᵢ = Σⱼ dyⱼ dyⱼ/dzᵢ = yᵢ (dyᵢ − Σⱼ dyⱼ yⱼ)

The matrix of all dyⱼ/dzᵢ, V × V a row, is never made: the right-hand side is all that is needed, and it needs y alone, not
z.
"""
import numpy as np
from hypothesis import strategies as st

from .draws import numbers
from .parts import holds, mistake

HINTS = (
    "Σⱼ dyⱼ yⱼ is one number a row. Which axis is summed, and how does it stay, so that it can be subtracted from dy?",
    "(dy * y).sum(-1, keepdims=True) is a column of these sums.",
    "Take it from dy, and multiply by y: y * (dy - …)",
)


def softmax_backward(dy, y):
    """dz, the same shape: dzᵢ = yᵢ (dyᵢ − Σⱼ dyⱼ yⱼ).

    dy: float (…, V), the gradient of the loss with respect to y; y: float (…, V), the softmax of z over the last axis
    """
    return y * (dy - (dy * y).sum(-1, keepdims=True))


ANSWER = softmax_backward

SHAPE = st.shared(st.tuples(st.integers(1, 2), st.integers(1, 3)), key="shape")
DY, Z = numbers(SHAPE), numbers(SHAPE)


def probabilities(z):
    e = np.exp(z)
    return e / e.sum(-1, keepdims=True)


@holds("It is what a small change of each score does to the loss Σ dy·y", dy=DY, z=Z)
def small_changes(answer, dy, z):
    given, d, h = answer(dy, probabilities(z)), np.zeros_like(z), 1e-4
    for at in np.ndindex(z.shape):
        step = np.zeros_like(z)
        step[at] = h
        d[at] = (dy * (probabilities(z + step) - probabilities(z - step))).sum() / (2 * h)
    return np.round(given, 6), np.round(d, 6)


@holds("Shifting all scores of a row changes nothing: the gradients of a row sum to 0", dy=DY, z=Z)
def sums_to_zero(answer, dy, z):
    return np.asarray(answer(dy, probabilities(z))).sum(-1), np.zeros(z.shape[:-1])


PROPERTIES = (small_changes, sums_to_zero)


@mistake("the sum over the other probabilities is missing: each was taken to depend on its own score alone",
         caught_by=small_changes)
def alone(dy, y):
    return dy * y


@mistake("only the diagonal of dyⱼ/dzᵢ is used, y (1 − y): the sigmoid's gradient, not softmax's", caught_by=small_changes)
def diagonal(dy, y):
    return dy * y * (1 - y)


@mistake("the sum goes over all rows, and not over each row's probabilities", caught_by=small_changes)
def whole(dy, y):
    return y * (dy - (dy * y).sum())


@mistake("dy is not multiplied by y before it is summed", caught_by=small_changes)
def plain_sum(dy, y):
    return y * (dy - dy.sum(-1, keepdims=True))


@mistake("the sum of a row has lost its axis, and NumPy sets it beside the wrong numbers: keepdims=True",
         caught_by=small_changes)
def lost_axis(dy, y):
    return y * (dy - (dy * y).sum(-1))


@mistake("the factor y in front is missing", caught_by=small_changes)
def no_factor(dy, y):
    return dy - (dy * y).sum(-1, keepdims=True)


MISTAKES = (alone, diagonal, whole, plain_sum, lost_axis, no_factor)
