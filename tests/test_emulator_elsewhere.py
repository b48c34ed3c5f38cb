"""The emulator on other processors, run by qemu: aarch64, for which it has its own assembler, and riscv64, for which it has
none. Debian: apt-get install g++-aarch64-linux-gnu g++-riscv64-linux-gnu qemu-user"""
import shutil
import subprocess

import numpy as np
import pytest

from tinygrad_lm import emulator
from tinygrad_lm.kernels import FOLDER

from .test_emulator import MEETINGS, NAMES, PARTED, WAYS, right

MAIN = """
#include <cstdio>
static void take(void* to, size_t bytes) { if (fread(to, 1, bytes, stdin) != bytes) exit(2); }
int main() {                                   // one launch of f(const float* x, float* y, int rows, int n)
    int size[6], shared, order, rows, n;
    take(size, sizeof size), take(&shared, 4), take(&order, 4), take(&rows, 4), take(&n, 4);
    std::vector<float> in(rows * n), out(rows * n, NAN);
    take(in.data(), 4 * in.size());
    float *x = in.data(), *y = out.data();
    long long codes[] = {1, 4, 1, (long long)&x, 1, 4, 1, (long long)&y, 0, 4, 0, (long long)&rows, 0, 4, 0, (long long)&n};
    long long counted[3];
    char text[2048];
    if (emulator_launch(size, shared, codes, 4, order, 3, text, counted)) return fprintf(stderr, "%s", text), 1;
    fwrite(y, 4, out.size(), stdout);
}
"""
TERMS = range(12)                              # more than the registers that a call leaves as they are
HOLDS = """
__global__ void f(const float* x, float* y, int rows, int n) {          // a thread holds its own through many barriers
    int t = threadIdx.x, at = blockIdx.x * n + t;
    float v = t < n ? x[at] : t;
    float %s;
    long long %s;
    for (int turn = 0; turn < 20; turn++) {
        __syncthreads();
        %s
        __syncthreads();
        %s
    }
    if (t < n) y[at] = %s + float((%s) %% 1000);
}
""" % (", ".join(f"a{j} = v + {j}" for j in TERMS), ", ".join(f"k{j} = t + {j}" for j in TERMS),
       " ".join(f"a{j} = a{j} * 0.5f + t;" for j in TERMS), " ".join(f"k{j} = (k{j} * 3 + t) % 1009;" for j in TERMS),
       " + ".join(f"a{j}" for j in TERMS), " + ".join(f"k{j}" for j in TERMS))


def held(x):
    """What HOLDS makes of x (rows, n)."""
    t = np.arange(x.shape[1])
    a, k = [x + np.float32(j) for j in TERMS], [t + j for j in TERMS]
    for _ in range(20):
        a, k = [a * np.float32(0.5) + t.astype(np.float32) for a in a], [(k * 3 + t) % 1009 for k in k]
    return sum(a) + (sum(k) % 1000).astype(np.float32)


SOFTMAX = (FOLDER / "softmax.cu").read_text(encoding="utf-8")
KERNELS = {**{name: ("f", NAMES[name]) for name in ("softmax", "transpose", "sums", "blocks", "reverse")},
           "of ops/": ("softmax_forward<float, 32, 1>", SOFTMAX), "holds": ("f", HOLDS)}


@pytest.fixture(scope="module", params=["aarch64", "aarch64, portable", "riscv64"])
def machine(request):
    """(the processor, the command that compiles for it)"""
    name, _, portable = request.param.partition(", ")
    compiler = f"{name}-linux-gnu-g++"
    for tool in compiler, f"qemu-{name}":
        if not shutil.which(tool):
            pytest.skip(f"no {tool} here")
    flags = [flag for flag in emulator.FLAGS if flag != "-shared"]
    return name, [compiler, "-fno-thread-jumps", *flags, *["-DEMULATOR_PORTABLE"] * bool(portable)]


def build(machine, folder, kernel, code):
    """The command that runs a kernel on that processor."""
    name, command = machine
    source, program = folder / "kernel.cpp", folder / "kernel"
    source.write_text(emulator.in_cpp(kernel, code) + MAIN, encoding="utf-8")
    subprocess.run([*command, f"-I{emulator.HEADER.parent}", f"-I{FOLDER}", str(source), "-o", str(program)], check=True)
    return [f"qemu-{name}", "-L", f"/usr/{name}-linux-gnu", str(program)]


def launch(command, x, grid, block, shared, order):
    head = np.array([*grid, *block, shared, emulator.ORDERS[order], *x.shape], np.int32)
    return subprocess.run(command, input=head.tobytes() + x.tobytes(), capture_output=True, timeout=120)


@pytest.mark.slow
@pytest.mark.parametrize("name", KERNELS)
def test_kernels_are_right_there(machine, name, tmp_path):
    kernel, code = KERNELS[name]
    command = build(machine, tmp_path, kernel, code)
    x, expected, grid, block, shared = right(NAMES[name if name in NAMES else "softmax"])
    if name == "holds":
        expected, grid, block = held(x), (len(x), 1, 1), (128, 1, 1)
    for order in emulator.ORDERS:
        done = launch(command, x, grid, block, shared, order)
        assert done.returncode == 0, done.stderr
        y = np.frombuffer(done.stdout, np.float32)[:expected.size].reshape(expected.shape)
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("who", MEETINGS)
def test_places_to_meet_are_told_apart_there(machine, who, tmp_path):
    condition, way, said = MEETINGS[who]
    code = (PARTED % (condition, WAYS[way], WAYS[way])).replace("f(float* y)", "f(const float*, float* y, int, int)")
    done = launch(build(machine, tmp_path, "f", code), np.zeros((1, 64), np.float32), (1, 1, 1), (16, 4, 1), 0, "forward")
    assert (done.returncode, b"waits" in done.stderr) == ((0, False) if said is None else (1, True)), done.stderr
