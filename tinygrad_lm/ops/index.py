"""Picking elements out; the backward puts each gradient where its element came from and adds where one was picked
twice."""
from ..backend import array_module, scatter_add


def is_basic(index):
    """Only integers, slices, ... and None: such an index picks nothing twice."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(isinstance(i, (int, slice, type(None), type(...))) and not isinstance(i, bool) for i in parts)


def getitem_forward(x, *, index):
    return x[index], (x.shape, index)


def getitem_backward(dy, saved):
    shape, index = saved
    dx = array_module(dy).zeros(shape, dy.dtype)
    if is_basic(index):
        dx[index] = dy
    else:
        scatter_add(dx, index, dy)
    return dx,


def along(xp, index, axis, shape):
    """The advanced index (i₀, i₁, …) that equals index along `axis` and counts up along every other."""
    grid = list(xp.ogrid[tuple(slice(n) for n in shape)])
    grid[axis] = index
    return tuple(grid)


def gather_forward(x, *, axis, index):
    return array_module(x).take_along_axis(x, index, axis), (x.shape, axis, index)


def gather_backward(dy, saved):
    shape, axis, index = saved
    xp = array_module(dy)
    dx = xp.zeros(shape, dy.dtype)
    scatter_add(dx, along(xp, index, axis, dy.shape), dy)      # dy's shape: the index may broadcast
    return dx,


def take_forward(x, *, index, axis):
    return x.take(index, axis), (x.shape, index, axis)


def take_backward(dy, saved):
    shape, index, axis = saved
    dx = array_module(dy).zeros(shape, dy.dtype)
    scatter_add(dx, (slice(None),) * axis + (index,), dy)
    return dx,
