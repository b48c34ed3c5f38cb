"""Many numbers become one: over no axis, one, several, from either end, kept or dropped."""
import numpy as np
import pytest
from hypothesis import given, strategies as st

from tinygrad_lm import functional as F

from .checks import check, check_same, gradients, holds_with, tensor, there
from .strategies import array, axes_of, distinct, shapes, uniform

pytestmark = pytest.mark.usefixtures("device")

with_axes = array(shapes(least=1))


def reduction(f, reference, strategy=array()):
    """`f` and `reference` over any axes, kept or dropped."""
    def options(draw, x):
        o = dict(axis=draw(axes_of(x)), keepdims=draw(st.booleans()))
        return lambda x: f(x, **o), lambda x: reference(x, **o)
    return holds_with(strategy, options)


test_sum = reduction(F.sum, np.sum)
test_mean = reduction(F.mean, np.mean)
test_max = reduction(F.max, np.max, array(values=distinct))
test_min = reduction(F.min, np.min, array(values=distinct))


@given(array(shapes(sizes=(0, 2))), st.booleans())
def test_sum_of_nothing(x, keepdims):
    check(lambda x: F.sum(x, keepdims=keepdims), lambda x: np.sum(x, keepdims=keepdims), x)


@given(with_axes, st.data())
def test_cumsum(x, data):
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    check(lambda x: F.cumsum(x, axis=axis), lambda x: np.cumsum(x, axis=axis), x)


@given(array(shapes(least=1, sizes=(2, 3))), st.data())
def test_var(x, data):
    axis = data.draw(st.one_of(st.none(), st.integers(-x.ndim, x.ndim - 1)))
    o = dict(axis=axis, keepdims=data.draw(st.booleans()))
    check(lambda x: F.var(x, **o), lambda x: np.var(x, ddof=1, **o), x)
    check(lambda x: F.var(x, correction=0, **o), lambda x: np.var(x, **o), x)


def test_var_of_one():
    with pytest.raises(ValueError, match="divides by 0"):
        F.var(tensor(np.ones((3, 1))), axis=1)


@given(with_axes, st.data())
def test_logsumexp(x, data):
    o = dict(axis=data.draw(axes_of(x)), keepdims=data.draw(st.booleans()))
    check_same(lambda x: F.logsumexp(x, **o), lambda x: F.log(F.sum(F.exp(x), **o)), x)
    big = F.logsumexp(tensor(x + 1e4), **o).numpy()
    np.testing.assert_allclose(big, F.logsumexp(tensor(x), **o).numpy() + 1e4)


def test_logsumexp_of_impossible_things():
    assert F.logsumexp(tensor(np.array([-np.inf, 0.0, -np.inf]))).item() == 0


def test_equal_extremes_share_the_gradient():
    x = np.array([[3.0, 1.0, 3.0], [3.0, 3.0, 3.0], [0.0, 2.0, 2.0]])
    for f, x in (F.max, x), (F.min, -x):
        rows, = gradients(lambda x: F.sum(f(x, axis=1) * there(np.array([6.0, 6.0, 6.0]), x)) / 1, x)
        scale = rows.sum() / 18                                     # the seed
        np.testing.assert_allclose(rows / scale, [[3, 0, 3], [2, 2, 2], [0, 3, 3]])
        every, = gradients(f, x)
        np.testing.assert_allclose(every / every.sum(), (abs(x) == 3) / 5)
