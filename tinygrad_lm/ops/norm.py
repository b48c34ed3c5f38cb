"""Normalisation of each row to a common size: layer norm (Ba et al. 2016 [LN]) and RMS norm (Zhang and Sennrich 2019
[RMS])."""
from typing import Any, NamedTuple

import numpy as np

from ..backend import array_module
from ..kernels import fits_kernel, launch, storage
from .reduce import column_sums, row_dots, row_means
from .rows import dense, launch_rows, parts_of, sum_partials


def layer_norm_forward(x, w, b=None, *, eps=1e-5):                  # x (..., C), w (C,), b (C,)
    """y = w x̂ + b with x̂ = (x − mean) / √(var + ε)"""
    check_parameters(x, w, b)
    if fits_kernel(x) and x.dtype == w.dtype:
        return layer_norm_kernel_forward(x, w, b, eps=eps)
    normed, rstd = standardised(x.reshape(-1, x.shape[-1]), eps)    # (N, C), (N, 1)
    y = normed * w
    if b is not None:
        y += b
    return y.reshape(x.shape), (normed, rstd, w)


def layer_norm_backward(dy, saved, needs):
    """dx = (dx̂ − mean(dx̂) − x̂ mean(dx̂ x̂)) / √(var + ε) with dx̂ = dy w"""
    if isinstance(saved, Kept):
        return norm_kernel_backward(dy, saved, needs)
    normed, rstd, w = saved
    dx = dw = db = None
    dY = dy.reshape(normed.shape)
    g = dY * normed
    if needs[1]:
        dw = column_sums(g)
    if needs[2:] == (True,):
        db = column_sums(dY)
    if needs[0]:
        dx = dY * w
        mean = w[:, None] / len(w)                                  # (C, 1): mean(dx̂) = dY mean
        dx -= dY.dot(mean)
        dx -= array_module(dy).multiply(normed, g.dot(mean), out=g)
        dx *= rstd
        dx = dx.reshape(dy.shape)
    return (dx, dw, db)[:len(needs)]


def rms_norm_forward(x, w, *, eps=1e-6):                            # x (..., C), w (C,)
    """y = w x̂ with x̂ = x / √(mean(x²) + ε)"""
    check_parameters(x, w)
    if fits_kernel(x) and x.dtype == w.dtype:
        return rms_norm_kernel_forward(x, w, eps=eps)
    normed, rstd = scaled(x, eps)
    return normed * w, (normed, rstd, w)


def rms_norm_backward(dy, saved, needs):
    """dx = (dx̂ − x̂ mean(dx̂ x̂)) / √(mean(x²) + ε) with dx̂ = dy w"""
    if isinstance(saved, Kept):
        return norm_kernel_backward(dy, saved, needs)
    normed, rstd, w = saved
    C = normed.shape[-1]
    dx = dw = None
    if needs[0]:
        dx = dy * w
        dx -= normed * (row_dots(dx, normed) / C)
        dx *= rstd
    if needs[1]:
        dw = column_sums(dy * normed)
    return dx, dw


def check_parameters(x, w, b=None):
    """Refuse parameters that are not of x's last axis; some others would broadcast."""
    shape = x.shape[-1:]
    if w.shape != shape or b is not None and b.shape != shape:
        wrong = b if w.shape == shape else w
        raise ValueError(f"x of shape {x.shape} takes parameters of shape {shape}, not {wrong.shape}")


def standardised(x, eps):
    """Each row with mean 0 and variance 1, x̂, and 1 / √(var + ε): (N, C) -> (N, C), (N, 1)"""
    normed = x - row_means(x)
    rstd = one_over_root(row_dots(normed, normed), eps, x.shape[-1])
    normed *= rstd
    return normed, rstd


def scaled(x, eps):
    """Each row with mean square 1, x̂, and 1 / √(mean(x²) + ε): (..., C) -> (..., C), (..., 1)"""
    rstd = one_over_root(row_dots(x, x), eps, x.shape[-1])
    return x * rstd, rstd


def one_over_root(squares, eps, C):
    """1 / √(Σ/C + ε) = √(C / (Σ + C ε)), in place of Σ: (..., 1)"""
    xp = array_module(squares)
    squares += C * eps
    xp.divide(C, squares, out=squares)
    return xp.sqrt(squares, out=squares)


# ---- norm.cu: for arrays of the GPU, and for NumPy's on the emulator -------------------------------------------------


class Kept(NamedTuple):
    """What the kernels' backward needs: x̂ is made again from it."""
    x: Any                                                          # (..., C)
    w: Any                                                          # (C,)
    mean: Any                                                       # (rows,) float32, None for RMS norm
    rstd: Any                                                       # (rows,) float32


def layer_norm_kernel_forward(x, w, b=None, *, eps=1e-5):
    return _kernel_forward(x, w, b, eps, centred=True)


def rms_norm_kernel_forward(x, w, *, eps=1e-6):
    return _kernel_forward(x, w, None, eps, centred=False)


def _kernel_forward(x, w, b, eps, *, centred):
    xp = array_module(x)
    x, w = dense(x), dense(w, like=x)
    rows, C = x.size // max(x.shape[-1], 1), x.shape[-1]
    y, rstd = xp.empty_like(x), xp.empty((rows,), np.float32)
    mean = xp.empty((rows if centred else 1,), np.float32)          # RMS norm leaves it unwritten
    launch_rows("norm.cu", "norm_forward",
                (x, w, w if b is None else dense(b, like=x), y, mean, rstd, np.float32(eps)),
                (rows, C), options=(_flag(centred), _flag(b is not None)))
    return y, Kept(x, w, mean if centred else None, rstd)


def norm_kernel_backward(dy, saved, needs):
    """(dx, dw, db) of layer norm, (dx, dw) of RMS norm; None for what `needs` does not ask for."""
    x, w, mean, rstd = saved
    xp = array_module(x)
    centred, rows, C = mean is not None, len(rstd), x.shape[-1]
    mean = mean if centred else rstd                                # a kernel's argument must be something
    dy = dense(dy, like=x)
    grads = [None] * len(needs)
    if needs[0]:
        grads[0] = xp.empty_like(x)
        launch_rows("norm.cu", "norm_backward_x", (dy, x, w, mean, rstd, grads[0]), (rows, C), options=(_flag(centred),))
    if any(needs[1:]):
        bias = needs[2:] == (True,)
        P = parts_of(rows)
        dw = xp.zeros((P, C), np.float32)
        db = xp.zeros((P, C), np.float32) if bias else xp.zeros((1, 1), np.float32)
        if rows * C:
            launch("norm.cu", f"norm_backward_w<{storage(x)}, {_flag(centred)}, {_flag(bias)}>", (-(-C // 32), P),
                   (32, 8), (dy, x, mean, rstd, dw, db, np.int32(rows), np.int32(C)))
        if needs[1]:
            grads[1] = sum_partials("norm.cu", dw, w)
        if bias:
            grads[2] = sum_partials("norm.cu", db, w)
    return tuple(grads)


def _flag(b):
    return "true" if b else "false"
