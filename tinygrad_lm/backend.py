"""Where arrays live and how their memory is kept: the code follows the data it is given."""
import ctypes
import functools
import os
import sys

import numpy as np


def array_module(x):
    """The module whose functions fit `x`: numpy, or cupy where `x` lives on a GPU (and only then loaded)."""
    cupy = sys.modules.get("cupy")
    return cupy if cupy is not None and isinstance(x, cupy.ndarray) else np


def to_host(x):
    """`x` as a NumPy array on the host; no copy where it is one already."""
    return np.asarray(x) if array_module(x) is np else x.get()


def scatter_add(target, index, values):
    """target[index] += values, where a position that `index` names twice receives both."""
    if array_module(target) is np:
        np.add.at(target, index, values)
    else:
        sys.modules["cupyx"].scatter_add(target, index, values)


def pieces(x, size=1 << 16):
    """Views of x in order, flat, `size` elements each: what several passes over a piece touch stays in the cache. (Half of
    that is as fast on one thread, but two threads meet twice as often at Python's lock.)"""
    flat = x.reshape(-1)
    return [flat[i:i + size] for i in range(0, flat.size, size)]


@functools.cache
def keep_memory_warm():
    """Ask glibc to keep freed memory for the next step instead of handing it back to the kernel.

    By default every temporary above 128 KiB to 32 MiB is mapped, faulted in page by page and unmapped again:
    a third of a training step's time. Returns True where it was done: on Linux with glibc, once a process,
    unless the environment says TINYGRAD_LM_KEEP_MEMORY=0. The price is that the process keeps its peak memory.
    """
    if os.environ.get("TINYGRAD_LM_KEEP_MEMORY", "1") == "0" or not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):                     # another C library: its defaults stay
        return False
    M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8
    return all([
        mallopt(M_MMAP_MAX, 0),                           # large blocks from the heap, not from mmap
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1),             # and the heap's top stays ours
        mallopt(M_ARENA_MAX, 1),                          # one heap for all threads, so that they share it
    ])
