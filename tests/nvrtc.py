"""NVIDIA's run-time compiler without NVIDIA's hardware: machine code for any card, and what each kernel needs of it."""
import ctypes
import re
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from itertools import product
from pathlib import Path

from tinygrad_lm.kernels import OPTIONS


@dataclass(frozen=True)
class Needs:
    """What a kernel takes, in bytes a thread but for the registers (numbers of 4 bytes)."""
    kernel: str
    registers: int
    stack: int                                   # an array that is indexed at run time, or anything else without a register
    spill_stores: int
    spill_loads: int


@cache
def library():
    """The compiler of the wheel nvidia-cuda-nvrtc, or None."""
    spec = find_spec("nvidia")                   # a namespace: several wheels put a folder there
    folders = map(Path, spec.submodule_search_locations) if spec else ()
    found = [path for folder in folders for path in sorted(folder.glob("**/lib/libnvrtc.so.*"))]
    return ctypes.CDLL(str(found[-1])) if found else None


def instances(code):
    """["f<float>", "g<half_t, 64>", …] of a source's lines `// instances: f<float>, g<half_t|bf16_t, 64>, …`"""
    lines = re.findall(r"^// instances: (.+)$", code, re.M)
    patterns = [re.split(r"([<>, ]+)", name) for line in lines for name in re.findall(r"[\w|]+(?:<[^<>]*>)?", line)]
    return ["".join(parts) for pattern in patterns for parts in product(*(part.split("|") for part in pattern))]


def compile(code, kernels, target):
    """[Needs] of `kernels`, e.g. "softmax_forward<float>", compiled for `target`, e.g. 90; RuntimeError with the log."""
    rtc, program = library(), ctypes.c_void_p()
    _check(rtc.nvrtcCreateProgram(ctypes.byref(program), code.encode(), b"kernels.cu", 0, None, None), "create")
    try:
        for kernel in kernels:
            _check(rtc.nvrtcAddNameExpression(program, kernel.encode()), kernel)
        options = [o.encode() for o in (*OPTIONS, f"--gpu-architecture=sm_{target}", "--ptxas-options=-v")]
        failed = rtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
        size = ctypes.c_size_t()
        _check(rtc.nvrtcGetProgramLogSize(program, ctypes.byref(size)), "log")
        log = ctypes.create_string_buffer(size.value)
        _check(rtc.nvrtcGetProgramLog(program, log), "log")
        if failed:
            raise RuntimeError(f"does not compile for sm_{target}:\n{log.value.decode()}")
        needs = _parse(log.value.decode())
        return [needs[_lowered(rtc, program, kernel)](kernel) for kernel in kernels]
    finally:
        rtc.nvrtcDestroyProgram(ctypes.byref(program))


def _check(status, what):
    if status:
        raise RuntimeError(f"NVRTC answers {status} at {what}")


def _lowered(rtc, program, kernel):
    """The name by which the linker knows the instance."""
    name = ctypes.c_char_p()
    _check(rtc.nvrtcGetLoweredName(program, kernel.encode(), ctypes.byref(name)), kernel)
    return name.value.decode()


PROPERTIES = re.compile(r"Function properties for (\S+)\s+(?:ptxas\s+\.\s+)?(\d+) bytes stack frame, (\d+) bytes spill stores, "
                        r"(\d+) bytes spill loads\s+.*?Used (\d+) registers")


def _parse(log):
    """{lowered name: function from the readable name to Needs}"""
    return {name: lambda kernel, registers=int(registers), bytes=tuple(map(int, bytes)): Needs(kernel, registers, *bytes)
            for name, *bytes, registers in PROPERTIES.findall(log)}
