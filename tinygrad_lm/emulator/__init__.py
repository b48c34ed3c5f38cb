"""Kernels without a GPU: the text of a .cu file is compiled by an ordinary C++ compiler and runs on NumPy arrays, thread by
thread, watched for what a GPU would do silently wrong (cuda_on_cpu.h)."""
import ctypes
import functools
import getpass
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np

from . import traffic
from .card import SHARED, KernelError, check_arrays, check_size
from .traffic import trace

HEADER = Path(__file__).parent / "cuda_on_cpu.h"
GUARD = 4096                                           # bytes before and after each array, watched
# Calls tell where threads wait: each keeps a frame of its own. What the kernel does not use is thrown away, so that its
# shared memory alone is counted.
FLAGS = ("-std=c++20", "-O1", "-gdwarf-4", "-fPIC", "-shared", "-w",
         "-fno-omit-frame-pointer", "-fno-optimize-sibling-calls",
         "-fvisibility=hidden", "-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections")
ORDERS = {"forward": 0, "backward": 1, "shuffled": 2}
# The one line that no C++ compiler reads as CUDA does: an array whose size the launch decides.
DYNAMIC_SHARED = re.compile(r"extern\s+__shared__\s+(?:__align__\(\d+\)\s+)?([\w ]+?)\s+(\w+)\[\];")
LAUNCHER = """
extern "C" __attribute__((visibility("default"))) int emulator_static_shared() {
    return emulator::static_shared().size - sizeof emulator::touched;
}
extern "C" __attribute__((visibility("default")))
int emulator_launch(const int* size, int shared, const long long* codes, int n, int order, unsigned seed, char* text,
                    long long* counted) {
    return emulator::launch(%s, size, shared, codes, n, order, seed, text, counted);
}
"""


@functools.cache
def compiler():
    """The C++ compiler, or None: $CXX, g++ or clang++."""
    return next(filter(None, map(shutil.which, filter(None, (os.environ.get("CXX"), "g++", "clang++")))), None)


@functools.cache
def own_flags():
    """What one compiler knows and the other does not. GCC: one call in the text stays one, copied into no branch before it.
    clang: traffic.h hears of a read also where a write to the same place follows."""
    is_clang = "clang" in subprocess.run([compiler(), "--version"], capture_output=True, text=True).stdout
    return ("-mllvm", "-tsan-instrument-read-before-write=1") if is_clang else ("-fno-thread-jumps",)


def available():
    """Can kernels run here?"""
    return compiler() is not None


_order, _seed = "forward", 0


@contextmanager
def thread_order(order, seed=0):
    """with thread_order("shuffled", 3): in which order a block's threads (and, backwards, the blocks) take their turns. A
    kernel that is right gives the same in every one: "forward", "backward", "shuffled"."""
    global _order, _seed
    before, (_order, _seed) = (_order, _seed), (order, seed)
    if order not in ORDERS:
        raise ValueError(f"an order of threads is one of {', '.join(ORDERS)}, not {order!r}")
    try:
        yield
    finally:
        _order, _seed = before


def poisoned(shape, dtype=np.float32):
    """An array to be written by a kernel: NaN, or for integers and bytes all bits set, where it leaves it unwritten."""
    out = np.empty(shape, dtype)
    out.reshape(-1).view(np.uint8)[...] = 0xff
    return out


class RawModule:
    """The interface of cupy.RawModule, as far as kernels.py needs it."""

    def __init__(self, *, code, options=(), name_expressions=()):
        self.code, self.options = code, tuple(options)

    def get_function(self, name):
        return Kernel(name, self.code, self.options)


def in_cpp(name, code):
    """The text of a .cu file as C++ that launches its kernel `name`."""
    code = DYNAMIC_SHARED.sub(r"\1* \2 = reinterpret_cast<\1*>(emulator::dynamic());", code)
    return f'#include "{HEADER.name}"\nnamespace {{\n#line 1 "{name}"\n{code}\n}}' + LAUNCHER % name


class Kernel:
    """One compiled kernel: kernel(grid, block, arguments, shared_mem=bytes). shared_size_bytes: its static shared memory."""

    def __init__(self, name, code, options):
        self.name, self.text, self.options = name, in_cpp(name, code), options
        compiled(self.text, options, _flags)           # what does not compile is said here, as CuPy does
        self.max_dynamic_shared_size_bytes = SHARED - self.shared_size_bytes
        self.counted = {}                              # of the last launch: how often threads came to a barrier, …

    @functools.cached_property
    def shared_size_bytes(self):
        return self.library().emulator_static_shared()

    def library(self, flags=FLAGS):
        return loaded(compiled(self.text, self.options, flags))

    def __call__(self, grid, block, arguments, *, shared_mem=0):
        check_size(self, grid, block, shared_mem)
        check_arrays(self.name, arguments)
        message, counted = _run(self, np.array([*grid, *block], np.int32), arguments, shared_mem)
        self.counted = dict(zip(("barriers", "exchanges", "atomics"), counted.tolist()))
        if message:
            raise (TypeError if message.startswith(("argument", "the kernel takes")) else KernelError)(f"{self.name}: {message}")


def place(array):
    """Two arguments are one array where they are the same bytes."""
    return array.ctypes.data, array.nbytes


def in_this_process(kernel, size, arguments, shared):
    """One launch: (what went wrong or "", what was counted (3,)). size (6,): blocks and threads."""
    arrays = {place(a): Guarded(a) for a in arguments if isinstance(a, np.ndarray)}          # one given twice is one
    guarded = [arrays[place(a)] if isinstance(a, np.ndarray) else None for a in arguments]
    values = [np.array(g.address, np.uint64) if g else np.array(a) for g, a in zip(guarded, arguments)]
    types = [(g.array if g else v).dtype for g, v in zip(guarded, values)]
    codes = np.array([[g is not None, t.itemsize, t.kind == "f", v.ctypes.data]
                      for g, t, v in zip(guarded, types, values)], np.int64).reshape(-1, 4)
    text, counted = ctypes.create_string_buffer(2048), np.zeros(3, np.int64)
    pointer = lambda a: ctypes.c_void_p(a.ctypes.data)
    library = kernel.library(FLAGS + traffic.FLAGS if traffic.tracing() else FLAGS)
    spans = [(g.address, g.data.nbytes) if g else (0, 0) for g in guarded]
    with traffic.recorded(kernel.name, library, spans) if traffic.tracing() else nullcontext():
        failed = library.emulator_launch(pointer(size), shared, pointer(codes), len(codes), ORDERS[_order],
                                         ctypes.c_uint(_seed), text, pointer(counted))
    if not failed:
        for i, g in enumerate(guarded):
            if g:
                g.give_back(f"{kernel.name}: argument {i}")
    return in_words(text.value.decode(), library._name) if failed else "", counted


_flags, _run = FLAGS, in_this_process                  # how kernels are compiled, and who runs them: or sanitize.py's


def in_words(message, library):
    """The message with "line 7{12ab 34cd }" told as "line 7 of device.cuh, called in line 3 of f", if addr2line is there."""
    def calls(site):
        line, places = site.groups()
        if not shutil.which("addr2line"):
            return line
        told = subprocess.run(["addr2line", "-sie", library, *places.split()], capture_output=True, text=True).stdout
        told = [place.split(" (")[0].rsplit(":", 1) for place in told.splitlines()]
        files = [(file, number) for file, number in told if file not in (HEADER.name, "??")]
        return ", called in ".join(f"line {number} of {file}" for file, number in files) or line
    return re.sub(r"(line \d+)\{([^}]*)\}", calls, message)


class Guarded:
    """A copy of an array between guards, which a kernel that writes beside it damages. Read as float, half or bfloat16 they
    are NaN, each with other low bits: one that is read here and written there shows as well."""
    draws = np.random.default_rng(0)

    def __init__(self, array):
        self.array = array
        room = (self.draws.integers(1 << 22, size=(array.nbytes + 2 * GUARD + 128) // 4, dtype=np.uint32) | 0x7fc00000).view(np.uint8)
        start = GUARD + -(room.ctypes.data + GUARD) % 64
        self.data, self.before, self.after = room[start:start + array.nbytes], room[:start], room[start + array.nbytes:]
        self.guards = self.before.copy(), self.after.copy()
        self.data[...] = array.reshape(-1).view(np.uint8)
        self.address = self.data.ctypes.data

    def give_back(self, who):
        guards = zip(("before the start", "past the end"), (self.before, self.after), self.guards)
        for where, now, then in guards:
            if not np.array_equal(now, then):
                raise KernelError(f"{who}, shape {self.array.shape}: something was written {where}")
        if self.array.flags.writeable:
            self.array.reshape(-1).view(np.uint8)[...] = self.data
        elif not np.array_equal(self.array.reshape(-1).view(np.uint8), self.data):
            raise KernelError(f"{who}, shape {self.array.shape}, is read-only and was written")


loaded = functools.cache(ctypes.CDLL)


@functools.cache
def compiled(text, options, flags=FLAGS):
    """The shared object of a text: from the cache on disk, or compiled into it, whole or not at all."""
    if not available():
        raise KernelError("there is no C++ compiler here: kernels run on NumPy arrays with g++ or clang++, or name one in $CXX")
    folders, defines = [o[2:] for o in options if o.startswith("-I")], [o for o in options if o.startswith("-D")]
    included = [p.read_bytes() for folder in (HEADER.parent, *folders) for p in sorted(Path(folder).glob("*.*h"))]
    key = [*map(str.encode, (compiler(), *flags, *defines, text)), *included]
    key = hashlib.sha256(b"\0".join(key)).hexdigest()[:32]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path(tempfile.gettempdir()) / f"tinygrad_lm-{getpass.getuser()}") / "kernels"
    cache.mkdir(parents=True, exist_ok=True, mode=0o700)
    target = cache / f"{key}.so"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            source, built = Path(folder) / "kernel.cpp", Path(folder) / "kernel.so"
            source.write_text(text, encoding="utf-8")
            command = [compiler(), *own_flags(), *flags, *defines, f"-I{HEADER.parent}",
                       *(f"-I{f}" for f in folders), str(source), "-o", str(built)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise KernelError(f"the kernel does not compile:\n{done.stderr[:2000]}")
            built.replace(target)
    return target
