"""Kernels written by hand: a .cu file beside the NumPy code of the same idea, launched on whatever holds the arrays."""
import zlib
from functools import cache
from pathlib import Path

import numpy as np

from .backend import array_module

FOLDER = Path(__file__).parent / "ops"
OPTIONS = ("-std=c++17", f"-I{FOLDER}")


def fits_kernel(x):
    """Whether `x` is the kernels' to work on: a float32 or float16 array of the GPU. NumPy's arrays never are (the emulator
    is for proof), and float64, in which gradients are checked, stays with the operations composed of CuPy's functions."""
    return type(x) is not np.ndarray and array_module(x) is not np and x.dtype in (np.float32, np.float16)


STORAGE = {"float32": "float", "float16": "half_t", "uint16": "bf16_t"}    # NumPy has no bfloat16: its bits travel as uint16


def storage(x):
    """The kernels' name for the type of `x`: which instance of a template takes it."""
    if x.dtype.name not in STORAGE:
        raise TypeError(f"kernels are made for {', '.join(STORAGE)} and this array is {x.dtype}: use astype")
    return STORAGE[x.dtype.name]


def launch(file, kernel, grid, block, arguments, *, shared=0):
    """Run `kernel`, e.g. "softmax_forward<float>", of ops/`file` over `grid` blocks of `block` threads.

    arguments: arrays, C-contiguous and all of one module, and numbers of NumPy's types, which fix how many bytes the
    kernel reads (np.int32(n), np.float32(s)). shared: bytes of dynamic shared memory a block. Arrays of CuPy run on the
    GPU, compiled at the first launch; arrays of NumPy on the emulator (emulator/), thread by thread: for proof, not for
    speed.
    """
    xp = array_module(next(a for a in arguments if hasattr(a, "flags")))
    for i, a in enumerate(arguments):
        if not hasattr(a, "dtype"):
            raise TypeError(f"argument {i} of {kernel} is {a!r}, a Python number, which no kernel reads as it is: give "
                            "np.int32, np.float32, …")
        if not isinstance(a, np.generic):
            if array_module(a) is not xp:
                raise TypeError(f"argument {i} of {kernel} lives in {array_module(a).__name__}, the first array in "
                                f"{xp.__name__}: move one")
            if not a.flags.c_contiguous:
                raise ValueError(f"argument {i} of {kernel} has gaps: shape {a.shape}, strides {a.strides}: use "
                                 "ascontiguousarray")
    compiled = function(xp, file, kernel)
    if shared > 48 << 10:                                     # what a block gets unasked
        compiled.max_dynamic_shared_size_bytes = shared
    compiled(_three(grid), _three(block), tuple(arguments), shared_mem=shared)


@cache
def function(xp, file, kernel):
    """The compiled kernel: CuPy's RawModule, or the emulator's, which has the same interface."""
    if xp is np:
        from .emulator import RawModule
    else:
        RawModule = xp.RawModule
    code = (FOLDER / file).read_text(encoding="utf-8")
    headers = b"".join(path.read_bytes() for path in sorted(FOLDER.glob("*.cuh")))
    code += f"// headers {zlib.crc32(headers):08x}\n"         # CuPy's cache on disk knows a kernel by this text alone
    return RawModule(code=code, options=OPTIONS, name_expressions=(kernel,)).get_function(kernel)


def _three(size):
    """5, (5,) and (5, 1, 1) mean the same."""
    size = (size,) if isinstance(size, int) else tuple(size)
    return size + (1,) * (3 - len(size))
