"""The same numbers in another arrangement."""
import numpy as np
import pytest
from hypothesis import given, strategies as st

from tinygrad_lm import Tensor, functional as F

from .checks import check, holds_with
from .strategies import array, broadcastable, shapes, uniform

pytestmark = pytest.mark.usefixtures("device")

anything = array(shapes(sizes=(0, 1, 2, 3)))
with_axes = array(shapes(least=1))


def axis_of(draw, x):
    return draw(st.integers(-x.ndim, x.ndim - 1))


@given(array(), st.randoms(use_true_random=False))
def test_reshape(x, random):
    shape = random.choice([(-1,), (x.size,), x.shape + (1,), x.shape[::-1], (1, -1), tuple(x.shape) or (1,)])
    check(lambda x: F.reshape(x, *shape), lambda x: np.reshape(x, shape), x)
    check(lambda x: x.reshape(shape), lambda x: np.reshape(x, shape), x)


@given(anything, st.data())
def test_permute(x, data):
    axes = data.draw(st.permutations(range(x.ndim)))
    negative = [a - x.ndim for a in axes]
    check(lambda x: F.permute(x, *axes), lambda x: np.transpose(x, axes), x)
    check(lambda x: F.permute(x, negative), lambda x: np.transpose(x, axes), x)


@given(anything, st.data())
def test_transpose(x, data):
    axes = data.draw(st.permutations(range(x.ndim)))
    check(lambda x: F.transpose(x), np.transpose, x)
    check(lambda x: x.transpose(*axes), lambda x: np.transpose(x, axes or None), x)
    if x.ndim == 2:
        check(lambda x: x.T if isinstance(x, Tensor) else x, np.transpose, x)


@given(with_axes, st.data())
def test_swapaxes(x, data):
    a, b = axis_of(data.draw, x), axis_of(data.draw, x)
    check(lambda x: F.swapaxes(x, a, b), lambda x: np.swapaxes(x, a, b), x)


@given(broadcastable(uniform(), uniform()))
def test_broadcast_to(drawn):
    x, other = drawn
    shape = np.broadcast_shapes(x.shape, other.shape)
    check(lambda x: F.broadcast_to(x, *shape), lambda x: np.broadcast_to(x, shape), x)


@given(anything, st.data())
def test_squeeze(x, data):
    ones = [a for a, n in enumerate(x.shape) if n == 1]
    axis = data.draw(st.sampled_from([None, *ones, *(a - x.ndim for a in ones)]))
    check(lambda x: F.squeeze(x, axis), lambda x: np.squeeze(x, axis), x)


@given(anything, st.data())
def test_unsqueeze(x, data):
    axis = data.draw(st.integers(-x.ndim - 1, x.ndim))
    check(lambda x: F.unsqueeze(x, axis), lambda x: np.expand_dims(x, axis), x)


@st.composite
def pieces(draw):
    """Up to three arrays that differ only in their size along one axis, and that axis."""
    shape = draw(shapes(least=1))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    resized = [[*shape] for _ in range(draw(st.integers(1, 3)))]
    for s in resized:
        s[axis] = draw(st.integers(0, 3))
    return [draw(array(tuple(s))) for s in resized], axis


@given(pieces())
def test_concat(drawn):
    xs, axis = drawn
    check(lambda *xs: F.concat(xs, axis=axis), lambda *xs: np.concatenate(xs, axis=axis), *xs)


@given(shapes(most=2), st.integers(1, 3), st.data())
def test_stack(shape, n, data):
    axis = data.draw(st.integers(-len(shape) - 1, len(shape)))
    xs = [data.draw(array(shape)) for _ in range(n)]
    check(lambda *xs: F.stack(xs, axis=axis), lambda *xs: np.stack(xs, axis=axis), *xs)


@given(with_axes, st.integers(1, 3), st.data())
def test_split(x, size, data):
    """Each piece, and all of them joined again."""
    axis = axis_of(data.draw, x)
    ends = range(size, x.shape[axis], size)
    sizes = [p.shape[axis] for p in np.split(x, ends, axis=axis)]
    for how in size, sizes:
        for i, piece in enumerate(np.split(x, ends, axis=axis)):
            check(lambda x: F.split(x, how, axis=axis)[i], lambda _: piece, x)
        check(lambda x: F.concat(F.split(x, how, axis=axis), axis=axis), lambda x: x, x)


@given(array(shapes(least=1, sizes=(0, 1, 2))), st.data())
def test_pad(x, data):
    widths = [data.draw(st.tuples(st.integers(0, 2), st.integers(0, 2))) for _ in x.shape]
    check(lambda x: F.pad(x, widths, value=0.5), lambda x: np.pad(x, widths, constant_values=0.5), x)


@given(anything, st.data())
def test_repeat(x, data):
    times = data.draw(st.lists(st.integers(1, 3), min_size=0, max_size=x.ndim + 1).map(tuple))
    check(lambda x: F.repeat(x, times), lambda x: np.tile(x, times), x)


@given(with_axes, st.integers(1, 3), st.data())
def test_repeat_interleave(x, n, data):
    axis = axis_of(data.draw, x)
    check(lambda x: F.repeat_interleave(x, n, axis=axis), lambda x: np.repeat(x, n, axis=axis), x)
