"""Normalisation of each row to a common size: layer norm (Ba et al. 2016 [LN]) and RMS norm (Zhang and Sennrich 2019
[RMS])."""
from ..backend import array_module


def row_dots(a, b):
    """Σᵢ aᵢ bᵢ of each row, in one pass: (..., C) and (..., C) -> (..., 1)"""
    return array_module(a).vecdot(a, b)[..., None]


def row_sums(x):
    """Σᵢ xᵢ of each row, as a product with ones, which BLAS does several times faster: (..., C) -> (..., 1)"""
    return x @ array_module(x).ones((x.shape[-1], 1), x.dtype)


def column_sums(x):
    """Σ over all rows: (..., C) -> (C,)"""
    x = x.reshape(-1, x.shape[-1])
    return array_module(x).ones(len(x), x.dtype) @ x


def layer_norm_forward(x, w, b=None, *, eps=1e-5):                  # x (..., C), w (C,), b (C,)
    """y = w x̂ + b with x̂ = (x − mean) / √(var + ε)"""
    C = x.shape[-1]
    normed = x - row_sums(x) / C
    rstd = (row_dots(normed, normed) / C + eps) ** -0.5             # (..., 1)
    normed *= rstd
    y = normed * w
    if b is not None:
        y += b
    return y, (normed, rstd, w)


def layer_norm_backward(dy, saved, needs):
    """dx = (dx̂ − mean(dx̂) − x̂ mean(dx̂ x̂)) / √(var + ε) with dx̂ = dy w"""
    normed, rstd, w = saved
    C = normed.shape[-1]
    dx = dw = db = None
    if needs[0]:
        dx = dy * w
        inner = row_dots(dx, normed) / C
        dx -= row_sums(dx) / C
        dx -= normed * inner
        dx *= rstd
    if needs[1]:
        dw = column_sums(dy * normed)
    if needs[2:] == (True,):
        db = column_sums(dy)
    return (dx, dw, db)[:len(needs)]


def rms_norm_forward(x, w, *, eps=1e-6):                            # x (..., C), w (C,)
    """y = w x̂ with x̂ = x / √(mean(x²) + ε)"""
    rstd = (row_dots(x, x) / x.shape[-1] + eps) ** -0.5             # (..., 1)
    normed = x * rstd
    return normed * w, (normed, rstd, w)


def rms_norm_backward(dy, saved, needs):
    """dx = (dx̂ − x̂ mean(dx̂ x̂)) / √(mean(x²) + ε) with dx̂ = dy w"""
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
