"""Picking elements out: what is picked twice receives both gradients."""
import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import basic_indices, integer_array_indices

from tinygrad_lm import Tensor, functional as F
from tinygrad_lm.ops import embedding, index as ix

from .checks import check, check_same, gradients, tensor, there
from .strategies import array, lattice, shapes

pytestmark = pytest.mark.usefixtures("device")

with_axes = array(shapes(least=1, sizes=(1, 2, 3)))


@given(with_axes, st.data())
def test_getitem(x, data):
    """Numbers, slices of either direction, `...`, new axes; arrays of numbers, masks, and both kinds at once."""
    index = data.draw(st.one_of(basic_indices(x.shape, allow_newaxis=True),
                                integer_array_indices(x.shape),
                                st.sampled_from([x > 0, (x > 0)[..., 0] if x.ndim > 1 else [0, -1, 0],
                                                 (slice(None), np.array([0, 0])) if x.ndim > 1 else np.int64(0)])))
    check(lambda x: x[there(index, x)], lambda x: np.asarray(x[index]), x)


def test_getitem_basic_needs_no_adding():
    """What picks nothing twice is put back by assignment, which is much faster."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ix, "scatter_add", None)
        for index in 0, -1, slice(1, 2), (0, ...), (None, slice(None), 1), np.int64(1):
            assert gradients(lambda x: x[index], np.ones((2, 2)))[0].shape == (2, 2)


@given(array(shapes(least=2, most=2)))
def test_getitem_takes_tensors(x):
    rows, columns = np.array([0, 0, -1]), [0, 0, 0]
    check(lambda x: F.getitem(x, (Tensor(there(rows, x)), columns)), lambda x: x[rows, columns], x)
    check(lambda x: x[x > 0], lambda x: x[x > 0], np.abs(x) + 0.1)


@given(with_axes, st.data())
def test_gather(x, data):
    """An index may be long along its axis, and broadcasts along the others."""
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    shape = [data.draw(st.sampled_from((n, 1))) for n in x.shape]
    shape[axis] = data.draw(st.integers(1, 4))
    index = data.draw(array(tuple(shape), lambda rng, s: rng.integers(0, x.shape[axis], s))).astype(int)
    check(lambda x: F.gather(x, axis, there(index, x)), lambda x: np.take_along_axis(x, index, axis), x)


@given(with_axes, shapes(most=2, sizes=(0, 1, 3)), st.data())
def test_take(x, shape, data):
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    index = data.draw(array(shape, lambda rng, s: rng.integers(0, x.shape[axis], s))).astype(int)
    check(lambda x: F.take(x, there(index, x), axis=axis), lambda x: np.take(x, index, axis), x)


@pytest.mark.parametrize("onehot", [embedding.ONEHOT, 0])
@given(st.sampled_from([1, 4, 600]), shapes(sizes=(0, 1, 2, 5)), st.integers(0, 2**32 - 1))
def test_embedding(onehot, n, shape, seed):
    """Either way of going back; few different tokens, so that most repeat."""
    rng = np.random.default_rng(seed)
    idx = rng.choice(rng.integers(0, n, 3), shape)
    w = rng.standard_normal((n, 2))
    y = F.embedding(idx, tensor(w))
    np.testing.assert_array_equal(y.numpy(), w[idx])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedding, "ONEHOT", onehot)
        d = gradients(lambda w: F.embedding(idx, w), w)[0]
    expected = np.zeros_like(w)
    np.add.at(expected, idx, np.random.default_rng(1).standard_normal(y.shape))     # the seed that gradients() uses
    np.testing.assert_allclose(d, expected, atol=1e-12, strict=True)
    if n < 10:
        check(lambda w: F.embedding(Tensor(idx), w), lambda w: w[idx], w)


def test_embedding_takes_lists():
    w = tensor(np.arange(6.0).reshape(3, 2))
    assert F.embedding([[2], [0]], w).data.tolist() == [[[4, 5]], [[0, 1]]]


@pytest.mark.parametrize("start, rest", [(0, 0), (0, 2), (1, 0), (2, 1)])
@given(st.sampled_from([1, 4, 9]), st.integers(0, 3), st.integers(0, 4), st.data())
def test_placed_embedding(start, rest, n, B, T, data):
    """Places before and after those of the tokens, and none."""
    idx = data.draw(array((B, T), lambda rng, s: rng.integers(0, n, s))).astype(int)
    w, p = data.draw(array((n, 3))), data.draw(array((start + T + rest, 3)))
    check_same(lambda w, p: F.placed_embedding(idx, w, p, start=start),
               lambda w, p: F.embedding(idx, w) + p[start:start + T], w, p)


def test_placed_embedding_needs_places():
    w, p = tensor(np.ones((2, 3))), tensor(np.ones((4, 3)))
    for idx, start in (np.zeros((1, 3), int), 2), (np.zeros(3, int), 0):
        with pytest.raises(ValueError, match=r"shape \((1, )?3,?\) from place \d .* there are 4"):
            F.placed_embedding(idx, w, p, start=start)


def test_argmax():
    x = tensor(np.array([[1.0, 3.0, 2.0], [9.0, 3.0, 2.0]]))
    assert x.argmax(-1).data.tolist() == [1, 0] and x.argmax().item() == 3
