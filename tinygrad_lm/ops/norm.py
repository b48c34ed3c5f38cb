"""Normalisation of each row to a common size: layer norm (Ba et al. 2016 [LN]) and RMS norm (Zhang and Sennrich 2019
[RMS])."""
from ..backend import array_module
from .reduce import column_sums, row_dots, row_sums


def layer_norm_forward(x, w, b=None, *, eps=1e-5):                  # x (..., C), w (C,), b (C,)
    """y = w x̂ + b with x̂ = (x − mean) / √(var + ε)"""
    normed = x - row_sums(x) / x.shape[-1]
    rstd = one_over_root(row_dots(normed, normed), eps, x.shape[-1])
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
    rstd = one_over_root(row_dots(x, x), eps, x.shape[-1])
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


def one_over_root(squares, eps, C):
    """1 / √(Σ/C + ε) = √(C / (Σ + C ε)), in place of Σ: (..., 1)"""
    xp = array_module(squares)
    squares += C * eps
    xp.divide(C, squares, out=squares)
    return xp.sqrt(squares, out=squares)
