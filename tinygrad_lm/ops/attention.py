"""Each query takes a weighted mean of the values, the weights being how well it matches their keys
(Vaswani et al. 2017 [ATTN], eq. 1)."""
from ..backend import array_module
from .attention_kernels import Kept, attention_kernel_backward, attention_kernel_forward, fits_attention
from .softmax import softmax_of_seen


def attention_forward(q, k, v, *, mask=None, is_causal=False, key_lengths=None, scale=None):
    """y = softmax(scale · q kᵀ + mask) v.

    q (B, H, T, D), k and v (B, K, S, D) where K divides H: each key head serves H/K neighbouring query heads (grouped
    queries, Ainslie et al. 2023 [GQA]). The G = H/K query heads of a group are laid under one another as G·T rows.
    """
    if fits_attention(q, k, v, mask):
        return attention_kernel_forward(q, k, v, is_causal=is_causal, key_lengths=key_lengths, scale=scale)
    B, H, T, D = q.shape
    K, S = k.shape[1:3]
    q = q.reshape(B, K, H // K * T, D)                                   # (B, K, G·T, D)
    p = q @ k.swapaxes(-1, -2)                                           # (B, K, G·T, S)
    p *= scale
    p = softmax_of_seen(p.reshape(B, H, T, S), mask, is_causal, key_lengths).reshape(p.shape)
    return (p @ v).reshape(B, H, T, v.shape[-1]), (q, k, v, p, scale)


def attention_backward(dy, saved, needs):
    """dv = pᵀ dy;  dp = dy vᵀ,  ds = p (dp − Σ dp p);  dq = scale ds k,  dk = scale dsᵀ q"""
    if isinstance(saved, Kept):
        return attention_kernel_backward(dy, saved, needs)
    q, k, v, p, scale = saved
    B, K, GT, D = q.shape
    H, T = dy.shape[1:3]
    dy = dy.reshape(B, K, GT, v.shape[-1])
    dv = p.swapaxes(-1, -2) @ dy if needs[2] else None                   # the group's rows are summed in the product
    if not (needs[0] or needs[1]):
        return None, None, dv
    ds = dy @ v.swapaxes(-1, -2)                                         # (B, K, G·T, S)
    ds -= array_module(ds).einsum("...s,...s->...", ds, p)[..., None]
    ds *= p                                                              # what is masked has p = 0: no gradient
    ds *= scale
    dq = (ds @ k).reshape(B, H, T, D) if needs[0] else None
    dk = ds.swapaxes(-1, -2) @ q if needs[1] else None
    return dq, dk, dv
