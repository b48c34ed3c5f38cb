"""Where arrays live and how their memory is kept: the code follows the data it is given."""
import ctypes
import functools
import importlib
import os
import sys

import numpy as np


def array_module(x):
    """The module whose functions fit `x`: numpy, or cupy where `x` lives on a GPU (and only then loaded)."""
    if type(x) is np.ndarray:                             # by far the most frequent question, asked of every operation
        return np
    cupy = sys.modules.get("cupy")
    return cupy if cupy is not None and isinstance(x, cupy.ndarray) else np


def to_host(x):
    """`x` as a NumPy array on the host; no copy where it is one already."""
    return np.asarray(x) if array_module(x) is np else x.get()


# ---- devices: "cpu", where arrays are NumPy's, and "cuda", where they are CuPy's ------------------------------------

DEVICES = ("cpu", "cuda")


def device_of(x):
    """Where the array `x` lives: "cpu" or "cuda"."""
    return "cpu" if array_module(x) is np else "cuda"


def to_device(x, device):
    """The array (or list, or number) `x` on `device`; no copy where it is there already."""
    if device == "cpu":
        return to_host(x)
    if device != "cuda":
        raise ValueError(f'a device is "cpu" or "cuda", not {device!r}')
    return cuda().asarray(x)


def beside(x, other):
    """`x` where `other` lives: an explicit move, for numbers without a gradient (token ids, masks)."""
    return to_device(x, device_of(other))


def cuda_is_available():
    """Is there a GPU that this process can use? False, and never an error, without CuPy or without a driver."""
    return why_no_cuda() is None


@functools.cache
def why_no_cuda():
    """What keeps this process on the CPU, in one sentence; None where nothing does."""
    try:
        cupy = importlib.import_module("cupy")
    except ImportError:
        return 'CuPy is not installed, so everything runs on the CPU: pip install "tinygrad_lm[cuda12]" (or [cuda13], ' \
               "for a driver that knows CUDA 13) brings it"
    if not cupy.is_available():
        return "CuPy is installed, but finds no GPU with a driver that it can use, so everything runs on the CPU: " \
               "see what `nvidia-smi` says"
    return None


@functools.cache
def cuda():
    """CuPy, made ready: out of memory, it says how much was asked for and how much was free."""
    if why_no_cuda() is not None:
        raise RuntimeError(why_no_cuda())
    cupy = sys.modules["cupy"]
    pool = cupy.get_default_memory_pool()

    def allocate(size):
        try:
            return pool.malloc(size)
        except cupy.cuda.memory.OutOfMemoryError:
            free, total = cupy.cuda.runtime.memGetInfo()
            free += pool.free_bytes()                     # what the pool keeps for the next array is ours as well
        raise MemoryError(f"the GPU is out of memory: {size / 2**20:,.1f} MiB more were asked for, {free / 2**20:,.1f} of "
                          f"its {total / 2**20:,.1f} MiB were free: take a smaller batch, a shorter block or a smaller "
                          "model")

    cupy.cuda.set_allocator(allocate)
    return cupy


def cuda_loaded():
    """Can there be arrays of the GPU at all? Where not, nothing needs to be looked at."""
    return sys.modules.get("cupy") is not None


def check_one_device(name, values):
    """Refuse an operation whose arrays (others are not looked at) lie on two devices."""
    cupy = sys.modules["cupy"]
    arrays = []
    for value in values:
        arrays += [a for a in (value if isinstance(value, tuple) else (value,)) if isinstance(a, (np.ndarray, cupy.ndarray))]
    if len({type(a) is np.ndarray for a in arrays}) == 2:
        places = " and ".join(f"{a.shape} on {device_of(a)}" for a in arrays)
        raise TypeError(f'{name} of arrays on two devices, {places}: move one, e.g. with .to("cuda") or .to("cpu")')


def capturing(x):
    """Is what happens to `x` now being recorded into a CUDA graph (graph.py), so that no value can be read?"""
    xp = array_module(x)
    return xp is not np and xp.cuda.get_current_stream().is_capturing()


def random(rng, x):
    """Numbers in [0, 1), float32, of the shape and on the device of `x`, drawn from the NumPy generator `rng`.

    On a GPU they come from a generator of its own, made anew for each array from one integer that `rng` draws: so `rng`'s
    state alone, which checkpoints keep, says what follows.
    """
    xp = array_module(x)
    if xp is np:
        return rng.random(x.shape, dtype=np.float32)
    seed = int(rng.integers(2**63))
    return xp.random.Generator(xp.random.Philox4x3210(seed)).random(x.shape, dtype=np.float32)


def scatter_add(target, index, values):
    """target[index] += values, where a position that `index` names twice receives both."""
    array_module(target).add.at(target, index, values)


def pieces(x, size=1 << 16):
    """Views of x in order, `size` elements each, flat where there are several: what several passes over a piece touch stays
    in the cache. (Half of that is as fast on one thread, but two threads meet twice as often at Python's lock.)"""
    if x.size <= size and x.ndim:
        return [x]
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
