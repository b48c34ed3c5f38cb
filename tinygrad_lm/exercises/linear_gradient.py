"""The gradient of a linear layer.

A linear layer with a weight W of shape (out, in), as PyTorch keeps it, makes of each row of X a row of Y:

    Y = X Wᵀ + b            X (N, in), W (out, in), b (out,), Y (N, out)

dY, the gradient of the loss with respect to Y, has Y's shape. Of a product of matrices the gradients are products, too:

    dX = dY W               dW = dYᵀ X

and b was added to every row: its gradient is a sum over all of them.
"""
import numpy as np
from hypothesis import strategies as st

from .draws import numbers
from .parts import holds, mistake

HINTS = (
    "Write down the shapes. dX has X's, (N, in); which product of dY (N, out) and W (out, in) has it? There is only one.",
    "dW has W's shape (out, in): of dY (N, out) and X (N, in), turn the one that has to be turned.",
    "b is one number a column of Y, added in each of the N rows: sum dY over the rows.",
    "dX = dY @ W, dW = dY.T @ X, db = dY.sum(0)",
)


def linear_backward(dY, X, W):
    """(dX, dW, db) for Y = X Wᵀ + b.

    dY: float (N, out); X: float (N, in); W: float (out, in) -> float (N, in), (out, in), (out,)
    """
    return dY @ W, dY.T @ X, dY.sum(0)


ANSWER = linear_backward

N, I, O = (st.shared(st.integers(1, 3), key=key) for key in ("N", "in", "out"))
INPUTS = dict(dY=numbers(st.tuples(N, O)), X=numbers(st.tuples(N, I)), W=numbers(st.tuples(O, I)))


@holds("dX is what a change of one number of X does to the loss Σ dY·Y", **INPUTS)
def of_the_input(answer, dY, X, W):
    return answer(dY, X, W)[0], changed(lambda X: (dY * (X @ W.T)).sum(), X)


@holds("dW is what a change of one weight does to it", **INPUTS)
def of_the_weight(answer, dY, X, W):
    return answer(dY, X, W)[1], changed(lambda W: (dY * (X @ W.T)).sum(), W)


@holds("db is what a change of one bias does to it", **INPUTS)
def of_the_bias(answer, dY, X, W):
    return answer(dY, X, W)[2], changed(lambda b: (dY * (X @ W.T + b)).sum(), np.zeros(len(W)))


def changed(loss, x):
    """d loss / d x by moving each number of x by one, up and down: exact, for the loss is linear in it."""
    d = np.zeros_like(x)
    for at in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[at] = 1
        d[at] = (loss(x + step) - loss(x - step)) / 2
    return d


PROPERTIES = (of_the_input, of_the_weight, of_the_bias)


@mistake("dW is transposed: it has the shape (out, in) of W", caught_by=of_the_weight)
def transposed(dY, X, W):
    return dY @ W, X.T @ dY, dY.sum(0)


@mistake("db is not summed over the rows: b was added to every one of them", caught_by=of_the_bias)
def not_summed(dY, X, W):
    return dY @ W, dY.T @ X, dY


@mistake("db is the mean of the rows of dY: if the loss is a mean, dY has its 1/N already", caught_by=of_the_bias)
def mean(dY, X, W):
    return dY @ W, dY.T @ X, dY.mean(0)


@mistake("db is summed over the outputs, and not over the rows", caught_by=of_the_bias)
def wrong_axis(dY, X, W):
    return dY @ W, dY.T @ X, dY.sum(1)


@mistake("dX and dW are exchanged", caught_by=of_the_input)
def exchanged(dY, X, W):
    return dY.T @ X, dY @ W, dY.sum(0)


MISTAKES = (transposed, not_summed, mean, wrong_axis, exchanged)
