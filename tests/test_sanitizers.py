"""Kernels under AddressSanitizer and ThreadSanitizer: each file's kernels run clean, and what is planted is named with its
line: every barrier that is taken out, an addition by two blocks, an index past the end of whatever memory."""
import re
from pathlib import Path

import numpy as np
import pytest

from tinygrad_lm import emulator, kernels, optim
from tinygrad_lm.emulator import KernelError, RawModule, sanitize
from tinygrad_lm.emulator.sanitize import sanitized
from tinygrad_lm.ops import activation, cross_entropy as ce, dropout, embedding, norm, softmax as sm
from tinygrad_lm.ops.attention_kernels import (attention_kernel_backward, attention_kernel_forward,
                                               qkv_attention_kernel_backward, qkv_attention_kernel_forward)

from .planted import planted
from .test_emulator import BLOCKS, COUNT, NAMES, REVERSE, SUMS, TRANSPOSE, verdict

lacking = {kind: sanitize.why_not(kind) for kind in sanitize.SANITIZERS}
needs = {kind: pytest.mark.skipif(lacking[kind] is not None, reason=str(lacking[kind])) for kind in lacking}
both = pytest.mark.parametrize("kind", [pytest.param(kind, marks=needs[kind]) for kind in lacking])


def draws(*shapes, dtype=np.float32):
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


# ---- the kernels, file by file: as few launches as reach every line ------------------------------------------------------

def softmax():
    for shape in (9, 33), (2, 1028):                                     # a warp a row, a block a row
        x, dy = draws(shape, shape)
        for forward, backward in ((sm.softmax_kernel_forward, sm.softmax_kernel_backward),
                                  (sm.log_softmax_kernel_forward, sm.log_softmax_kernel_backward)):
            y, saved = forward(x)
            yield y, backward(dy, saved)[0]


def masked_softmax():
    for shape in (2, 2, 3, 5), (1, 1, 2, 1028):
        x, mask = *draws(shape), np.arange(shape[-1]) % 3 > 0
        yield sm.masked_softmax_kernel_forward(x, mask=mask, is_causal=True, key_lengths=np.full(shape[0], 4))[0],


def norms():
    for shape, needs_w in ((9, 33), True), ((2, 1028), False):           # dw of long rows would be too many threads
        x, w, b, dy = draws(shape, shape[1:], shape[1:], shape)
        y, saved = norm.layer_norm_kernel_forward(x, w, b)
        yield y, *gradients(norm.layer_norm_backward(dy, saved, (True, needs_w, needs_w)))
        y, saved = norm.rms_norm_kernel_forward(x, w)
        yield y, *gradients(norm.rms_norm_backward(dy, saved, (True, needs_w)))


def gradients(found):
    return [g for g in found if g is not None]


def gelu():
    for C in 33, 40:
        x, b, dy = draws((9, C), C, (9, C))
        y, saved = activation.gelu_tanh_kernel_forward(x, b)
        yield y, *activation.bias_gelu_tanh_kernel_backward(dy, saved, (True, True))


def cross_entropy():
    z, targets = *draws((3, 129)), np.array([5, -100, 128])
    loss, saved = ce.cross_entropy_kernel_forward(z, targets, label_smoothing=0.1)
    yield loss, ce.cross_entropy_kernel_backward(np.float32(1), saved)[0]


def embeddings():
    dy, = draws((5, 9))
    yield embedding.embedding_kernel_backward(dy, 4, np.array([1, 3, 1, 1, 3])),


def dropped():
    x, = draws((3, 350))
    yield dropout.dropout_kernel(x, 0.3, np.array([1, 2], np.uint32)),


def adamw():
    w, g, m = draws(1030, 1030, 1030)
    v = m * m
    optim.adamw_kernel(w, g, m, v, np.array([0.99, 1e-8, 1e-3], np.float32), np.zeros(1, np.int32), (0.9, 0.99), True)
    norm_ = optim.clip_kernel([g, w[:40].copy()], 0.5)
    yield w, m, v, g, np.array(norm_)


def attention():
    q, k, v, dy = draws((1, 2, 65, 16), (1, 1, 70, 16), (1, 1, 70, 16), (1, 2, 65, 16))          # 2 blocks of queries
    y, kept = attention_kernel_forward(q, k, v, is_causal=True, key_lengths=np.array([69]), scale=0.25)
    yield y, *attention_kernel_backward(dy, kept)


def qkv_attention():
    qkv, dy = draws((1, 66, 3 * 2 * 16), (1, 66, 2 * 16))
    y, saved = qkv_attention_kernel_forward(qkv, 2)
    yield y, *qkv_attention_kernel_backward(dy, saved)


def attention_mma():
    q, k, v = draws((1, 1, 33, 32), (1, 1, 130, 32), (1, 1, 130, 32), dtype=np.float16)          # 3 tiles of keys
    yield attention_kernel_forward(q, k, v, scale=0.3)[0],
    yield qkv_attention_kernel_forward(*draws((1, 70, 96), dtype=np.float16), 1)[0],


def attention_mma_backward():
    q, k, v, dy = draws(*[(1, 1, 130, 32)] * 4, dtype=np.float16)                                 # 3 tiles of either
    yield attention_kernel_backward(dy, attention_kernel_forward(q, k, v, scale=0.3)[1])


FILES = {softmax: "softmax.cu", masked_softmax: "softmax.cu", norms: "norm.cu", gelu: "activation.cu",
         cross_entropy: "cross_entropy.cu", embeddings: "embedding.cu", dropped: "dropout.cu", adamw: "adamw.cu",
         attention: "attention.cu", qkv_attention: "attention.cu", attention_mma: "attention_mma.cu",
         attention_mma_backward: "attention_mma_backward.cu"}
QUICK = (embeddings,)                                                     # by default; the others are slow to compile


def test_no_file_is_forgotten():
    assert set(FILES.values()) == {path.name for path in kernels.FOLDER.glob("*.cu")}


@both
@pytest.mark.parametrize("case", [pytest.param(case, id=case.__name__, marks=[pytest.mark.slow] * (case not in QUICK))
                                  for case in FILES])
def test_kernels_run_clean(case, kind):
    """Nothing is reported, and what comes back is what the emulator gives without."""
    with sanitized(kind):
        watched = list(case())
    for ours, plain in zip(watched, case()):
        for a, b in zip(ours, plain):
            assert np.isfinite(a.astype(float)).all()
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


@both
@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_right_kernels_are_never_blamed(name, kind):
    with sanitized(kind):
        assert verdict(NAMES[name], NAMES[name]) is None


# ---- every barrier --------------------------------------------------------------------------------------------------

BARRIER = re.compile(r"__sync(threads|warp)\(\);")
WHERE = {                                                                # whose barriers show in which case
    "device.cuh": cross_entropy, "rows.cuh": norms, "embedding.cu": embeddings, "attention.cu": attention,
    "attention_mma.cu": attention_mma, "attention_mma_backward.cu": attention_mma_backward}
SPARE = {                                                                # (file, which): why its absence is no race
    ("device.cuh", 2): "the next block_sum's first barrier comes before it writes what is read here",
    ("device.cuh", 5): "as in block_sum",
    ("rows.cuh", 1): "each term is a type of its own, and so has a column_partials and a strip of its own"}


def barriers():
    for path in sorted(kernels.FOLDER.glob("*.cu*")):
        for i, found in enumerate(BARRIER.finditer(path.read_text(encoding="utf-8"))):
            yield pytest.param(path.name, i, found.span(), id=f"{path.name}-{i}")


@needs["thread"]
@pytest.mark.slow
@pytest.mark.parametrize("file, i, span", list(barriers()))
def test_every_barrier_is_missed(file, i, span, tmp_path):
    text = (kernels.FOLDER / file).read_text(encoding="utf-8")
    with sanitized("thread"), planted(tmp_path, file, text, text[:span[0]] + ";" + text[span[1]:]):
        if (file, i) in SPARE:
            list(WHERE[file]())
        else:
            with pytest.raises(KernelError, match="ThreadSanitizer: a data race: block .* neither __syncthreads"):
                list(WHERE[file]())


# ---- planted ----------------------------------------------------------------------------------------------------------

ADD, BIN = "atomicAdd(&y[threadIdx.x], bins[threadIdx.x])", "atomicAdd(&bins[x[i]], 1)"
PLANTED = {                                    # sanitizer, kernel, what stands there, what the bug makes of it, what is said
    "no __syncthreads between write and read": (
        "thread", TRANSPOSE, "__syncthreads();", "", "read of 4 bytes in line 8: `if .*write of the same in line 5|"
                                                     "write of 4 bytes in line 5: `if .*read of the same in line 8"),
    "no __syncwarp before another lane's number is read": (
        "thread", SUMS, "__syncwarp();", "", "neither __syncthreads nor __syncwarp between"),
    "a shuffle in the place of __syncwarp": (
        "thread", SUMS, "__syncwarp();", "__shfl_sync(FULL, s, 0);", "neither __syncthreads nor __syncwarp between"),
    "two blocks add without atomics": (
        "thread", COUNT, ADD, "y[threadIdx.x] += bins[threadIdx.x]",
        r"\(1, 0, 0\), thread 0: read of 4 bytes in line 9: `.*block \(0, 0, 0\), thread 0: write .* order two blocks"),
    "a histogram without atomics": (
        "thread", COUNT, BIN, "bins[x[i]]++", r"in line 7: `if \(i < n\) bins\[x\[i\]\]\+\+;`.*neither __syncthreads"),
    "an atomic addition and one that is none": (
        "thread", COUNT, BIN, "if (i % 2) atomicAdd(&bins[x[i]], 1); else bins[x[i]]++", "atomic .* of (4 bytes|the same)"),
    "a static array too small": (
        "address", BLOCKS, "scratch[33]", "scratch[2]", r"index 2 out of bounds for type 'float ?\[2\]' in line 7"),
    "a row of a static array too short": (
        "address", TRANSPOSE, "tile[16][17]", "tile[16][15]", r"index 15 out of bounds for type 'float ?\[15\]'"),
    "a static array too small for a function that it is given to": (
        "address", BLOCKS, "s = warp_sum(s);", "s = block_sum(s, scratch); __shared__ float few[32]; s = block_sum(s, few);",
        r"write of 4 bytes, 0 bytes past the end of `few`, 128 bytes in line \d+ of device.cuh: `if .* scratch.32. = y;`"),
    "a read one past the end": (
        "address", BLOCKS, "i < n; i += blockDim.x", "i <= n; i += blockDim.x",
        r"read of 4 bytes, 0 bytes past the end of argument 0, shape \(5, 77\) in line 5: `for .*, by block \(4, .* thread 77"),
    "a write one past the end": (
        "address", COUNT, "threadIdx.x < rows", "threadIdx.x <= rows", r"past the end of argument 1, shape \(5,\) in line 9"),
    "a write before the start": (
        "address", TRANSPOSE, "y[c * rows + r]", "y[c * rows + r - 1]", r"4 bytes before the start of argument 1, shape"),
    "a read past dynamic shared memory": (
        "address", REVERSE, "row[n - 1 - i]", "row[n - i]", "0 bytes past the end of 308 bytes of dynamic shared memory"),
    "a pack that is misaligned": (
        "address", REVERSE, "row[n - 1 - i]", "((const float4*)(row + 1))->x", "misaligned .* requires 16 byte alignment"),
}


RARER = ("a shuffle in the place of __syncwarp", "an atomic addition and one that is none", "a pack that is misaligned",
         "a row of a static array too short", "a write before the start", "a read past dynamic shared memory")


@pytest.mark.parametrize("bug", [pytest.param(bug, marks=[needs[PLANTED[bug][0]], *[pytest.mark.slow] * (bug in RARER)])
                                 for bug in PLANTED])
def test_planted_bugs_are_named(bug):
    kind, kernel, there, instead, said = PLANTED[bug]
    assert there in kernel
    with sanitized(kind):
        noticed = verdict(kernel, kernel.replace(there, instead))
    assert noticed and re.search(said, noticed.split("\n")[0]), noticed
    assert f"f: {sanitize.NAMES[kind]}: " in noticed and len(noticed.splitlines()) > 2          # the report's lines, too


@needs["address"]
def test_too_little_dynamic_shared_memory_is_named():
    with sanitized("address"):
        assert re.search("write of 4 bytes, 0 bytes past the end of 300 bytes of dynamic shared memory in line 4",
                         verdict(REVERSE, REVERSE, shared=4 * 77 - 8))


@needs["thread"]
@pytest.mark.slow
def test_fences_and_atomics_let_the_last_block_add_up():
    """The one way in which blocks may wait for each other's numbers is no race; without the fence it is."""
    code = """__global__ void f(const float* x, float* parts, int* done, float* y) {
        __shared__ int last;
        if (threadIdx.x == 0) {
            parts[blockIdx.x] = x[blockIdx.x];
            __threadfence();
            last = atomicAdd(done, 1) == gridDim.x - 1;
            __threadfence();
        }
        __syncthreads();
        if (last && threadIdx.x < gridDim.x) atomicAdd(y, parts[threadIdx.x]);
    }"""
    x = np.arange(3, dtype=np.float32)
    for text, wrong in (code, False), (code.replace("__threadfence();", ""), True):
        with sanitized("thread"):
            kernel, y = RawModule(code=text).get_function("f"), np.zeros(1, np.float32)
            arguments = [x, np.zeros(3, np.float32), np.zeros(1, np.int32), y]
            if wrong:
                with pytest.raises(KernelError, match="nothing to order two blocks"):
                    kernel((3, 1, 1), (32, 1, 1), arguments)
            else:
                kernel((3, 1, 1), (32, 1, 1), arguments)
                assert y == 3


# ---- the launch -------------------------------------------------------------------------------------------------------

@both
def test_a_launch_is_the_emulators_own(kind):
    """Counts, read-only arrays, an array given twice, and what the emulator itself refuses: as without a sanitizer."""
    code = """__global__ void f(const float* x, const float* z, float* y) {
        y[4 * blockIdx.x + threadIdx.x] = x[0] + z[0];
        __syncthreads();
    }"""
    x, y = np.ones(1, np.float32), np.zeros(8004, np.float32)
    x.flags.writeable = False
    with sanitized(kind):
        kernel = RawModule(code=code).get_function("f")
        kernel((1, 1, 1), (4, 1, 1), [x, x, y])
        assert (y[:4] == 2).all() and not y[4:].any() and kernel.counted == {"barriers": 4, "exchanges": 0, "atomics": 0}
        with pytest.raises(TypeError, match="argument 1: the kernel reads an array, floating of 4 bytes"):
            kernel((1, 1, 1), (4, 1, 1), [x, np.ones(1), y])
        if kind == "thread":
            with pytest.raises(KernelError, match="tells 8000 threads apart, and 2001 blocks of 4 are more"):
                kernel((2001, 1, 1), (4, 1, 1), [x, x, y])


def test_slips_in_the_choice():
    with pytest.raises(ValueError, match="address, thread, not 'memory'"):
        with sanitized("memory"):
            pass


def test_a_compiler_without_sanitizers_is_named(monkeypatch):
    sanitize.why_not.cache_clear(), sanitize.process.cache_clear()
    monkeypatch.setattr(sanitize, "SANITIZERS", {"thread": ("-fsanitize=nothing_of_this_name",)})
    try:
        if emulator.available():
            with pytest.raises(KernelError, match="ThreadSanitizer is not to be had here: .*does not compile"):
                sanitized("thread").__enter__()
        monkeypatch.setattr(sanitize, "available", lambda: False)
        sanitize.why_not.cache_clear()
        assert sanitize.why_not("thread") == "there is no C++ compiler here"
    finally:
        sanitize.why_not.cache_clear(), sanitize.process.cache_clear()
