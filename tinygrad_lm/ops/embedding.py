"""A token's number becomes its vector: a row of a table."""
from ..backend import array_module


def embedding_forward(w, *, idx):                        # w (V, C), idx int (...)
    return w.take(idx, 0), (w.shape, idx)


def embedding_backward(dy, saved):
    """dw[v] = the sum of dy over the places where idx = v; always added in the same order, so always the same bits"""
    (V, C), idx = saved
    xp = array_module(dy)
    idx, dy = idx.reshape(-1), dy.reshape(-1, C)
    if V <= 128 and len(idx):                            # a small table: onehotᵀ dy, a matrix product
        onehot = xp.zeros((V, len(idx)), dy.dtype)
        onehot[idx, xp.arange(len(idx))] = 1
        return onehot @ dy,
    dw = xp.zeros((V, C), dy.dtype)
    if len(idx):                                         # a large one: bring equal tokens together and sum each run
        order = xp.argsort(idx, kind="stable")
        tokens, starts = xp.unique(idx[order], return_index=True)
        dw[tokens] = xp.add.reduceat(dy[order], starts, axis=0)
    return dw,
