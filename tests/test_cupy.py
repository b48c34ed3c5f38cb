"""The stand-in for CuPy is held to CuPy itself wherever that is installed, with or without a GPU: what it has, CuPy has,
with the same parameters."""
import inspect
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tinygrad_lm import kernels

from . import strict_cupy
from .planted import planted

ROOT = Path(__file__).parents[1]
installed = pytest.mark.skipif(find_spec("cupy") is None, reason="CuPy is not installed")

# What else the package calls, and with what: (where in CuPy, the arguments that it gives).
CALLS = """
    asarray a dtype
    array obj dtype copy order
    is_available
    get_default_memory_pool
    ndarray.get
    ndarray.set arr
    ndarray.item
    ndarray.tolist
    add.at a indices b
    add.reduceat array indices axis
    RawModule code options name_expressions
    RawModule.get_function name
    RawKernel.__call__ grid block args shared_mem
    cuda.Stream non_blocking
    cuda.Stream.begin_capture
    cuda.Stream.end_capture
    cuda.Stream.is_capturing
    cuda.Stream.synchronize
    cuda.Graph.launch
    cuda.MemoryPool
    cuda.MemoryPool.malloc size
    cuda.MemoryPool.free_bytes
    cuda.set_allocator allocator
    cuda.using_allocator allocator
    cuda.get_current_stream
    cuda.Device
    cuda.runtime.memGetInfo
    random.Generator.random size dtype
    random.Philox4x3210 seed
"""
PROPERTIES = ["ogrid", "RawKernel.max_dynamic_shared_size_bytes", "cuda.Device.compute_capability",
              "cuda.memory.OutOfMemoryError"]


def find(cupy, dotted):
    for name in dotted.split("."):
        cupy = getattr(cupy, name)
    return cupy


def parameters(f):
    """The names of f's parameters, in order; where Cython shows no more, from the first line of its docstring, and from a
    second one like it, which says what **kwargs are."""
    try:
        names = [("*" * (p.kind is p.VAR_POSITIONAL)) + p.name for p in inspect.signature(f).parameters.values()]
    except (TypeError, ValueError):
        lists = re.findall(r"^[\w.]+\((.*)\)", (f.__doc__ or "").replace("\\", ""), re.MULTILINE)
        names = [part.split("=")[0].split()[-1] for part in ", ".join(lists).split(",") if part.strip()]
    return [name for name in names if name not in ("self", "*", "/")]


def differences(cupy):
    """What the stand-in allows and CuPy does not have, a line each."""
    def compare(dotted, ours, by_name=False):
        try:
            f = find(cupy, dotted)
        except AttributeError:
            return f"CuPy has no {dotted}"
        theirs = parameters(f)
        if dotted in ("einsum", "pad"):                                    # they take **options, which their docstrings name
            return None if all(name.strip("*") in f.__doc__ for name in ours) else f"{dotted} takes not all of {ours}"
        if ours != theirs[:len(ours)] and not (by_name and set(ours) <= set(theirs)):
            return f"{dotted} takes {theirs}, the stand-in's {ours}"

    for name, ours in strict_cupy.FUNCTIONS.items():
        yield compare(name, ours)
    for name, ours in strict_cupy.METHODS.items():
        yield compare(f"ndarray.{name}", ours)
    for dotted, *ours in map(str.split, CALLS.strip().splitlines()):
        yield compare(dotted, ours, by_name=True)
    for name in strict_cupy.UFUNCS:
        f = getattr(cupy, name, None)
        if not isinstance(f, cupy.ufunc) or f.nin != getattr(np, name).nin:
            yield f"CuPy's {name} is no ufunc of {getattr(np, name).nin}"
    for dotted in [*strict_cupy.NUMBERS, *PROPERTIES, *(f"ndarray.{name}" for name in vars(strict_cupy.ndarray)
                                                        if name not in ("_a", "__module__", "__slots__"))]:
        try:
            find(cupy, dotted)
        except AttributeError:
            yield f"CuPy has no {dotted}"


def in_a_process(code):
    """What `code` prints: CuPy, once loaded, changes what the package looks at, so that no other test may see it."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@installed
def test_the_stand_in_has_what_cupy_has():
    assert in_a_process("""
import cupy
from tests.test_cupy import differences
print(*filter(None, differences(cupy)), sep="\\n")
""") == [""]


@installed
def test_cupy_without_a_gpu():
    """It is loaded when a GPU is asked for, and says in one sentence that there is none."""
    lines = in_a_process("""
import sys, tinygrad_lm as tg
from tinygrad_lm import backend
(tg.Tensor([1.0], True) * 2).sum().backward()
print(backend.cuda_loaded())
why = backend.why_no_cuda()
try:
    tg.Tensor([1.0], device="cuda")
    print("a GPU")
except RuntimeError as error:
    print(str(error) == why, backend.cuda_loaded(), len(why.splitlines()), "no GPU" in why)
print((tg.Tensor([1.0]) + 1).item())
""")
    if lines[1] != "a GPU":
        assert lines == ["False", "True True 1 True", "2.0"]


def test_a_changed_header_is_compiled_anew(tmp_path):
    """CuPy keeps what it compiled on disk under the text that it was given; headers that this includes do not count."""
    class Recorder:
        def RawModule(code, options, name_expressions):
            return SimpleNamespace(get_function=lambda name: code)

    texts = []
    for i, folder in enumerate((tmp_path / "a", tmp_path / "b", tmp_path / "c")):
        folder.mkdir()
        with planted(folder, "rows.cuh", "#pragma once" if i == 1 else "", "#pragma once\n"):
            texts.append(kernels.function(Recorder, "softmax.cu", "softmax_forward<float, 32, 1>"))
    assert texts[0] == texts[2] != texts[1]
