"""Attention's kernels against its NumPy functions in float64: the same launch on the emulator, and on a GPU where asked for."""
import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st

from tinygrad_lm import backend, emulator
from tinygrad_lm.ops.attention import attention_backward, attention_forward
from tinygrad_lm.ops.attention_kernels import (attention_kernel_backward, attention_kernel_forward,
                                               qkv_attention_kernel_backward, qkv_attention_kernel_forward)
from tinygrad_lm.ops.causal_attention import qkv_attention_backward, qkv_attention_forward

from .planted import planted
from .strict_cupy import strict_cupy

pytestmark = pytest.mark.skipif(not emulator.available(), reason="the emulator needs a C++ compiler")

TOLERANCE = {"float32": 1e-5, "float16": 1e-2, "bfloat16": 4e-2}
few = settings(max_examples=3)                                           # a head size has its own kernel, compiled once
lengths = st.sampled_from([1, 2, 15, 31, 32, 33, 63, 64, 65, 70])        # below, at and off the tiles of 16, 32 and 64 rows


@pytest.fixture(params=["emulator", pytest.param("stand-in", marks=pytest.mark.slow),
                        pytest.param("gpu", marks=pytest.mark.gpu)])
def xp(request):
    """The module whose arrays the kernels are given: NumPy, the strict stand-in for CuPy (the emulator again), CuPy."""
    if request.param == "emulator":
        yield np
    elif request.param == "gpu":
        if backend.why_no_cuda():
            pytest.skip(backend.why_no_cuda())
        yield backend.cuda()
    else:
        with strict_cupy() as cupy:
            yield cupy


# ---- storage ----------------------------------------------------------------------------------------------------------

def stored(x, storage):
    """float64 to what the kernels read; bfloat16, which NumPy has not, as the upper half of float32's bits."""
    if storage != "bfloat16":
        return x.astype(storage)
    bits = x.astype(np.float32).view(np.uint32)
    return ((bits + 0x7fff + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def read(x):
    x = np.asarray(x.get() if hasattr(x, "get") else x)
    return ((x.astype(np.uint32) << 16).view(np.float32) if x.dtype == np.uint16 else x).astype(np.float64)


def draws(seed, storage, *shapes):
    rng = np.random.default_rng(seed)
    return [stored(rng.standard_normal(shape), storage) for shape in shapes]


def near(ours, exact, storage):
    """Within the storage's rounding, relative to 1 and to the largest that stands there."""
    assert ours.dtype == ("uint16" if storage == "bfloat16" else storage) and ours.shape == exact.shape
    np.testing.assert_allclose(read(ours), exact, rtol=TOLERANCE[storage],
                               atol=TOLERANCE[storage] * max(1, np.abs(exact).max(initial=0)))


# ---- the property -----------------------------------------------------------------------------------------------------

def check_attention(xp, storage, *sizes, order="forward", **options):
    """In this order of the emulator's threads: see _check_attention."""
    with emulator.thread_order(order):
        return _check_attention(xp, storage, *sizes, **options)


def _check_attention(xp, storage, B, H, K, T, S, D, is_causal=False, key_lengths=None, scale=0.3, seed=0, tensor_cores=True):
    """Value and gradients of the kernels are those of the composed functions on the same numbers."""
    q, k, v, dy = draws(seed, storage, (B, H, T, D), (B, K, S, D), (B, K, S, D), (B, H, T, D))
    key_lengths = None if key_lengths is None else np.array(key_lengths)
    options = dict(is_causal=is_causal, key_lengths=key_lengths, scale=scale)
    exact, saved = attention_forward(*map(read, (q, k, v)), **options)
    y, kept = attention_kernel_forward(*map(xp.asarray, (q, k, v)), **options, tensor_cores=tensor_cores)
    near(y, exact, storage)
    assert kept.lse.dtype == np.float32 and kept.lse.shape == (B, H, T)
    gradients = attention_kernel_backward(xp.asarray(dy), kept, tensor_cores=tensor_cores)
    for ours, theirs in zip(gradients, attention_backward(read(dy), saved, (True,) * 3)):
        near(ours, theirs, storage)
    return y, gradients


def check_qkv_attention(xp, storage, B, T, H, D, seed=0, tensor_cores=True):
    qkv, dy = draws(seed, storage, (B, T, 3 * H * D), (B, T, H * D))
    exact, saved = qkv_attention_forward(read(qkv), n_head=H)
    y, kept = qkv_attention_kernel_forward(xp.asarray(qkv), H, tensor_cores=tensor_cores)
    near(y, exact, storage)
    dqkv, = qkv_attention_kernel_backward(xp.asarray(dy), kept, tensor_cores=tensor_cores)
    near(dqkv, qkv_attention_backward(read(dy), saved)[0], storage)


@st.composite
def cases(draw):
    B, K, T, S = draw(st.integers(1, 2)), draw(st.integers(1, 2)), draw(lengths), draw(lengths)
    key_lengths = draw(st.none() | st.lists(st.integers(0, S), min_size=B, max_size=B))
    return dict(B=B, H=K * draw(st.integers(1, 2)), K=K, T=T, S=S, is_causal=draw(st.booleans()), key_lengths=key_lengths,
                seed=draw(st.integers(0, 99)), order=draw(st.sampled_from(sorted(emulator.ORDERS))))


CASES = [dict(B=1, H=4, K=2, T=70, S=70, is_causal=True),                # groups of two heads
         dict(B=2, H=1, K=1, T=3, S=66, key_lengths=[0, 65], order="backward"),        # no key at all, one past a tile
         dict(B=1, H=1, K=1, T=67, S=5, is_causal=True, order="shuffled"),   # more queries than keys: the first see nothing
         dict(B=1, H=2, K=1, T=5, S=67, is_causal=True, key_lengths=[64])]


TENSOR_CORES = [("float16", 32), ("float16", 64), ("float16", 128), ("bfloat16", 64)]
OTHERS = [(storage, D) for storage in ("float16", "bfloat16") for D in range(16, 129, 16) if (storage, D) not in TENSOR_CORES]


@pytest.mark.parametrize("storage, D", [("float32", D) for D in (16, 32, 64, 128)] + TENSOR_CORES
                         + [pytest.param(*kind, marks=pytest.mark.slow) for kind in OTHERS])
@few
@given(cases())
@example(CASES[0])
@example(CASES[1])
@example(CASES[2])
@example(CASES[3])
def test_attention(xp, storage, D, case):
    check_attention(xp, storage, D=D, **case)


@few
@given(st.sampled_from([1, 2, 7, 17, 48, 63, 65, 100, 127]), st.sampled_from(["float32", "float16"]), cases())
def test_attention_of_other_head_sizes(xp, D, storage, case):
    """Channels that a tile has room for and that are not there count as zero, whatever stands behind them in memory."""
    check_attention(xp, storage, D=D, **case)


@few
@given(lengths, st.integers(1, 3), st.sampled_from([("float32", 20), ("float32", 64), ("float16", 64)]), st.integers(1, 2))
@example(70, 2, ("float32", 20), 2)
@example(129, 2, ("float16", 64), 1)
def test_qkv_attention(xp, T, H, kind, B):
    check_qkv_attention(xp, kind[0], B, T, H, kind[1])


def test_tensor_cores_and_plain_arithmetic_agree(xp):
    for tensor_cores in (True, False):
        check_attention(xp, "float16", 1, 2, 1, 70, 67, 32, is_causal=True, tensor_cores=tensor_cores)
    check_qkv_attention(xp, "float16", 1, 40, 2, 64, tensor_cores=False)


def check_several_blocks(xp, storage, D, order):
    """More rows than the 128 of a block and more tiles than the two in shared memory; and then fewer than a stripe of 16."""
    check_attention(xp, storage, 1, 2, 1, 130, 140, D, is_causal=True, order=order)
    check_attention(xp, storage, 2, 1, 1, 33, 141, D, key_lengths=[130, 97], order=order)
    check_attention(xp, storage, 1, 1, 1, 1, 1, D, order=order)


@pytest.mark.parametrize("storage, D", [("float16", 32)] + [pytest.param(*kind, marks=pytest.mark.slow)
                                                           for kind in TENSOR_CORES[1:] + OTHERS])
def test_tensor_cores_over_several_blocks(xp, storage, D):
    for order in emulator.ORDERS:
        check_several_blocks(xp, storage, D, order)


def test_the_same_bits_in_every_order(xp):
    """No sum depends on which thread or block is first."""
    def gradients(order):
        return check_attention(xp, "float16", 1, 2, 1, 40, 70, 32, is_causal=True, order=order)[1]
    first = gradients("forward")
    for order in emulator.ORDERS:
        assert all((ours == theirs).all() for ours, theirs in zip(gradients(order), first))


def test_a_scale_of_any_sign(xp):
    """What is masked stays so: the tensor cores' kernels, which mask before they scale, leave these to the others."""
    for scale in (-0.3, 0.0):
        check_attention(xp, "float16", 1, 1, 1, 20, 30, 32, is_causal=True, scale=scale)


def test_queries_that_see_nothing(xp):
    """Zeros, and gradients of zero: of a sequence without keys, and of queries before all keys."""
    for storage, D in (("float32", 16), ("float16", 32)):
        y, (dq, dk, dv) = check_attention(xp, storage, 2, 1, 1, 9, 4, D, is_causal=True, key_lengths=[0, 4])
        assert not y[0].any() and not dq[0].any() and not dk[0].any() and not dv[0].any()
        assert not y[1, :, :5].any() and not dq[1, :, :5].any() and y[1, :, 5:].all()


def test_large_scores(xp):
    """The shift by the largest: exp cannot overflow, nor every weight vanish."""
    for storage in ("float32", "float16"):
        q, = draws(0, storage, (1, 1, 70, 32))
        y, kept = attention_kernel_forward(*[xp.asarray(q * 30)] * 3, is_causal=True, scale=1.0)
        exact, _ = attention_forward(*[read(q * 30)] * 3, is_causal=True, scale=1.0)
        near(y, exact, storage)
        assert xp.isfinite(kept.lse).all()


def test_only_what_is_needed(xp):
    for storage, D in (("float32", 16), ("float16", 32)):
        q, k, v, dy = map(xp.asarray, draws(0, storage, *[(1, 1, 5, D)] * 4))
        _, kept = attention_kernel_forward(q, k, v, scale=0.25)
        together = attention_kernel_backward(dy, kept)
        for i in range(3):
            alone = attention_kernel_backward(dy, kept, [j == i for j in range(3)])
            assert [g is not None for g in alone] == [j == i for j in range(3)]
            assert (alone[i] == together[i]).all()                       # the same sums in the same order


# ---- planted mistakes -------------------------------------------------------------------------------------------------

PLANTED = {
    "the mask is off by one": ("attention.cuh", "causal ? t + 1 + S - T", "causal ? t + 2 + S - T"),
    "key lengths are forgotten": ("attention.cuh", "return n < keys ? n : keys", "return n"),
    "a larger peak does not shrink the sum": ("attention.cu", "out[i][e] *= shrink", "out[i][e] *= 1"),
    "a larger peak does not shrink the total": ("attention.cu", "total[i] *= shrink", "total[i] *= 1"),
    "∞ − ∞ where nothing is seen": ("attention.cu", "most == -INFINITY_F ? 0.0f : most", "most"),
    "0 / 0 where nothing is seen": ("attention.cu", "sum > 0 ? 1 / sum : 0.0f", "1 / sum"),
    "a row's sum over 8 of its 16 threads": ("attention.cu", "for (int d = SIDE / 2; d; d /= 2) x += ",
                                             "for (int d = SIDE / 4; d; d /= 2) x += "),
    "no barrier before the keys are overwritten": ("attention.cu",
                                                   "__syncthreads();                                                       "
                                                   "// the keys are used up", "// "),
    "no barrier after the loads of the backward": ("attention.cu", "        __syncthreads();\n        rows_by_rows<I, J, D>(p, q_tile, k_tile)",
                                                   "        rows_by_rows<I, J, D>(p, q_tile, k_tile)"),
    "no barrier between p and its use": ("attention.cu", "__syncwarp();                                                      "
                                         "// a row stays", "// "),
    "the scale is forgotten in ds": ("attention.cu", "dp = s * (dp - delta) * scale", "dp = s * (dp - delta)"),
    "delta is forgotten": ("attention.cu", "(dp - delta)", "dp"),
    "the wrong head of a group": ("attention.cu", "h, h / (H / K), z", "h, h % K, z"),
    "one head of a group is left out": ("attention.cu", "h < (kh + 1) * group", "h < kh * group + 1"),
    "the first tile of queries is not whole": ("attention.cu", "int t0 = first / N * N", "int t0 = first / N * N + N"),
    "rows past the end are read": ("attention.cu", "first + r < end && c < size ?", "c < size ?"),
    "channels past the end are written": ("attention.cu", "r < end && channel < size", "r < end"),
    "tensor cores: a larger peak shrinks nothing": ("attention_mma.cu", "out[r][j][2 * half + 1] *= shrink", "0"),
    "tensor cores: an edge tile taken for a whole one": ("attention_mma.cu", "s0 + N > z.seen(t1)", "s0 > z.seen(t1)"),
    "tensor cores: v is not transposed": ("attention_mma.cuh", "load_matrices<true>", "load_matrices<false>"),
    "tensor cores: a-fragments in the wrong order": ("attention_mma.cuh", "w[r][2 * s + e / 2][e % 2 * 2], w[r][2 * s + e / 2]",
                                                     "w[r][2 * s + e % 2][e / 2 * 2], w[r][2 * s + e % 2]"),
    "tensor cores: rows in shared memory as fragments, two swapped": (
        "attention_mma.cuh", "(r * STRIPE + lane % 16) * (D + PAD) + d * 16 + lane / 16 * 8",
        "(r * STRIPE + lane / 16 * 8 + lane % 8) * (D + PAD) + d * 16 + lane / 8 % 2 * 8"),
    "tensor cores: rows past the end are written": ("attention_mma.cuh", "if (t >= end) continue;", ""),
    "tensor cores: rows past the end are read": ("attention_mma.cuh", ", first + r < end);", ", true);"),
    **{f"tensor cores: {name}": ("attention_mma_backward.cu", right, wrong) for name, right, wrong in [
        ("the corner of the mask is lost for the keys", "z.seen(t0) < s1 + R * STRIPE", "z.seen(t0) < s1"),
        ("the mask's rows 8 to 15 taken for 0 to 7", "r * STRIPE + half * 8 >= below", "r * STRIPE >= below"),
        ("the corner of the mask is lost for the queries", "s0 + STEP > z.seen(t1)", "s0 > z.seen(t1)"),
        ("keys that a warp's last queries see are left out", "(t1 + R * STRIPE < z.T ? t1 + R * STRIPE : z.T) - 1", "t1"),
        ("queries that see some keys of a warp are left out", "z.seen(t0 + STEP - 1) <= s1", "z.seen(t0) <= s1"),
        ("the tile with the first query is left out", "start = first / N * N", "start = first / N * N + N"),
        ("the scale is forgotten in dk", "sum_k, z.scale", "sum_k, 1"),
        ("the scale is forgotten in dq", "sum, z.scale", "sum, 1"),
        ("delta is forgotten", "(dp - delta)", "dp"),
        ("∞ − ∞ where nothing is seen", "lse == -INFINITY_F ? INFINITY_F : lse * LOG2_E", "lse * LOG2_E"),
        ("one head of a group is left out", "i < tiles * group", "i < tiles"),
        ("the head after the group", "h = kh * group + i / tiles", "h = kh * group + (i + 1) / tiles"),
        ("the next tile overwrites this one", "half = i % 2 * N", "half = 0"),
        ("no barrier between tiles", "        wait_for_copies();\n        __syncthreads();", "        wait_for_copies();\n        //"),
        ("tiles are read before they have come", "        wait_for_copies();", "        "),
        ("dk and dv are swapped", "weigh_rows<D>(sum_v, p, dy_tiles", "weigh_rows<D>(sum_v, ds, dy_tiles"),
    ]},
}


def check_all(xp, file):
    storage, D = ("float16", 32) if "mma" in file else ("float32", 20)
    for case in CASES[:3]:
        check_attention(xp, storage, D=D, **case)
    for order in emulator.ORDERS:                                        # peaks grow from tile to tile
        check_attention(xp, storage, B=1, H=1, K=1, T=66, S=150, D=D, scale=1.0, order=order)


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANTED)
def test_planted_mistakes_are_seen(name, tmp_path):
    with planted(tmp_path, *PLANTED[name]), pytest.raises((AssertionError, emulator.KernelError)) as caught:
        check_all(np, PLANTED[name][0])
    assert "does not compile" not in str(caught.value)
