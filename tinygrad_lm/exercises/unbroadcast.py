"""Broadcasting, backwards.

In z = x + y a row of shape (3,) may be added to a matrix of shape (2, 3): NumPy repeats the row, and every copy of a number
takes part in the loss. So the gradient of the row is the sum over its copies:

    dy = Σ over the axes along which y was repeated, dz

An axis was repeated if y does not have it (NumPy puts missing axes in front) or has it with size 1 where dz has more. What
comes out has the shape of y, sizes of 1 included.
"""
import numpy as np
from hypothesis import strategies as st

from .draws import numbers
from .parts import holds, mistake

HINTS = (
    "First the axes that the shape does not have: there are dz.ndim - len(shape) of them, in front. Sum over them, away.",
    "Then the axes where the shape says 1 and dz has more: sum over them as well, but they stay, with size 1.",
    "dz.sum(axis, keepdims=True) keeps an axis; x.sum(tuple_of_axes) sums several at once; .reshape(shape) brings sizes of "
    "1 back.",
    "new = dz.ndim - len(shape); axes = tuple(range(new)) + tuple(new + i for i, n in enumerate(shape) if n == 1); then "
    "dz.sum(axes).reshape(shape)",
)


def unbroadcast(dz, shape):
    """The gradient of an array of `shape` that was broadcast to dz's shape.

    dz: float array; shape: a tuple that broadcasts to dz.shape -> float array of that shape
    """
    new = dz.ndim - len(shape)
    axes = tuple(range(new)) + tuple(new + i for i, n in enumerate(shape) if n == 1)
    return dz.sum(axes).reshape(shape)


ANSWER = unbroadcast


@st.composite
def repeated(draw):
    """A shape, and one that it broadcasts to."""
    large = tuple(draw(st.lists(st.integers(1, 3), min_size=1, max_size=3)))
    small = tuple(draw(st.sampled_from((1, n))) for n in large)
    return small[draw(st.integers(0, len(small))):], large


def counted(shape, large):
    """How often each number of an array of `shape` is copied, put in its place by NumPy itself."""
    places = np.broadcast_to(np.arange(int(np.prod(shape))).reshape(shape), large)
    return np.bincount(places.ravel(), minlength=int(np.prod(shape))).reshape(shape).astype(float)


@holds("Of a gradient of ones, each number gets as many as it was copied", shapes=repeated())
def copies(answer, shapes):
    shape, large = shapes
    return answer(np.ones(large), shape), counted(shape, large)


@holds("What was not broadcast keeps its gradient", dz=numbers(st.lists(st.integers(1, 3), max_size=2).map(tuple)))
def untouched(answer, dz):
    return answer(dz, dz.shape), dz


@holds("A column of shape (2, 1) gets the sums of the rows, and stays a column", dz=numbers((2, 3)))
def column(answer, dz):
    return answer(dz, (2, 1)), np.array([[sum(row)] for row in dz])


@holds("A row of shape (3,) gets the sums of the columns", dz=numbers((2, 3)))
def row(answer, dz):
    return answer(dz, (3,)), np.array([sum(column) for column in dz.T])


PROPERTIES = (row, column, untouched, copies)


@mistake("the gradient is not summed over the repeated axes: each copy's is as large as the whole array", caught_by=row)
def not_summed(dz, shape):
    return dz


@mistake("only the axes in front are summed: one of size 1 was repeated as well", caught_by=column)
def front_alone(dz, shape):
    return dz.sum(tuple(range(dz.ndim - len(shape))))


@mistake("the axes of size 1 are lost: the result needs the shape that was asked for", caught_by=column)
def flat(dz, shape):
    new = dz.ndim - len(shape)
    return dz.sum(tuple(range(new)) + tuple(new + i for i, n in enumerate(shape) if n == 1))


@mistake("it is the first axis that is summed, whichever was repeated", caught_by=column)
def first_axis(dz, shape):
    return dz.sum(0)


@mistake("the mean is taken over the copies, and not their sum", caught_by=row)
def mean(dz, shape):
    return unbroadcast(dz, shape) * max(1, int(np.prod(shape))) / dz.size


MISTAKES = (not_summed, front_alone, flat, first_axis, mean)
