"""How many numbers a kernel moves: with trace() as launches: every read and write of memory is counted, array by array."""
import ctypes
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

# Every access of the text is made and announced (traffic.h); ThreadSanitizer's own library, which would listen, is left out.
FLAGS = ("-O0", "-DEMULATOR_TRACE", "-fsanitize=thread",
         "-nodefaultlibs", "-Wl,--no-as-needed", "-lstdc++", "-lm", "-lc", "-lgcc_s")


@dataclass(frozen=True)
class Traffic:
    """How often, and how many bytes. An atomic operation is a read and a write; a float4 is one read of 16 bytes."""
    reads: int = 0
    read_bytes: int = 0
    writes: int = 0
    written_bytes: int = 0

    def __add__(self, other):
        return Traffic(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


class Watched(NamedTuple):
    """What a thread held where the kernel says watch("name", value)."""
    name: str
    block: int               # blockIdx.x + gridDim.x (blockIdx.y + gridDim.y blockIdx.z), and the thread likewise
    thread: int
    barriers: int            # how many barriers the thread had passed
    value: float


@dataclass(frozen=True)
class Launch:
    """One launch: arrays[i] is the traffic with argument i (none with a number; with an array given twice, at its first)."""
    kernel: str
    arrays: tuple
    shared: Traffic
    watched: tuple

    @property
    def memory(self):
        """The traffic with global memory: all arrays together."""
        return sum(self.arrays, Traffic())

    def held(self, name, barriers, block=0):
        """What the threads, in their order, held at watch(name, …) when they had passed so many barriers."""
        return [w.value for w in sorted(self.watched) if (w.name, w.barriers, w.block) == (name, barriers, block)]


_launches = None                                       # of the innermost trace()


@contextmanager
def trace():
    """with trace() as launches: each launch on NumPy arrays adds a Launch to the list.

    Counted is what the kernel's text reads and writes. An optimising compiler may keep in a register what the text reads
    twice, and a cache serves most of what threads read again. The kernel is compiled once more for this, without
    optimisation, and runs slower. A launch that fails is in the list, too, as far as it came. (clang before 15 does not say
    when it copies a struct, such as a float4; g++ does.)"""
    global _launches
    before, _launches = _launches, []
    try:
        yield _launches
    finally:
        _launches = before


def tracing():
    """Is a trace being made?"""
    return _launches is not None


class _Watched(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("block", ctypes.c_longlong), ("thread", ctypes.c_int),
                ("barriers", ctypes.c_int), ("value", ctypes.c_double)]


@contextmanager
def recorded(kernel, library, spans):
    """Around one launch from `library`; spans (arguments, 2): where each array lies and its bytes, 0 and 0 for a number."""
    spans, counts = np.array(spans, np.int64).reshape(-1, 2), np.zeros((len(spans) + 1, 4), np.int64)
    library.emulator_trace(ctypes.c_void_p(spans.ctypes.data), len(spans), ctypes.c_void_p(counts.ctypes.data))
    yield
    n = ctypes.c_longlong()
    library.emulator_watched.restype = ctypes.POINTER(_Watched)
    watched = library.emulator_watched(ctypes.byref(n))
    *arrays, shared = (Traffic(*row) for row in counts.tolist())
    _launches.append(Launch(kernel, tuple(arrays), shared, tuple(
        Watched(w.name.decode(), w.block, w.thread, w.barriers, w.value) for w in watched[:n.value])))
