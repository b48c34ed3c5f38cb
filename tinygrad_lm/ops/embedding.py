"""A token's number becomes its vector: a row of a table."""
import numpy as np

from ..backend import array_module
from ..kernels import fits_kernel, launch, storage


def embedding_forward(w, *, idx):                        # w (V, C), idx int (...)
    return w.take(idx, 0), (w.shape, idx)


def embedding_backward(dy, saved):
    """dw[v] = the sum of dy over the places where idx = v; always added in the same order, so always the same bits"""
    (V, C), idx = saved
    if fits_kernel(dy):
        return embedding_kernel_backward(dy, V, idx),
    xp = array_module(dy)
    idx, dy = idx.reshape(-1), dy.reshape(-1, C)
    if V <= 512 and len(idx):                            # a small table: onehotᵀ dy, a matrix product
        onehot = xp.zeros((V, len(idx)), dy.dtype)
        onehot[idx, xp.arange(len(idx))] = 1
        return onehot @ dy,
    dw = xp.zeros((V, C), dy.dtype)
    if len(idx):                                         # a large one: bring equal tokens together and sum each run
        order = xp.argsort(idx, kind="stable")
        tokens, starts = xp.unique(idx[order], return_index=True)
        dw[tokens] = xp.add.reduceat(dy[order], starts, axis=0)
    return dw,


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
