"""Launching the attention kernels of attention.cu and attention_mma*.cu: which tile, which grid, which arithmetic."""
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from ..backend import array_module
from ..kernels import fits_kernel, launch, storage

# Rows that a block owns, and rows that it walks over at a time, by the head size that a tile has room for: what stays
# below 64 KiB of shared memory.
FORWARD = {16: (64, 64), 32: (64, 64), 64: (64, 64), 128: (64, 32)}
BACKWARD = {16: (64, 32), 32: (64, 32), 64: (64, 32), 128: (32, 16)}
# On tensor cores, forward and backward: stripes of 16 rows a warp, rows at a time; what stays in 255 registers a thread.
MMA = {D: (2 if D <= 64 else 1, 64 if D <= 32 else 32) for D in range(16, 129, 16)}
PAD, THREADS = 4, 256
MMA_PAD, MMA_WARPS = 8, 4


class Kept(NamedTuple):
    """What the kernels' backward needs; of the weights, only log Σ exp of each row."""
    q: Any
    k: Any
    v: Any
    y: Any
    lse: Any                                                             # (B, H, T) float32
    lengths: Any
    is_causal: bool
    scale: float


def fits_attention(q, k, v, mask):
    """Whether the kernels can do it: on a device, no mask but causal and key lengths, head sizes alike and at most 128.
    A single query, as in decoding, would leave 63 of a tile's 64 rows idle, and its scores are few."""
    return mask is None and fits_kernel(q) and q.shape[2] > 1 and q.dtype == k.dtype == v.dtype and k.shape == v.shape \
        and q.shape[-1] <= 128 and 0 not in q.shape + k.shape


def fits_qkv_attention(qkv, n_head):
    return fits_kernel(qkv) and qkv.shape[2] // (3 * n_head) <= 128 and qkv.size > 0


# ---- q (B, H, T, D), k and v (B, K, S, D) -----------------------------------------------------------------------------

def attention_kernel_forward(q, k, v, *, is_causal=False, key_lengths=None, scale=None, tensor_cores=True):
    """y = softmax(scale · q kᵀ) v, and what attention_kernel_backward needs."""
    xp = array_module(q)
    q, k, v = (xp.ascontiguousarray(x) for x in (q, k, v))
    B, H, T, D = q.shape
    K, S = k.shape[1:3]
    lengths = xp.full(B, S, np.int32) if key_lengths is None else xp.ascontiguousarray(xp.asarray(key_lengths), np.int32)
    y, lse = xp.empty_like(q), xp.empty((B, H, T), np.float32)
    tensor_cores &= scale > 0                                            # there, a score of −∞ is scaled after it is masked
    _launch("attention_forward", q, D, (T, H, B), (q, k, v, lengths, y, lse), (H, K, T, S),
            (np.int32(is_causal), np.float32(scale)), tensor_cores)
    return y, Kept(q, k, v, y, lse, lengths, is_causal, scale)


def attention_kernel_backward(dy, kept, needs=(True, True, True), *, tensor_cores=True):
    """(dq, dk, dv), None for what is not needed."""
    q, k, v, y, lse, lengths, is_causal, scale = kept
    xp = array_module(q)
    dy = xp.ascontiguousarray(dy, q.dtype)
    B, H, T, D = q.shape
    K, S = k.shape[1:3]
    delta = _delta(dy, y, B * H * T, 1, B * H * T, D).reshape(B, H, T)
    tensor_cores &= scale > 0                                            # as in the forward
    given, numbers = (q, k, v, lengths, dy, lse, delta), ((H, K, T, S), (np.int32(is_causal), np.float32(scale)))
    dq = dk = dv = None
    if needs[0]:
        dq = xp.empty_like(q)
        _launch("attention_query_gradients", q, D, (T, H, B), (*given, dq), *numbers, tensor_cores)
    if needs[1] or needs[2]:
        dk, dv = xp.empty_like(k), xp.empty_like(v)
        _launch("attention_key_gradients", q, D, (S, K, B), (*given, dk, dv), *numbers, tensor_cores)
    return dq, dk if needs[1] else None, dv if needs[2] else None


# ---- qkv (B, T, 3C), where a linear layer left it: nothing is copied apart -------------------------------------------

def qkv_attention_kernel_forward(qkv, n_head, *, tensor_cores=True):
    """Causal self-attention -> (B, T, C), and what qkv_attention_kernel_backward needs."""
    xp = array_module(qkv)
    qkv = xp.ascontiguousarray(qkv)
    B, T, H, D = *qkv.shape[:2], n_head, qkv.shape[2] // (3 * n_head)
    y, lse = xp.empty((B, T, H * D), qkv.dtype), xp.empty((B, H, T), np.float32)
    _launch("qkv_attention_forward", qkv, D, (T, H, B), (qkv, y, lse), (H, T), (np.float32(D ** -0.5),), tensor_cores)
    return y, (qkv, y, lse, n_head)


def qkv_attention_kernel_backward(dy, saved, *, tensor_cores=True):
    qkv, y, lse, H = saved
    xp = array_module(qkv)
    dy = xp.ascontiguousarray(dy, qkv.dtype)
    B, T, C = dy.shape
    D = C // H
    delta, dqkv = _delta(dy, y, B * T * H, H, T, D), xp.empty_like(qkv)
    for name in ("qkv_attention_query_gradients", "qkv_attention_key_gradients"):      # the third of q, and those of k and v
        _launch(name, qkv, D, (T, H, B), (qkv, dy, lse, delta, dqkv), (H, T), (np.float32(D ** -0.5),), tensor_cores)
    return dqkv,


# ---- choices ----------------------------------------------------------------------------------------------------------

def has_tensor_cores(x, D):
    """Two-byte storage, a head size that the fragments divide, and a card of the generation sm_80 or later."""
    return x.dtype in (np.float16, np.uint16) and D in MMA and (array_module(x) is np or _generation(array_module(x)) >= 80)


@cache
def _generation(xp):
    return int(xp.cuda.Device().compute_capability)


def _launch(name, x, D, grid, arrays, sizes, options, tensor_cores):
    """Kernel `name`, on tensor cores where they fit and are wanted. grid: (rows that blocks own, heads, sequences)."""
    forward, (rows, heads, B) = name.endswith("forward"), grid
    if tensor_cores and has_tensor_cores(x, D):
        R, N = MMA[D]
        owned, keys = 16 * R * MMA_WARPS, name.endswith("key_gradients")
        shared = 2 * (D + MMA_PAD) * (4 * N + keys * owned) + keys * 4 * 4 * N     # 2 tiles and the next 2; v; lse and delta
        launch("attention_mma.cu" if forward else "attention_mma_backward.cu", f"{name}_mma<{storage(x)}, {D}, {R}, {N}>",
               (-(-rows // owned), heads, B), 32 * MMA_WARPS, (*arrays, *_ints(*sizes), *options), shared=shared)
    else:
        tiles = FORWARD if forward else BACKWARD
        room = min(size for size in tiles if size >= D)                  # the smallest tile with room for D channels
        M, N = tiles[room]
        tall = 1 if forward else 2                                       # q alone, keys and values in turn; or two and two
        floats = tall * (M + N) * (room + PAD) + M * (N + PAD)
        launch("attention.cu", f"{name}<{storage(x)}, {room}, {M}, {N}>", (-(-rows // M), heads, B), THREADS,
               (*arrays, *_ints(*sizes, D), *options), shared=4 * floats)


def _delta(dy, y, rows, H, T, D):
    """Σ dy y of each row, (B, T, H) -> (B, H, T)"""
    delta = array_module(y).empty(rows, np.float32)
    launch("attention.cu", f"attention_delta<{storage(y)}>", -(-rows // 8), THREADS, (dy, y, delta, *_ints(rows, H, T, D)))
    return delta


def _ints(*numbers):
    return tuple(np.int32(n) for n in numbers)
