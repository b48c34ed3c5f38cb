"""The chapter on GPUs says what is so: its example shows what it says, its numbers are those of the formulas, its commands
and files exist, and its exercises have the answers written here."""
import os
import re
import runpy
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from benchmarks.gpu_work import attention
from tinygrad_lm import emulator

ROOT = Path(__file__).parents[1]
CHAPTER = (ROOT / "docs/gpu.md").read_text(encoding="utf-8")
compiler = pytest.mark.skipif(not emulator.available(), reason="no C++ compiler")


@compiler
def test_a_kernel_step_by_step():
    out = subprocess.run([sys.executable, "examples/25_gpu_kernel_on_cpu.py"], cwd=ROOT, capture_output=True, text=True, check=True,
                         encoding="utf-8", env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}).stdout
    lines = {line[:34].strip(): line[34:].split() for line in out.splitlines()}
    assert lines["before the first barrier"] == ["5.00", "3.00", "5.00", "8.00", "9.00", "9.00", "9.00", "6.00"]
    assert lines["in a register: thread 0 … 7"] == ["3.00", "1.00", "4.00", "1.00", "5.00", "9.00", "2.00", "6.00"]
    assert lines["2 apart"][0] == "2.07" and lines["1 apart"][0] == "3.62"                       # Σ exp(x − 9)
    # shared: 8 threads write; 4, 2, 1 read two and write one; 8 read the largest; 8, and 4, 2, 1 again; 8 read the sum twice
    eight, one = (line for line in out.splitlines() if "global memory: " in line)
    assert "16 reads, 16 writes; shared memory: 52 reads, 30 writes; a thread waited at 9 barriers" in eight
    assert "48 reads, 16 writes; shared memory: 0 reads, 0 writes; a thread waited at 0 barriers" in one
    verdicts = [line for line in out.splitlines() if "with barriers:" in line]
    assert len(verdicts) == 3 and all("with barriers: right" in line for line in verdicts)
    assert any("without: WRONG" in line for line in verdicts)


# ---- the chapter ----------------------------------------------------------------------------------------------------

def test_what_the_chapter_names_exists():
    for path in re.findall(r"`([\w.-]+/[\w./*-]*)`", CHAPTER):
        assert [*ROOT.glob(path), *(ROOT / "tinygrad_lm").glob(path)], f"docs/gpu.md names {path}, which is not there"
    commands = re.findall(r"python -m ([\w.]+)", CHAPTER)
    assert {"pip", "pytest", "benchmarks.gpu"} <= set(commands) and all(find_spec(module) for module in commands)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert set(re.findall(r"\[(cuda\d+)\]", CHAPTER)) == {"cuda12", "cuda13"} <= extras.keys()


def test_floors_of_three_softmax_kernels():
    """Bytes of x and y, 8192 × 4096 in float32, over 3.4 TB/s."""
    rows = re.findall(r"^\| .* \| (?:(\d) × )?x \| y \| (\d+) MB \| ([\d.]+) ms \|$", CHAPTER, re.MULTILINE)
    assert "8192 × 4096 are 134 MB" in CHAPTER and "at 3.4 TB/s" in CHAPTER and len(rows) == 3
    for passes, megabytes, milliseconds in rows:
        size = (int(passes or 1) + 1) * 8192 * 4096 * 4
        assert (f"{size / 1e6:.0f}", f"{size / 3.4e9:.2f}") == (megabytes, milliseconds)


def test_sizes_of_attention():
    assert "At B 8, H 16, T 2048 in float32 they are 2.1 GB" in CHAPTER and f"{8 * 16 * 2048 ** 2 * 4 / 1e9:.1f}" == "2.1"
    work = attention(8, 16, 2048, 64, 4)["attention forward"]
    assert "of 64 channels a head, are 268 MB" in CHAPTER.replace("\n", " ") and f"{work.bytes / 1e6:.0f}" == "268"


# ---- its exercises --------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def example():
    return runpy.run_path(str(ROOT / "examples/25_gpu_kernel_on_cpu.py"))


@compiler
def test_exercise_1(example):
    """A thread 0 that comes first writes its sum over the maximum that others have yet to read; last, it does no harm."""
    line, = (line for line in example["KERNEL"].splitlines(keepends=True) if "all have read scratch[0]" in line)
    code = example["KERNEL"].replace(line, "")
    right = {order: np.allclose(example["run"](code, example["x"], order=order)[0], example["right"], rtol=1e-5)
             for order in ("forward", "backward", "shuffled")}
    assert right == {"forward": False, "backward": True, "shuffled": False}


PAIRS = """
extern "C" __global__ void softmax(const float* x, float* y) {
    __shared__ float m[8], s[8];
    int t = threadIdx.x;
    float a = x[t], b = x[t + 8];
    m[t] = fmaxf(a, b);
    s[t] = expf(a - m[t]) + expf(b - m[t]);
    __syncthreads();
    for (int half = 4; half; half /= 2) {
        if (t < half) {
            float larger = fmaxf(m[t], m[t + half]);
            s[t] = s[t] * expf(m[t] - larger) + s[t + half] * expf(m[t + half] - larger);
            m[t] = larger;
        }
        __syncthreads();
    }
    y[t] = expf(a - m[0]) / s[0];
    y[t + 8] = expf(b - m[0]) / s[0];
}
"""


@compiler
def test_exercise_2(example):
    """Four barriers in place of nine: one before the tree, and one for each of its three levels."""
    for order in ("forward", "backward", "shuffled"):
        y, _, barriers = example["run"](PAIRS, example["x"], order=order)
        np.testing.assert_allclose(y, example["right"], rtol=1e-5)
        assert barriers == 4


WARP = """
extern "C" __global__ void softmax(const float* x, float* y) {
    int t = threadIdx.x;
    float a = x[t], b = x[t + 32], m = fmaxf(a, b);
    for (int d = 16; d; d /= 2) m = fmaxf(m, __shfl_xor_sync(0xffffffff, m, d));
    a = expf(a - m), b = expf(b - m);
    float s = a + b;
    for (int d = 16; d; d /= 2) s += __shfl_xor_sync(0xffffffff, s, d);
    y[t] = a / s;
    y[t + 32] = b / s;
}
"""


@compiler
def test_exercise_3():
    """No barrier is left, and no shared memory; each of 32 threads exchanges 5 times for the maximum and 5 for the sum."""
    x = np.random.default_rng(0).uniform(-3, 3, 64).astype(np.float32)
    y, kernel = np.empty_like(x), emulator.RawModule(code=WARP, options=("-std=c++17",)).get_function("softmax")
    for order in ("forward", "backward", "shuffled"):
        with emulator.thread_order(order):
            kernel((1, 1, 1), (32, 1, 1), (x, y))
        np.testing.assert_allclose(y, np.exp(x) / np.exp(x).sum(), rtol=1e-5)
        assert (kernel.counted["barriers"], kernel.counted["exchanges"]) == (0, 10 * 32)


def test_exercise_4():
    """From 706 tokens on, whatever B, H and D are: 2 D T² / 600 TFLOP/s takes as long as 8 D T bytes / 3.4 TB/s there."""
    def arithmetic_decides(T):
        work = attention(8, 16, T, 64, 2)["attention forward"]
        return work.flops / 600e12 > work.bytes / 3.4e12

    assert not arithmetic_decides(705) and arithmetic_decides(706)
