"""Every kernel compiles for every card from Turing on, and keeps what a thread holds in registers.

A .cu names what its launch code asks for in lines `// instances: softmax_forward<float>, softmax_backward<float|half_t>, …`
(| is "or"); a test that launches anything else fails (conftest.py). A thread whose numbers do not fit its registers is not
wrong but slow: they spill into memory, and no test of values would notice.
"""
import re

import pytest

from tinygrad_lm import kernels

from . import nvrtc
from .nvrtc import instances

TARGETS = (75, 80, 86, 89, 90, 100, 120)         # Turing, Ampere (A100, RTX 30), Ada, Hopper, Blackwell (B200, RTX 50)
FILES = sorted(path.name for path in kernels.FOLDER.glob("*.cu"))
pytestmark = pytest.mark.skipif(nvrtc.library() is None, reason="nvidia-cuda-nvrtc is not installed")


def kernels_of(code):
    """Names of the kernels that a source defines."""
    return set(re.findall(r"__global__\s+(?:void\s+|__launch_bounds__\s*\([^)]*\)\s+)+(\w+)\s*\(", code))


def compile(code, names, target):
    """Compile, and refuse what does not stay in registers."""
    for n in nvrtc.compile(code, names, target):
        assert not (n.stack or n.spill_stores or n.spill_loads), \
            f"{n.kernel} on sm_{target}: {n.registers} registers, {n.stack} bytes of stack, {n.spill_stores} bytes " \
            f"spilled and {n.spill_loads} read back: give a thread less to hold"


def source(file):
    return (kernels.FOLDER / file).read_text(encoding="utf-8")


def cases():
    """(file, kernel, target): the oldest card and Hopper by default, the others with the slow proofs; seconds each. What is
    made for tensor cores has many instances and is not launched on the oldest."""
    for file in FILES:
        default = (90,) if "mma" in file else (75, 90)
        for kernel in sorted(kernels_of(source(file))):
            for target in TARGETS:
                yield pytest.param(file, kernel, target, marks=() if target in default else pytest.mark.slow)


@pytest.mark.parametrize("file, kernel, target", list(cases()))
def test_compiles_without_spills(file, kernel, target):
    code = source(file)
    compile(code, [name for name in instances(code) if name.split("<")[0] == kernel], target)


@pytest.mark.parametrize("file", FILES)
def test_every_kernel_names_its_instances(file):
    code = source(file)
    named, own = {name.split("<")[0] for name in instances(code)}, kernels_of(code)
    lent = set().union(*(kernels_of(source(header)) for header in re.findall(r'#include "(.+)"', code)))
    assert own <= named <= own | lent, f"{file}: the lines `// instances:` and the kernels differ"


# ---- and can these tests fail? ----------------------------------------------------------------------------------------

GOOD = '#include "device.cuh"\ntemplate <typename T> __global__ void twice(T* x) { store(x, 2 * load(x)); }\n'
STACK = """
__global__ void stack(float* x, int n) {
    float a[512];
    for (int i = 0; i < 512; i++) a[i] = x[i];
    for (int i = 0; i < n; i++) a[int(x[i])] += 1.0f;
    for (int i = 0; i < 512; i++) x[i] = a[i];
}"""
SPILL = """
__global__ void __launch_bounds__(1024, 1) spill(float* x) {
    float a[128];                                // 1024 threads share 65,536 registers: 64 for each
    x += threadIdx.x;
    #pragma unroll
    for (int i = 0; i < 128; i++) a[i] = x[i * 1024];
    #pragma unroll 1
    for (int k = 0; k < 9; k++)
        #pragma unroll
        for (int i = 0; i < 128; i++) a[i] = a[i] * a[(i + 37) % 128] + a[(i + 64) % 128];
    #pragma unroll
    for (int i = 0; i < 128; i++) x[i * 1024] = a[i];
}"""


@pytest.mark.parametrize("target", TARGETS)
def test_a_sound_kernel_passes(target):
    compile(GOOD, ["twice<float>", "twice<half_t>", "twice<bf16_t>"], target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name, code, number", [("stack", STACK, "2048 bytes of stack"), ("spill", SPILL, r"[1-9]\d* bytes spilled")])
def test_what_leaves_the_registers_is_refused(name, code, number, target):
    with pytest.raises(AssertionError, match=rf"{name} on sm_{target}: \d+ registers, .*{number}"):
        compile(code, [name], target)


@pytest.mark.parametrize("code, said", [
    ("__global__ void broken(float* x) { *x = ; }", "expected an expression"),
    ("#include <math.h>\n__global__ void broken(float* x) { }", "math.h"),
    ("__global__ void broken(float* x) { *x = INFINITY; }", "INFINITY")])
def test_what_nvrtc_does_not_know_is_refused(code, said):
    with pytest.raises(RuntimeError, match=said):
        compile(code, ["broken"], 90)


def test_an_instance_that_does_not_exist_is_refused():
    with pytest.raises(RuntimeError, match="twice"):
        compile(GOOD, ["twice<nothing>"], 90)


def test_names_are_read_from_the_source():
    code = "// instances: f<float>, g<half_t|bf16_t, 16|32>, h\n// other\n// instances: a|b<bf16_t>\n" \
           "template <typename T> __global__ void f(T* x) {}\n__global__ void __launch_bounds__(256) g(int) {}\n" \
           "__global__ __launch_bounds__(256, 2) void h(int) {}"
    assert instances(code) == ["f<float>", "g<half_t, 16>", "g<half_t, 32>", "g<bf16_t, 16>", "g<bf16_t, 32>", "h",
                               "a<bf16_t>", "b<bf16_t>"]
    assert kernels_of(code) == {"f", "g", "h"}
