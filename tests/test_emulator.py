"""The emulator tells wrong kernels from right ones: bugs that a GPU would run without a word are planted one by one, and each
must be noticed; the kernels as they were must never be blamed."""
import re
import shutil

import numpy as np
import pytest

from tinygrad_lm import emulator
from tinygrad_lm.emulator import KernelError, RawModule, poisoned, thread_order
from tinygrad_lm.kernels import OPTIONS

PORTABLE = ("-DEMULATOR_PORTABLE",)      # fibers as on a processor for which the emulator has no assembler
pytestmark = pytest.mark.skipif(not emulator.available(), reason="no C++ compiler")

SOFTMAX = '''#include "device.cuh"
__global__ void f(const float* x, float* y, int rows, int n) {          // a block a row, a tree of sums in shared memory
    __shared__ float scratch[128];
    int t = threadIdx.x;
    long long row = blockIdx.x;
    if (row >= rows) return;
    float peak = -INFINITY_F;
    for (int i = t; i < n; i += 64) peak = fmaxf(peak, x[row * n + i]);
    scratch[t] = peak;
    __syncthreads();                                                    // 1
    for (int d = 32; d > 0; d /= 2) {
        if (t < d) scratch[t] = fmaxf(scratch[t], scratch[t + d]);
        __syncthreads();                                                // 2
    }
    peak = scratch[0];
    __syncthreads();                                                    // 3
    float sum = 0;
    for (int i = t; i < n; i += 64) sum += expf(x[row * n + i] - peak);
    scratch[t] = sum;
    __syncthreads();                                                    // 4
    for (int d = 32; d > 0; d /= 2) {
        if (t < d) scratch[t] += scratch[t + d];
        __syncthreads();                                                // 5
    }
    for (int i = t; i < n; i += 64) y[row * n + i] = expf(x[row * n + i] - peak) / scratch[0];
}'''

TRANSPOSE = '''#include "device.cuh"
__global__ void f(const float* x, float* y, int rows, int cols) {       // 16 × 16 tiles, through shared memory
    __shared__ float tile[16][17];
    int r = blockIdx.y * 16 + threadIdx.y, c = blockIdx.x * 16 + threadIdx.x;
    if (r < rows && c < cols) tile[threadIdx.y][threadIdx.x] = x[r * cols + c];
    __syncthreads();
    r = blockIdx.y * 16 + threadIdx.x, c = blockIdx.x * 16 + threadIdx.y;
    if (r < rows && c < cols) y[c * rows + r] = tile[threadIdx.x][threadIdx.y];
}'''

SUMS = '''#include "device.cuh"
__global__ void f(const float* x, float* y, int rows, int n) {          // a warp a row, by exchanges; then once more in turn
    __shared__ float last[4][32];
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, row = blockIdx.x * 4 + warp;
    if (row >= rows) return;
    float s = 0;
    for (int i = lane; i < n; i += 32) s += x[row * n + i];
    for (int d = 16; d > 0; d /= 2) s += __shfl_xor_sync(FULL, s, d);
    last[warp][lane] = s + lane;
    __syncwarp();                                                       // one
    float other = last[warp][31 - lane] - (31 - lane);
    if (lane == 0) y[row] = (s + other) / 2;
}'''

BLOCKS = '''#include "device.cuh"
__global__ void f(const float* x, float* y, int rows, int n) {          // a block a row; 96 threads, 3 warps
    __shared__ float scratch[33];
    float s = 0;
    for (int i = threadIdx.x; i < n; i += blockDim.x) s += x[blockIdx.x * n + i];
    s = warp_sum(s);
    if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = s;
    __syncthreads();
    if (threadIdx.x == 0) {
        float total = 0;
        for (int w = 0; w < (blockDim.x + 31) / 32; w++) total += scratch[w];
        y[blockIdx.x] = total;
    }
}'''

REVERSE = '''#include "device.cuh"
__global__ void f(const float* x, float* y, int rows, int n) {          // a block a row, in shared memory sized by the launch
    extern __shared__ float row[];
    for (int i = threadIdx.x; i < n; i += 32) row[i] = x[blockIdx.x * n + i];
    __syncthreads();
    for (int i = threadIdx.x; i < n; i += 32) y[blockIdx.x * n + i] = row[n - 1 - i];
}'''

AHEAD = '''#include "device.cuh"
__global__ void f(const float* x, float* y, int rows, int n) {          // a block a row; 32 numbers in use, 32 on their way
    __shared__ float tiles[2][32];
    const float* row = x + blockIdx.x * n;
    int t = threadIdx.x;
    float sum = 0;
    start_copy<4>(&tiles[0][t], row + t, t < n);
    for (int i = 0; i < n; i += 32) {
        wait_for_copies();
        __syncthreads();
        if (i + 32 < n) start_copy<4>(&tiles[(i / 32 + 1) % 2][t], row + i + 32 + t, i + 32 + t < n);
        sum += tiles[i / 32 % 2][31 - t];
    }
    sum = warp_sum(sum);
    if (t == 0) y[blockIdx.x] = sum;
}'''

COUNT = '''#include "device.cuh"
__global__ void f(const int* x, int* y, int rows, int n) {              // how often each of `rows` numbers occurs
    __shared__ int bins[64];
    if (threadIdx.x < 64) bins[threadIdx.x] = 0;
    __syncthreads();
    int i = blockIdx.x * 64 + threadIdx.x;
    if (i < n) atomicAdd(&bins[x[i]], 1);
    __syncthreads();
    if (threadIdx.x < rows) atomicAdd(&y[threadIdx.x], bins[threadIdx.x]);
}'''


def softmax(x):
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def right(kind, rows=5, n=77):
    """(arrays, what is expected, grid, block, bytes of shared memory) for a kernel as it is meant."""
    x = np.random.default_rng(0).standard_normal((rows, n)).astype(np.float32) - 3
    x[0] -= 200                                                          # where exp without its shift is 0
    tile = -(-n // 16), -(-rows // 16), 1
    return {
        SOFTMAX: (x, softmax(x), (rows + 1, 1, 1), (64, 1, 1), 0),
        TRANSPOSE: (x, x.T, tile, (16, 16, 1), 0),
        SUMS: (x, x.sum(1), (-(-rows // 4), 1, 1), (128, 1, 1), 0),
        BLOCKS: (x, x.sum(1), (rows, 1, 1), (96, 1, 1), 0),
        AHEAD: (x, x.sum(1), (rows, 1, 1), (32, 1, 1), 0),
        REVERSE: (x, x[:, ::-1], (rows, 1, 1), (32, 1, 1), 4 * n),
        COUNT: (np.arange(n, dtype=np.int32) % 3, np.bincount(np.arange(n) % 3, minlength=rows), (-(-n // 64), 1, 1),
                (64, 1, 1), 0),
    }[kind]


def verdict(kind, code, *, shared=None, options=OPTIONS, **change):
    """None where the kernel is right in every order of threads, else what gives it away."""
    x, expected, grid, block, bytes_ = right(kind)
    rows, n = (5, len(x)) if kind == COUNT else x.shape
    kernel = RawModule(code=code, options=options).get_function("f")
    for order in emulator.ORDERS:
        y = np.zeros(5, np.int32) if kind == COUNT else poisoned(expected.shape)
        arguments = dict(x=x, y=y, rows=np.int32(rows), n=np.int32(n)) | change
        arguments = [a for a in arguments.values() if a is not None]
        try:
            with thread_order(order, seed=3):
                kernel(grid, block, arguments, shared_mem=bytes_ if shared is None else shared)
        except (KernelError, TypeError) as error:
            return str(error)
        if not np.allclose(y, expected, rtol=1e-5, atol=1e-4):
            return "wrong value" if np.isfinite(y.astype(float)).all() else "NaN"
    return None


NAMES = {"softmax": SOFTMAX, "transpose": TRANSPOSE, "sums": SUMS, "blocks": BLOCKS, "reverse": REVERSE,
         "ahead": AHEAD, "count": COUNT}


@pytest.mark.parametrize("name", NAMES)
def test_right_kernels_are_never_blamed(name):
    assert verdict(NAMES[name], NAMES[name]) is None


BUGS = {                                 # kernel, what stands there, what the bug makes of it, and what is said of it
    "an index one past the end": ("softmax", "i < n; i += 64) y", "i <= n; i += 64) y", "past the end"),
    "an output left unwritten": ("softmax", "for (int i = t; i < n; i += 64) y", "for (int i = t + 64; i < n; i += 64) y", "NaN"),
    "a maximum that starts at zero": ("softmax", "peak = -INFINITY_F", "peak = 0", None),
    "no barrier between the steps of a tree": ("softmax", "__syncthreads();                                                // 2", "",
                                               "wrong value"),
    "no barrier before shared memory is used again": (
        "softmax", "__syncthreads();                                                    // 3", "", "wrong value"),
    "no barrier after the sums are written": ("softmax", "__syncthreads();                                                    // 4",
                                              "", "wrong value"),
    "no barrier between the steps of the sum": ("softmax", "__syncthreads();                                                // 5", "",
                                                "wrong value"),
    "a tree that reads what nobody wrote": ("softmax", "for (int d = 32; d > 0; d /= 2) {\n        if (t < d) scratch[t] +=",
                                            "for (int d = 64; d > 0; d /= 2) {\n        if (t < d) scratch[t] +=", None),
    "no guard for a block too many": ("softmax", "if (row >= rows) return;", "", "past the end"),
    "a barrier that half of the threads come to": ("softmax", "peak = scratch[0];\n    __syncthreads();",
                                                   "peak = scratch[0];\n    if (t < 32) __syncthreads();", "barrier"),
    "a thread that returns before a barrier": ("softmax", "float sum = 0;", "if (t == 63) return;\n    float sum = 0;", "returned"),
    "two barriers where the threads divide": ("softmax", "peak = scratch[0];\n    __syncthreads();",
                                              "peak = scratch[0];\n    if (t < 32)\n __syncthreads();\n else\n __syncthreads();",
                                              "divergent barrier"),
    "a swapped stride": ("transpose", "y[c * rows + r]", "y[r * cols + c]", "wrong value"),
    "no guard at the tile's edge": ("transpose", "if (r < rows && c < cols) y", "if (c < cols) y", None),
    "no barrier between writing a tile and reading it": ("transpose", "__syncthreads();", "", "NaN"),
    "a tile read the way it was written": ("transpose", "tile[threadIdx.x][threadIdx.y];", "tile[threadIdx.y][threadIdx.x];", None),
    "an index before the start": ("transpose", "y[c * rows + r]", "y[c * rows + r - 1]", "before the start"),
    "a mask without the lane itself": ("sums", "__shfl_xor_sync(FULL", "__shfl_xor_sync(0x0000ffffu", "not in the mask"),
    "an exchange after some lanes have returned": ("sums", "float s = 0;", "if (lane > 20) return;\n    float s = 0;", "not all of them come"),
    "a partner at the wrong distance": ("sums", "int d = 16;", "int d = 8;", "wrong value"),
    "no __syncwarp before another lane's number is read": (
        "sums", "__syncwarp();                                                       // one", "", "NaN"),
    "the last partial warp forgotten": ("blocks", "(blockDim.x + 31) / 32", "blockDim.x / 64", "wrong value"),
    "a copy in the background that is read before it has come": ("ahead", "wait_for_copies();", "", "NaN"),
    "no barrier after the wait for copies": ("ahead", "__syncthreads();", "", None),
    "a copy in the background over what is still read": ("ahead", "(i / 32 + 1) % 2", "i / 32 % 2", None),
    "a copy past the end that should be zeros": ("ahead", "i + 32 + t < n", "true", None),
    "shared memory that nobody set to zero": ("count", "if (threadIdx.x < 64) bins[threadIdx.x] = 0;", "", "wrong value"),
    "counted in a block, written without adding": ("count", "atomicAdd(&y[threadIdx.x], bins[threadIdx.x])",
                                                   "y[threadIdx.x] = bins[threadIdx.x]", "wrong value"),
}


@pytest.mark.parametrize("bug", BUGS)
def test_planted_bugs_are_noticed(bug):
    name, there, instead, said = BUGS[bug]
    assert NAMES[name].count(there) == 1
    noticed = verdict(NAMES[name], NAMES[name].replace(there, instead))
    assert noticed is not None and (said is None or said in noticed), noticed


LAUNCHES = {
    "int64 for int32": (dict(n=np.int64(77)), "argument 3: the kernel reads integer of 4 bytes and was given integer of 8"),
    "float64 for float*": (dict(x=np.ones((5, 77))), "argument 0: the kernel reads an array, floating of 4 bytes"),
    "int32 for float*": (dict(x=np.ones((5, 77), np.int32)), "argument 0"),
    "an argument too few": (dict(n=None), "takes 4 arguments and was given 3"),
    "too little dynamic shared memory": (dict(shared=4 * 77 - 8), "wrote past its 300 bytes of dynamic shared memory"),
}


@pytest.mark.parametrize("slip", LAUNCHES)
def test_slips_of_the_launch_are_noticed(slip):
    change, said = LAUNCHES[slip]
    assert said in verdict(REVERSE, REVERSE, **change)


PARTED = '''#include "device.cuh"
__device__ float other(float x) {
    __syncwarp();
    return __shfl_xor_sync(FULL, x, 1);
}
__global__ void f(float* y) {
    __shared__ float scratch[33];
    int t = threadIdx.y * blockDim.x + threadIdx.x;
    float x = t;
    if (%s)
        x = %s;                                                         // line 11
    else
        x = %s;                                                         // line 13
    y[t] = x;
}'''
WAYS = {"other": "other(x)", "warp_sum": "warp_sum(x)", "block_sum": "block_sum(x, scratch)"}
LANES = "for lanes ffffffff of its warp"
WAITS = r"block \(0, 0, 0\): thread \(0, 0, 0\) waits in line \d+ of {0}, called in line {1} of f, " + LANES + ", and not " \
        r"all of them come: thread \({2}\) waits in line \d+ of {0}, called in line {3} of f, " + LANES + "$"
BARRIER = r"waits at the barrier of line \d+ of device.cuh, called in line {} of f"
MEETINGS = {                             # who goes one way, by which helper; the other way calls the same; what is said
    "half of each warp, __syncwarp": ("t % 32 < 16", "other", WAITS.format("f", 11, "0, 1, 0", 13)),
    "every second lane, a shuffle": ("t % 2", "warp_sum", WAITS.format("device.cuh", 13, "1, 0, 0", 11)),
    "one lane of the second warp": ("t != 40", "warp_sum",
                                    r"thread \(8, 2, 0\) waits in line \d+ of device.cuh, called in line 13 of f"),
    "half of the block, a barrier": ("t < 32", "block_sum", r"divergent barrier: thread \(0, 0, 0\) " + BARRIER.format(11) +
                                     r", thread \(0, 2, 0\) " + BARRIER.format(13) + "$"),
    "nobody: all go one way": ("t >= 0", "block_sum", None),
    "a warp here, a warp there": ("t < 32", "warp_sum", None),
}


@pytest.mark.skipif(not shutil.which("addr2line"), reason="addr2line, which comes with g++, tells the calls by their lines")
@pytest.mark.parametrize("who, options", [*((who, ()) for who in MEETINGS),
                                          *((who, PORTABLE) for who in list(MEETINGS)[::3])])
def test_threads_that_call_a_helper_in_two_places_have_not_met(who, options):
    condition, way, said = MEETINGS[who]
    kernel = RawModule(code=PARTED % (condition, WAYS[way], WAYS[way]), options=OPTIONS + options).get_function("f")
    if said is None:
        return kernel((1, 1, 1), (16, 4, 1), [poisoned(64)])
    with pytest.raises(KernelError) as caught:
        kernel((1, 1, 1), (16, 4, 1), [poisoned(64)])
    assert re.search(said, str(caught.value)), str(caught.value)


def test_without_addr2line_the_line_is_told(monkeypatch):
    monkeypatch.setattr(emulator.shutil, "which", lambda name: None)
    kernel = RawModule(code=PARTED % ("t % 2", "other(x)", "x"), options=OPTIONS).get_function("f")
    with pytest.raises(KernelError, match=rf"thread \(1, 0, 0\) waits in line 3, {LANES}, and not all of them come: "
                                          r"thread \(0, 0, 0\) has returned"):
        kernel((1, 1, 1), (16, 4, 1), [poisoned(64)])


@pytest.mark.parametrize("name", NAMES)
def test_the_portable_switch_makes_the_same_bits(name):
    """What takes the place of the assembler on other processors, run here: the same numbers, the same counts."""
    assert verdict(NAMES[name], NAMES[name], options=OPTIONS + PORTABLE) is None
    x, expected, grid, block, shared = right(NAMES[name])
    seen = []
    for options in (), PORTABLE:
        y = poisoned(expected.shape, x.dtype) if name != "count" else np.zeros(5, np.int32)
        kernel = RawModule(code=NAMES[name], options=OPTIONS + options).get_function("f")
        with thread_order("shuffled", seed=7):
            kernel(grid, block, [x, y, np.int32(5), np.int32(x.shape[-1])], shared_mem=shared)
        seen.append((y.tobytes(), kernel.counted))
    assert seen[0] == seen[1]


def test_what_does_not_compile_is_shown():
    with pytest.raises(KernelError, match="(?s)does not compile.*undeclared_thing"):
        RawModule(code="__global__ void f(float* x) { undeclared_thing(x); }", options=OPTIONS).get_function("f")


def test_without_a_compiler_it_is_said(monkeypatch):
    monkeypatch.setattr(emulator, "compiler", lambda: None)
    assert not emulator.available()
    with pytest.raises(KernelError, match="no C.. compiler here"):
        emulator.compiled.__wrapped__("text", OPTIONS)


def test_arrays_that_are_read_only_may_be_read_and_one_may_be_given_twice():
    kernel = RawModule(code="__global__ void f(const float* x, const float* z, float* y) { y[0] = x[0] + z[0]; }",
                       options=OPTIONS).get_function("f")
    x, y = np.ones(1, np.float32), poisoned(1)
    x.flags.writeable = False
    kernel((1, 1, 1), (1, 1, 1), [x, x, y])
    assert y == 2
    inner = RawModule(code="__global__ void f(float* x) { x[0] += 1.0f; }", options=OPTIONS).get_function("f")
    with pytest.raises(KernelError, match="read-only and was written"):
        inner((1, 1, 1), (1, 1, 1), [x])


def test_half_precision_as_numpy_has_it():
    """All 65,536 halves to float and back; and floats between them to the nearest, ties to even."""
    code = '''#include "device.cuh"
    __global__ void f(const half_t* h, float* x, const float* between, half_t* back, half_t* nearest, int n) {
        int i = blockIdx.x * 256 + threadIdx.x;
        if (i >= n) return;
        x[i] = load(h + i);
        store(back + i, x[i]);
        store(nearest + i, between[i]);
    }'''
    h = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    h = h[np.isfinite(h)]
    wide = h.astype(np.float32)
    between = np.concatenate([(wide[:-1] + wide[1:]) / 2, wide[-1:] * 3])
    x, back, nearest = poisoned(len(h)), poisoned(len(h), np.float16), poisoned(len(h), np.float16)
    kernel = RawModule(code=code, options=OPTIONS).get_function("f")
    kernel((-(-len(h) // 256), 1, 1), (256, 1, 1), [h, x, between, back, nearest, np.int32(len(h))])
    np.testing.assert_array_equal(x, wide)
    np.testing.assert_array_equal(back.view(np.uint16), h.view(np.uint16))
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(nearest, between.astype(np.float16))


def test_what_happened_is_counted():
    kernel = RawModule(code=SOFTMAX, options=OPTIONS).get_function("f")
    x = np.ones((1, 64), np.float32)
    kernel((1, 1, 1), (64, 1, 1), [x, poisoned((1, 64)), np.int32(1), np.int32(64)])
    assert kernel.counted == {"barriers": 64 * (1 + 6 + 1 + 1 + 6), "exchanges": 0, "atomics": 0}
