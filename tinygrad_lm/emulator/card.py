"""What a card takes at a launch: so many blocks, threads and bytes, and arrays that lie in memory as a kernel reads them."""
from itertools import combinations

import numpy as np

GRID, BLOCK, THREADS = ((1 << 31) - 1, 65535, 65535), (1024, 1024, 64), 1024
SHARED = 48 << 10                    # a block's shared memory, static and dynamic, as long as the kernel asks for no more
# What it may ask for: as much as the largest blocks have, those of compute capability 9.0 and 10.0 (H100, H200, B200). It is
# 163 KiB with 8.0 (A100), 99 with 8.6, 8.9 and 12.0, 64 with 7.5.
LARGEST = 227 << 10


class KernelError(RuntimeError):
    """What a kernel did, or its launch asked for, that must not be."""


def check_size(kernel, grid, block, dynamic):
    """grid, block: three numbers each. dynamic: bytes of shared memory that the launch adds to the kernel's own."""
    def refuse(what):
        raise KernelError(f"{kernel.name}: {what}")

    for what, size, limits in (("gridDim", grid, GRID), ("blockDim", block, BLOCK)):
        for axis, n, limit in zip("xyz", size, limits, strict=True):
            if not 1 <= n <= limit:
                refuse(f"{what}.{axis} is {n}, and a card takes 1 to {limit}")
    x, y, z = block
    if x * y * z > THREADS:
        refuse(f"a block has 1 to {THREADS} threads, not {x * y * z}: {x} · {y} · {z}")
    static, allowed = kernel.shared_size_bytes, kernel.max_dynamic_shared_size_bytes
    if static > SHARED:
        refuse(f"{static} bytes of static shared memory, and a block has {SHARED}: what is more must be dynamic")
    if dynamic > allowed:
        refuse(f"{dynamic} bytes of dynamic shared memory a block, and {allowed} were allowed ({SHARED} less {static} "
               "static ones, unless max_dynamic_shared_size_bytes is raised)")
    if static + dynamic > LARGEST:
        refuse(f"{static} + {dynamic} bytes of static and dynamic shared memory, and the largest blocks, an H100's, have "
               f"{LARGEST}")


def check_arrays(name, arguments):
    """A kernel is told where an array begins, and nothing of strides, the order of bytes or another that overlaps it."""
    arrays = [(i, a, a.__array_interface__["data"][0]) for i, a in enumerate(arguments) if isinstance(a, np.ndarray)]
    for i, a, _ in arrays:
        if not a.flags.c_contiguous:
            raise KernelError(f"{name}: argument {i} has gaps: shape {a.shape}, strides {a.strides}: use ascontiguousarray")
        if a.dtype.kind not in "biufc" or not a.dtype.isnative:
            raise TypeError(f"{name}: argument {i} is of dtype {a.dtype.str!r}, which no kernel reads: numbers in the byte "
                            "order of this machine, use astype")
    for (i, a, start), (j, b, other) in combinations(arrays, 2):
        shared = min(start + a.nbytes, other + b.nbytes) - max(start, other)
        if shared > 0 and (start, a.nbytes) != (other, b.nbytes):
            raise KernelError(f"{name}: arguments {i} and {j} share {shared} bytes, and neither is the other: shapes "
                              f"{a.shape} and {b.shape}: copy one")
