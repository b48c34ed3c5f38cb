"""A launch that a card would refuse, or would misread without a word, is refused by the emulator, which says why."""
import numpy as np
import pytest

from tinygrad_lm import emulator
from tinygrad_lm.emulator import KernelError, RawModule, poisoned

pytestmark = pytest.mark.skipif(not emulator.available(), reason="no C++ compiler")

NOTHING = "__global__ void f() {}"
WHERE = """
__global__ void f(int* at, int x, int y, int z) {
    if (blockIdx.x == x && blockIdx.y == y && blockIdx.z == z) at[threadIdx.z]++;
}"""
COPY = "__global__ void f(const float* x, float* y, int n) { for (int i = threadIdx.x; i < n; i += 32) y[i] = x[i]; }"
STATIC = """
__global__ void other(float* y) {                                       // another kernel's shared memory is not this one's
    __shared__ float large[12 << 10];
    large[threadIdx.x] = y[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = large[0];
}
__device__ float first() {
    __shared__ float of_a_helper[16];
    of_a_helper[threadIdx.x] = 1;
    __syncthreads();
    return of_a_helper[0];
}
__global__ void f(float* y) {
    __shared__ float scratch[%s - 16];
    extern __shared__ float more[];
    scratch[threadIdx.x] = first();
    if (y[0] == 0) more[0] = 0;
    __syncthreads();
    y[threadIdx.x] = scratch[0];
}
"""
KIB = 1 << 10


def kernel(code):
    return RawModule(code=code).get_function("f")


SIZES = {
    "gridDim.x": ((1 << 31, 1, 1), (1, 1, 1), r"gridDim\.x is 2147483648, and a card takes 1 to 2147483647"),
    "gridDim.y": ((1, 65536, 1), (1, 1, 1), r"gridDim\.y is 65536, and a card takes 1 to 65535"),
    "gridDim.z": ((1, 1, 65536), (1, 1, 1), r"gridDim\.z is 65536, and a card takes 1 to 65535"),
    "no blocks": ((0, 1, 1), (1, 1, 1), r"gridDim\.x is 0"),
    "blockDim.x": ((1, 1, 1), (1025, 1, 1), r"blockDim\.x is 1025, and a card takes 1 to 1024"),
    "blockDim.y": ((1, 1, 1), (1, 1025, 1), r"blockDim\.y is 1025, and a card takes 1 to 1024"),
    "blockDim.z": ((1, 1, 1), (1, 1, 65), r"blockDim\.z is 65, and a card takes 1 to 64"),
    "no threads": ((1, 1, 1), (32, 0, 1), r"blockDim\.y is 0"),
    "threads": ((1, 1, 1), (32, 11, 3), "a block has 1 to 1024 threads, not 1056: 32 · 11 · 3"),
}


@pytest.mark.parametrize("what", SIZES)
def test_more_blocks_or_threads_than_a_card_takes(what):
    grid, block, said = SIZES[what]
    with pytest.raises(KernelError, match="f: " + said):
        kernel(NOTHING)(grid, block, [])


def test_as_many_as_it_takes():
    one = 1, 1, 1
    for grid, block in [((1, 65535, 1), one), ((1, 1, 65535), one), (one, (16, 1, 64)), (one, (1, 1024, 1))]:
        at = np.zeros(64, np.int32)
        kernel(WHERE)(grid, block, [at, *(np.int32(n - 1) for n in grid)])
        assert at.sum() == np.prod(block)                               # the last block ran, and once


def shared(static, dynamic, raised=None):
    """The launch of a kernel with so many bytes of shared memory."""
    f = kernel(STATIC % (static // 4))
    if raised:
        f.max_dynamic_shared_size_bytes = raised
    y = np.ones(16, np.float32)
    f((1, 1, 1), (16, 1, 1), [y], shared_mem=dynamic)
    return f


def test_as_much_shared_memory_as_a_block_has():
    assert shared(48 * KIB, 0).shared_size_bytes == 48 * KIB
    assert shared(132, 0).shared_size_bytes == 132
    assert shared(4 * KIB, 44 * KIB).max_dynamic_shared_size_bytes == 44 * KIB
    shared(4 * KIB, 223 * KIB, raised=223 * KIB)


@pytest.mark.parametrize("static, dynamic, raised, said", [
    (48 * KIB + 4, 0, None, "49156 bytes of static shared memory, and a block has 49152"),
    (4 * KIB, 44 * KIB + 4, None, "45060 bytes of dynamic shared memory a block, and 45056 were allowed .49152 less 4096"),
    (4 * KIB, 100 * KIB + 4, 100 * KIB, "102404 bytes of dynamic shared memory a block, and 102400 were allowed"),
    (4 * KIB, 223 * KIB + 4, 224 * KIB, "4096 . 228356 bytes of static and dynamic shared memory, and the largest blocks, "
                                        "an H100's, have 232448"),
])
def test_more_shared_memory_than_a_block_has(static, dynamic, raised, said):
    with pytest.raises(KernelError, match="f: " + said):
        shared(static, dynamic, raised)


def copied(x, y):
    kernel(COPY)((1, 1, 1), (32, 1, 1), [x, y, np.int32(y.size)])
    return y


def floats(*shape):
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


@pytest.mark.parametrize("x", [floats(4, 6)[:, 1:3], floats(16)[::2], floats(2, 4).T, floats(8)[::-1],
                               np.broadcast_to(floats(1), 8)],
                         ids=["columns", "every second", "transposed", "backward", "broadcast"])
def test_arrays_with_gaps(x):
    with pytest.raises(KernelError, match="f: argument 0 has gaps: shape .*, strides .*: use ascontiguousarray"):
        copied(x, poisoned(8))
    assert np.array_equal(copied(np.ascontiguousarray(x), poisoned(8)), x.reshape(-1))


@pytest.mark.parametrize("x, said", [
    (floats(8).astype(">f4"), "argument 0 is of dtype '>f4', which no kernel reads"),
    (floats(8).astype("<f4").view("<f4").astype(np.float64), "argument 0: the kernel reads an array, floating of 4 bytes"),
    (np.array([None] * 8), "argument 0 is of dtype '|O'"),
    (np.zeros(8, [("a", np.float32)]), "argument 0 is of dtype '|V4'"),
], ids=["byte order", "float64", "objects", "records"])
def test_arrays_of_what_no_kernel_reads(x, said):
    with pytest.raises(TypeError) as caught:
        copied(x, poisoned(8))
    assert said in str(caught.value)


def test_a_number_of_python_is_one_of_8_bytes_as_with_cupy():
    with pytest.raises(TypeError, match="argument 2: the kernel reads integer of 4 bytes and was given integer of 8"):
        kernel(COPY)((1, 1, 1), (32, 1, 1), [floats(8), poisoned(8), 8])


def test_arrays_that_overlap():
    room = floats(12)
    for x, y in [(room[:8], room[4:]), (room[4:], room[:8]), (room, room[:8]), (room[2:6], room)]:
        shared = 4 * len(np.intersect1d(x, y))
        with pytest.raises(KernelError, match=f"f: arguments 0 and 1 share {shared} bytes, and neither is the other"):
            copied(x, y)
    assert np.array_equal(copied(room[:6], room[6:]), [0, 1, 2, 3, 4, 5])                    # beside each other
    assert np.array_equal(copied(room[:6], room[:6]), [0, 1, 2, 3, 4, 5])                    # one and the same, in place
