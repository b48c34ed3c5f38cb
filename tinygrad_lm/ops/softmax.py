"""Scores become probabilities, along one axis."""
import numpy as np

from ..backend import array_module
from ..kernels import fits_kernel
from .rows import dense, launch_rows


def softmax_forward(x, *, axis=-1):                          # x (..., V)
    """yᵢ = exp(xᵢ) / Σⱼ exp(xⱼ)"""
    if fits_kernel(x) and is_last(axis, x):
        return softmax_kernel_forward(x)
    xp = array_module(x)
    y = x - x.max(axis, keepdims=True)                       # the shift cancels; exp cannot overflow
    xp.exp(y, out=y)
    y /= y.sum(axis, keepdims=True)
    return y, (y, axis)


def softmax_backward(dy, saved):
    """dxᵢ = yᵢ (dyᵢ − Σⱼ dyⱼ yⱼ)"""
    y, axis = saved
    if fits_kernel(y) and is_last(axis, y):
        return softmax_kernel_backward(dy, saved)
    return y * (dy - (dy * y).sum(axis, keepdims=True)),


def log_softmax_forward(x, *, axis=-1):
    """yᵢ = xᵢ − log Σⱼ exp(xⱼ)"""
    if fits_kernel(x) and is_last(axis, x):
        return log_softmax_kernel_forward(x)
    xp = array_module(x)
    y = x - x.max(axis, keepdims=True)
    y -= xp.log(xp.exp(y).sum(axis, keepdims=True))
    return y, (y, axis)


def log_softmax_backward(dy, saved):
    """dxᵢ = dyᵢ − exp(yᵢ) Σⱼ dyⱼ"""
    y, axis = saved
    if fits_kernel(y) and is_last(axis, y):
        return log_softmax_kernel_backward(dy, saved)
    return dy - array_module(y).exp(y) * dy.sum(axis, keepdims=True),


def masked_softmax_forward(x, *, mask=None, is_causal=False, key_lengths=None):             # x (..., T, S)
    """Softmax of each row over what it may see, 0 elsewhere; a row that may see nothing is all 0, not NaN.

    mask: boolean, True where a query may see a key, broadcast against x; what it hides may hold anything. is_causal: the
    last query sees the last key, each one before it one key less. key_lengths (B,): keys beyond are padding, x being
    (B, H, T, S).
    """
    if fits_kernel(x):
        return masked_softmax_kernel_forward(x, mask=mask, is_causal=is_causal, key_lengths=key_lengths)
    y = softmax_of_seen(x.copy(), mask, is_causal, key_lengths)
    return y, (y, -1)


masked_softmax_backward = softmax_backward                   # where y is 0, dx is 0


def softmax_of_seen(scores, mask, is_causal, key_lengths):
    """Attention's weights of its scores (B, H, T, S), in their place on NumPy: masked_softmax_forward, where a mask may
    also be of numbers, to be added."""
    if fits_kernel(scores):
        return softmax_of_seen_kernel(scores, mask, is_causal, key_lengths)
    mask_scores(scores, mask, is_causal, key_lengths)
    softmax_or_zero(scores)
    return scores


def mask_scores(scores, mask, is_causal, key_lengths):
    """Set to −∞, in place, what a query may not see. scores (B, H, T, S), or of any axes where only a mask hides"""
    xp, S = array_module(scores), scores.shape[-1]
    if mask is not None and mask.dtype == bool:                          # True: may see
        xp.copyto(scores, -xp.inf, where=~mask)
    elif mask is not None:
        scores += mask.astype(scores.dtype, copy=False)
    if is_causal:                                                        # the last query sees the last key
        T = scores.shape[-2]
        xp.copyto(scores, -xp.inf, where=xp.arange(S) > xp.arange(T)[:, None] + (S - T))
    if key_lengths is not None:
        xp.copyto(scores, -xp.inf, where=xp.arange(S) >= key_lengths[:, None, None, None])


def softmax_or_zero(p):
    """Softmax of each row in place; a row of −∞ alone (nothing may be seen) becomes zeros, not NaN."""
    xp = array_module(p)
    if p.shape[-1] == 0:                                                 # no key at all
        return
    peak = p.max(-1, keepdims=True)
    p -= xp.where(peak == -xp.inf, 0, peak)
    xp.exp(p, out=p)
    total = p.sum(-1, keepdims=True)
    p /= xp.where(total == 0, 1, total)


# ---- softmax.cu, on rows of the last axis: for arrays of the GPU, and for NumPy's on the emulator -------------------


def is_last(axis, x):
    return x.ndim > 0 and axis in (-1, x.ndim - 1)


def softmax_kernel_forward(x):
    return _forward("softmax_forward", x)


def softmax_kernel_backward(dy, saved):
    return _backward("softmax_backward", dy, saved)


def log_softmax_kernel_forward(x):
    return _forward("log_softmax_forward", x)


def log_softmax_kernel_backward(dy, saved):
    return _backward("log_softmax_backward", dy, saved)


def masked_softmax_kernel_forward(x, *, mask=None, is_causal=False, key_lengths=None):      # x (..., T, S)
    xp = array_module(x)
    x = dense(x)
    y = xp.empty_like(x)
    T, S = x.shape[-2:] if x.ndim > 1 else (1, *x.shape)
    rows = x.size // max(S, 1)
    mask, mask_rows = _rows_of_mask(xp, mask, x.shape)
    lengths = xp.zeros(1, np.int32) if key_lengths is None else xp.ascontiguousarray(key_lengths, dtype=np.int32)
    numbers = (mask_rows, 0 if key_lengths is None else rows // max(len(lengths), 1), is_causal, T)
    launch_rows("softmax.cu", "masked_softmax_forward", (x, y, mask, lengths, *map(np.int32, numbers)), (rows, S))
    return y, (y, -1)


def softmax_of_seen_kernel(scores, mask, is_causal, key_lengths):
    if mask is not None and mask.dtype != bool:
        scores += mask.astype(scores.dtype, copy=False)
        mask = None
    return masked_softmax_kernel_forward(scores, mask=mask, is_causal=is_causal, key_lengths=key_lengths)[0]


def _rows_of_mask(xp, mask, shape):
    """(bytes (M, S), M): row r of x (B·H·T, S) takes row r % M. A mask for all heads and sequences is not repeated."""
    if mask is None:
        return xp.zeros((1, 1), np.uint8), 0
    if mask.dtype != bool:
        raise TypeError(f"the mask is {mask.dtype}, a boolean one is needed, True where a query may see a key: "
                        "add numbers to the scores instead")
    while mask.ndim and mask.shape[0] == 1:
        mask = mask[0]
    mask = xp.ascontiguousarray(xp.broadcast_to(mask, shape[-max(mask.ndim, 2):]))
    return mask.view(np.uint8), mask.size // max(shape[-1], 1)


def _forward(kernel, x):
    x = dense(x)
    y = array_module(x).empty_like(x)
    launch_rows("softmax.cu", kernel, (x, y), (x.size // max(x.shape[-1], 1), x.shape[-1]))
    return y, (y, -1)


def _backward(kernel, dy, saved):
    y, _ = saved
    dy = dense(dy, like=y)
    dx = array_module(y).empty_like(y)
    launch_rows("softmax.cu", kernel, (dy, y, dx), (y.size // max(y.shape[-1], 1), y.shape[-1]))
    return dx,
