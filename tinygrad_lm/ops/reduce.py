"""Many numbers become one: sums, means and extremes over axes, and running sums."""
from functools import lru_cache

from ..backend import array_module


def spread(dy, shape, axis, keepdims):
    """Repeat a reduction's gradient along the axes that it summed over (a view, no copy)."""
    xp = array_module(dy)
    if not keepdims:
        axes = range(len(shape)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
        dy = xp.expand_dims(dy, tuple(a % len(shape) for a in axes)) if len(shape) else dy
    return xp.broadcast_to(dy, shape)


def sum_forward(x, *, axis=None, keepdims=False):
    return x.sum(axis=axis, keepdims=keepdims), (x.shape, axis, keepdims)


def sum_backward(dy, saved):
    return spread(dy, *saved),


def mean_forward(x, *, axis=None, keepdims=False):
    if x.size == 0:
        raise ValueError("the mean of no elements is undefined")
    y = x.mean(axis=axis, keepdims=keepdims)
    return y, (x.shape, axis, keepdims, x.size // y.size)


def mean_backward(dy, saved):
    *where, n = saved
    return spread(dy / n, *where),


def max_forward(x, *, axis=None, keepdims=False):
    return x.max(axis=axis, keepdims=keepdims), (x, x.max(axis=axis, keepdims=True), axis, keepdims)


def min_forward(x, *, axis=None, keepdims=False):
    return x.min(axis=axis, keepdims=keepdims), (x, x.min(axis=axis, keepdims=True), axis, keepdims)


def extreme_backward(dy, saved):
    """Equal extremes share the gradient equally."""
    x, y, axis, keepdims = saved
    chosen = x == y
    n = chosen.sum(axis=axis, keepdims=True)
    return spread(dy, x.shape, axis, keepdims) * (chosen / n),


def cumsum_forward(x, *, axis):
    return x.cumsum(axis=axis), (axis,)


def cumsum_backward(dy, saved):
    """dxᵢ = Σⱼ≥ᵢ dyⱼ: the running sum from the other end"""
    axis, = saved
    xp = array_module(dy)
    return xp.flip(xp.flip(dy, axis).cumsum(axis=axis), axis),


# ---- sums that operations need inside themselves: BLAS does them several times faster than reduce -------------------

def row_dots(a, b):
    """Σᵢ aᵢ bᵢ of each row, in one pass: (..., C) and (..., C) -> (..., 1)"""
    xp = array_module(a)
    return (xp.vecdot(a, b) if hasattr(xp, "vecdot") else xp.einsum("...i,...i->...", a, b))[..., None]    # CuPy has none


def row_sums(x):
    """Σᵢ xᵢ of each row, as a product with ones: (N, C) -> (N, 1)"""
    return x.dot(ones(array_module(x), x.shape[1], x.dtype)[:, None])


def row_means(x):
    """Σᵢ xᵢ / C of each row, as a product with 1/C: (N, C) -> (N, 1)"""
    return x.dot(ones(array_module(x), x.shape[1], x.dtype, mean=True)[:, None])


def column_sums(x):
    """Σ over all rows: (..., C) -> (C,)"""
    if x.ndim != 2:
        x = x.reshape(-1, x.shape[-1])
    return ones(array_module(x), len(x), x.dtype).dot(x)


@lru_cache(maxsize=64)
def ones(xp, n, dtype, mean=False):
    """Made once: the same few lengths are asked for again and again. mean: 1/n instead of 1."""
    return xp.full(n, 1 / max(n, 1) if mean else 1, dtype)
