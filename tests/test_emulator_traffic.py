"""What the emulator counts of reads and writes is what arithmetic says: naive against tiled, and the kernels of ops/ against
what their files say that they move."""
import numpy as np
import pytest

from tinygrad_lm import emulator
from tinygrad_lm.emulator import RawModule, poisoned
from tinygrad_lm.emulator.traffic import Traffic
from tinygrad_lm.kernels import OPTIONS
from tinygrad_lm.ops import attention_kernels, softmax

pytestmark = pytest.mark.skipif(not emulator.available(), reason="no C++ compiler")

NAIVE = """
__global__ void f(const float* a, const float* b, float* c, int n) {    // a thread a number of c
    int row = blockIdx.y * blockDim.y + threadIdx.y, col = blockIdx.x * blockDim.x + threadIdx.x;
    float sum = 0;
    for (int k = 0; k < n; k++) sum += a[row * n + k] * b[k * n + col];
    c[row * n + col] = sum;
}"""
TILED = """
__global__ void f(const float* a, const float* b, float* c, int n) {    // by way of tiles of 8 × 8 in shared memory
    __shared__ float left[8][8];
    extern __shared__ float right[];
    int x = threadIdx.x, y = threadIdx.y, row = blockIdx.y * 8 + y, col = blockIdx.x * 8 + x;
    float sum = 0;
    for (int start = 0; start < n; start += 8) {
        left[y][x] = a[row * n + start + x];
        right[8 * y + x] = b[(start + y) * n + col];
        __syncthreads();
        for (int k = 0; k < 8; k++) sum += left[y][k] * right[8 * k + x];
        __syncthreads();
    }
    c[row * n + col] = sum;
}"""
N = 24


def floats(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def counts(reads=0, writes=0, each=4):
    return Traffic(reads, each * reads, writes, each * writes)


def product(code):
    a, b, c = floats(N, N), floats(N, N, seed=1), poisoned((N, N))
    kernel = RawModule(code=code).get_function("f")
    with emulator.trace() as launches:
        kernel((N // 8, N // 8, 1), (8, 8, 1), [a, b, c, np.int32(N)], shared_mem=4 * 64)
    np.testing.assert_allclose(c, a @ b, rtol=1e-4, atol=1e-5)
    return launches[0]


def test_a_naive_product_reads_2n3_numbers():
    seen = product(NAIVE)
    assert seen.arrays == (counts(N**3), counts(N**3), counts(0, N**2), counts())
    assert seen.memory == counts(2 * N**3, N**2) and seen.shared == counts()


def test_a_tiled_product_reads_an_eighth_of_it_and_the_rest_from_shared_memory():
    seen = product(TILED)
    assert seen.arrays == (counts(N**3 // 8), counts(N**3 // 8), counts(0, N**2), counts())
    assert seen.shared == counts(2 * N**3, 2 * N**3 // 8)


@pytest.mark.parametrize("rows, cols", [(3, 64), (2, 1028)])             # a warp a row, a block a row
def test_softmax_moves_what_its_file_says(rows, cols):
    if "clang" in emulator.compiler():
        pytest.skip("clang before 15 does not say when it copies a struct")
    x, dy, n = floats(rows, cols), floats(rows, cols, seed=1), rows * cols // 4                # packs of four, 16 bytes
    with emulator.trace() as launches:
        y, saved = softmax.softmax_kernel_forward(x)
        softmax.softmax_kernel_backward(dy, saved)
    forward, backward = (launch.arrays[:3] for launch in launches)
    assert forward[:2] == (counts(2 * n, each=16), counts(0, n, each=16))                      # two passes over x
    assert backward == (counts(2 * n, each=16), counts(2 * n, each=16), counts(0, n, each=16))


def test_attention_reads_each_key_once_a_tile_of_queries_and_never_writes_scores():
    B, H, T, D = 1, 1, 80, 16
    M, _ = attention_kernels.FORWARD[D]
    q, k, v = (floats(B, H, T, D, seed=i) for i in range(3))
    with emulator.trace() as launches:
        attention_kernels.attention_kernel_forward(q, k, v, scale=0.25)
    q, k, v, _, y, lse = (t.read_bytes + t.written_bytes for t in launches[0].arrays[:6])
    x = 4 * B * H * T * D
    assert (q, k, v, y, lse) == (x, -(-T // M) * x, -(-T // M) * x, x, x // D)


def test_traces_nest_and_say_nothing_of_what_is_launched_outside():
    a, c = floats(8, 8), poisoned((8, 8))
    kernel = RawModule(code=NAIVE).get_function("f")
    launch = lambda: kernel((1, 1, 1), (8, 8, 1), [a, a, c, np.int32(8)])
    with emulator.trace() as outer:
        with emulator.trace() as inner:
            launch()
        launch()
        launch()
    launch()
    assert len(inner) == 1 and len(outer) == 2
    assert inner[0].kernel == "f"
    assert inner[0].arrays == (counts(2 * 512), counts(), counts(0, 64), counts())            # a was given twice


def test_atomics_are_a_read_and_a_write_and_the_emulators_own_accesses_are_not_counted():
    code = """#include "device.cuh"
    __global__ void f(float* y, double* wide) {
        __shared__ float scratch[33];
        atomicAdd(y, warp_sum(1.0f));
        wide[threadIdx.x] = threadIdx.x;
        scratch[threadIdx.x] = 0;
        __syncthreads();
        watch("wide", wide[threadIdx.x]);
    }"""
    with emulator.trace() as launches:
        kernel = RawModule(code=code, options=OPTIONS).get_function("f")
        kernel((2, 1, 1), (32, 1, 1), [np.zeros(1, np.float32), poisoned(32, np.float64)])
    seen = launches[0]
    assert seen.arrays == (counts(64, 64), counts(0, 64, each=8)) and seen.shared == counts(0, 64)
    assert len(seen.watched) == 64 and seen.held("wide", 1, block=1) == list(range(32)) and seen.held("wide", 0) == []


def test_a_launch_that_fails_shows_what_its_threads_held():
    code = """__global__ void f(float* y) {
        watch("t", threadIdx.x);
        if (threadIdx.x) __syncthreads();
        y[threadIdx.x] = 1;
    }"""
    kernel = RawModule(code=code).get_function("f")
    with emulator.trace() as launches, pytest.raises(emulator.KernelError, match="not all of them come"):
        kernel((1, 1, 1), (2, 1, 1), [poisoned(2)])
    assert launches[0].held("t", 0) == [0, 1] and launches[0].memory == counts(0, 1)


def test_watch_is_nothing_where_no_trace_is_made():
    y = poisoned(1)
    RawModule(code="""__global__ void f(float* y) { watch("y", y[0] = 2); if (y[0] != 2) y[0] = 1; }""").get_function("f")(
        (1, 1, 1), (1, 1, 1), [y])
    assert y == 1
