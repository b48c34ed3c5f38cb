"""Launching kernels that work row by row (rows.cuh): which team of threads shares a row, how much one load takes."""
import numpy as np

from ..backend import array_module
from ..kernels import launch, storage

WARP, BLOCK = 32, 256
SHORT = 1024                                                 # up to here a warp holds a row, beyond it a block


def dense(x, like=None):
    """x without gaps, in the dtype of `like`, as kernels read it."""
    like = x if like is None else like
    storage(like)                                            # refuses what kernels do not store
    return array_module(x).ascontiguousarray(x, dtype=like.dtype).reshape(x.shape)      # a number stays without axes


def launch_rows(file, kernel, arguments, shape, *, options=()):
    """`kernel`<storage, team, pack, *options> over all rows of `shape` (rows, C). Empty arrays need no launch."""
    rows, C = shape
    if rows * C == 0:
        return
    team = WARP if C <= SHORT else BLOCK
    flags = ", ".join(map(str, (storage(arguments[0]), team, pack(arguments, C), *options)))
    launch(file, f"{kernel}<{flags}>", -(-rows // (BLOCK // team)), BLOCK, (*arguments, np.int32(rows), np.int32(C)))


def pack(arguments, C):
    """How many neighbours one load takes: 16 bytes' worth where every row starts at a multiple of 16 bytes, else one."""
    width = 16 // arguments[0].dtype.itemsize
    stored = [a for a in arguments if hasattr(a, "flags") and a.dtype == arguments[0].dtype and a.ndim]
    return width if C % width == 0 and all(address(a) % 16 == 0 for a in stored) else 1


def address(x):
    return x.ctypes.data if array_module(x) is np else x.data.ptr


def parts_of(rows):
    """Into how many partial sums rows are gathered: fixed by their number alone, so that sums repeat to the bit."""
    return max(1, min(64, -(-rows // 32)))


def sum_partials(file, partials, like):
    """(parts, C) float32 -> (C,) in the dtype of `like`."""
    parts, C = partials.shape
    y = array_module(partials).empty((C,), like.dtype)
    if C:
        launch(file, f"sum_partials<{storage(like)}>", -(-C // BLOCK), BLOCK,
               (partials, y, np.int32(parts), np.int32(C)))
    return y
