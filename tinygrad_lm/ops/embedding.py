"""A token's number becomes its vector: a row of a table."""
import numpy as np

from ..backend import array_module
from ..kernels import fits_kernel, launch, storage
from .reduce import column_sums

ONEHOT = 1 << 15                    # numbers in a one-hot table beyond which sorting is faster


def embedding_forward(w, *, idx):                        # w (V, C), idx int (...)
    return w.take(idx, 0), (w.shape, idx)


def embedding_backward(dy, saved):
    """dw[v] = the sum of dy over the places where idx = v; always added in the same order, so always the same bits"""
    (V, C), idx = saved
    if fits_kernel(dy):
        return embedding_kernel_backward(dy, V, idx),
    xp = array_module(dy)
    idx, dy = idx.reshape(-1), dy.reshape(-1, C)
    N = len(idx)
    if V * N <= ONEHOT:                                  # few: onehotᵀ dy, a matrix product
        onehot = xp.zeros((V, N), dy.dtype)
        onehot[idx, xp.arange(N)] = 1
        return onehot.dot(dy),
    order = xp.argsort(idx, kind="stable")               # many: bring equal tokens together and sum each run
    idx, dy = idx[order], dy[order]
    ends = [*(xp.flatnonzero(xp.diff(idx)) + 1).tolist(), N]
    dw, ones = xp.zeros((V, C), dy.dtype), xp.ones(N, dy.dtype)
    for start, end in zip([0, *ends], ends):
        dw[idx[start]] = ones[start:end].dot(dy[start:end])
    return dw,


def placed_embedding_forward(w, p, *, idx, start=0):     # w (V, C), p (P, C), idx int (B, T)
    """y = w[idx] + p[start …]: each token's vector, and that of its place"""
    y = w.take(idx, 0)                                   # (B, T, C)
    y += p[start:start + idx.shape[1]]
    return y, (w.shape, idx, p.shape, start)


def placed_embedding_backward(dy, saved, needs):
    table, idx, places, start = saved
    dw, = embedding_backward(dy, (table, idx)) if needs[0] else (None,)
    if not needs[1]:
        return dw, None
    B, T, C = dy.shape
    seen = column_sums(dy.reshape(B, T * C)).reshape(T, C)               # of every place, over the batch
    if places == seen.shape:
        return dw, seen
    dp = array_module(dy).zeros(places, dy.dtype)
    dp[start:start + T] = seen
    return dw, dp


# ---- on the GPU: embedding.cu -----------------------------------------------------------------------------------------

def embedding_kernel_backward(dy, V, idx):               # dy (..., C), idx int (...) -> (V, C)
    xp, C = array_module(dy), dy.shape[-1]
    dy, idx = xp.ascontiguousarray(dy), idx.reshape(-1)
    order = xp.argsort(idx, kind="stable")               # equal tokens together, each in the order of their places
    dw = xp.zeros((V, C), dy.dtype)
    if dy.size:
        launch("embedding.cu", f"embedding_backward<{storage(dy)}>", (len(idx), -(-C // 32)), (32, 8),
               (dy, order.astype(np.int32), idx[order].astype(np.int32), dw, np.int32(len(idx)), np.int32(C)))
    return dw
