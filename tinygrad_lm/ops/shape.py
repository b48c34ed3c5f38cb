"""The same numbers in another arrangement: nothing is computed, and the backward puts them back."""
from math import prod

from ..backend import array_module, device_of, to_device


def reshape_forward(x, *, shape):
    return x.reshape(shape), (x.shape,)


def reshape_backward(dy, saved):
    shape, = saved
    return dy.reshape(shape),


def permute_forward(x, *, axes):
    return x.transpose(axes), (axes,)


def permute_backward(dy, saved):
    axes, = saved
    back = [0] * len(axes)
    for i, a in enumerate(axes):
        back[a] = i
    return dy.transpose(back),


def broadcast_to_forward(x, *, shape):
    return array_module(x).broadcast_to(x, shape), ()


def broadcast_to_backward(dy, saved):
    return dy,                                              # the engine undoes broadcasting


def concat_forward(*xs, axis):
    return array_module(xs[0]).concatenate(xs, axis=axis), ([x.shape[axis] for x in xs], axis)


def concat_backward(dy, saved):
    sizes, axis = saved
    ends = [sum(sizes[:i + 1]) for i in range(len(sizes) - 1)]
    return tuple(array_module(dy).split(dy, ends, axis=axis))


def stack_forward(*xs, axis):
    return array_module(xs[0]).stack(xs, axis=axis), (axis,)


def stack_backward(dy, saved):
    axis, = saved
    return tuple(array_module(dy).moveaxis(dy, axis, 0))


def pad_forward(x, *, widths, value):
    return array_module(x).pad(x, widths, constant_values=value), (widths, x.shape)


def pad_backward(dy, saved):
    widths, shape = saved
    return dy[tuple(slice(before, before + n) for (before, _), n in zip(widths, shape))],


def repeat_forward(x, *, repeats):
    return array_module(x).tile(x, repeats), (x.shape, repeats)


def repeat_backward(dy, saved):
    """The whole block stands `repeats` times along each axis: (r₀n₀, r₁n₁, …) is summed over the r's."""
    shape, repeats = saved
    shape = (1,) * (len(repeats) - len(shape)) + shape
    blocks = [n for pair in zip(repeats, shape) for n in pair]             # r₀, n₀, r₁, n₁, …
    return dy.reshape(blocks).sum(tuple(range(0, len(blocks), 2))).reshape(saved[0]),


def repeat_interleave_forward(x, *, repeats, axis):
    return x.repeat(repeats, axis), (x.shape, repeats, axis)


def repeat_interleave_backward(dy, saved):
    """Each element stands `repeats` times side by side: (…, n·r, …) as (…, n, r, …) is summed over r."""
    shape, repeats, axis = saved
    before, n, after = prod(shape[:axis]), shape[axis], prod(shape[axis + 1:])
    return dy.reshape(before, n, repeats, after).sum(2).reshape(shape),


def move_forward(x, *, device):
    """The same array on another device; its gradient comes back."""
    return to_device(x, device), (device_of(x),)


def move_backward(dy, saved):
    device, = saved
    return to_device(dy, device),
