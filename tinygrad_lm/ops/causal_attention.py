"""Causal self-attention of a transformer block, in tiles that fit the cache, keeping no T×T matrix but a small one.

The idea is FlashAttention's (Dao et al. 2022 [FLASH]): of the softmax only log Σ exp of each row is kept, and the backward
makes the weights of a tile again; of what the causal mask throws away, only the corners of tiles are computed. The weights
of few tokens are kept: they take less memory than what the block's linear layers keep, and are dear to make.
"""
from functools import cache, lru_cache
from itertools import zip_longest

from ..backend import array_module
from .attention_kernels import fits_qkv_attention, qkv_attention_kernel_backward, qkv_attention_kernel_forward
from .reduce import row_dots

QUERIES = 32, 64                    # a tile: so many queries (forward, backward), with all the keys that they may see,
SCORES = 1 << 18                    # of so many sequences that it has about this many scores
FEW = 64                            # tokens whose weights are kept


def qkv_attention_forward(qkv, *, n_head):
    """qkv (B, T, 3C) holds query, key and value side by side, as one linear layer makes them -> (B, T, C)."""
    if fits_qkv_attention(qkv, n_head):
        return qkv_attention_kernel_forward(qkv, n_head)
    xp = array_module(qkv)
    B, T, C = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
    q, k, v = heads(qkv, 3, n_head)                                     # views (B, H, T, D)
    q = q * (C // n_head) ** -0.5
    y, lse = xp.empty((B, T, C), qkv.dtype), None if T <= FEW else xp.empty((B, n_head, T, 1), qkv.dtype)
    out, = heads(y, 1, n_head)
    kept = []
    for b, t, past in tiles(B, T, n_head, QUERIES[0], SCORES):
        p = masked_scores(q[b, :, t], k[b, :, past], keys_first=True)   # (b, H, t, past)
        peak = p.max(-1, keepdims=True)
        p -= peak
        xp.exp(p, out=p)
        total = p.sum(-1, keepdims=True)
        if T <= FEW:
            p /= total
            kept.append(p)
            xp.matmul(p, v[b, :, past], out=out[b, :, t])
        else:
            lse[b, :, t] = xp.log(total) + peak
            xp.divide(p @ v[b, :, past], total, out=out[b, :, t])
    return y, (qkv, y, lse, n_head, *kept)


def qkv_attention_backward(dy, saved):
    """p = exp(s − lse);  dv = pᵀ dy;  ds = p (dy vᵀ − Σ dy y);  dq = scale ds k,  dk = scale dsᵀ q

    Σ dy y over the channels of a head is Σ dp p over the keys ([FLASH], sec. 3.2), and shorter.
    """
    qkv, y, lse, n_head, *kept = saved
    if fits_qkv_attention(qkv, n_head):
        return qkv_attention_kernel_backward(dy, saved)
    xp = array_module(dy)
    B, T, C = dy.shape
    scale = (C // n_head) ** -0.5
    dqkv = xp.empty_like(qkv)
    (q, k, v), (dq, dk, dv) = heads(qkv, 3, n_head), heads(dqkv, 3, n_head)
    dy, y = heads(dy, 1, n_head)[0], heads(y, 1, n_head)[0]
    scaled = dy * scale
    scaled_y = xp.ascontiguousarray(row_dots(scaled, y))                # which lay as dy does, a head's numbers far apart
    for (b, t, past), p in zip_longest(tiles(B, T, n_head, QUERIES[0 if kept else 1], SCORES), kept):
        if p is None:
            p = masked_scores(q[b, :, t] * scale, k[b, :, past])
            p -= lse[b, :, t]
            xp.exp(p, out=p)
        ds = products(scaled[b, :, t], v[b, :, past], keys_first=bool(kept))
        ds -= scaled_y[b, :, t]
        ds *= p
        xp.matmul(ds, k[b, :, past], out=dq[b, :, t])
        for d, weights, rows in ((dk, ds, q[b, :, t]), (dv, p, dy[b, :, t])):
            if past.stop == T:                                          # the first tile that these sequences meet
                xp.matmul(weights.swapaxes(-1, -2), rows, out=d[b])
            else:
                seen = d[b, :, past]                                    # a view: d[…] += … would copy it onto itself as well
                seen += weights.swapaxes(-1, -2) @ rows
    return dqkv,


def heads(x, parts, n_head):
    """(B, T, parts · H · D) as `parts` views (B, H, T, D), one or three"""
    B, T, width = x.shape
    x = x.reshape(B, T, parts, n_head, width // (parts * n_head)).transpose(2, 0, 3, 1, 4)
    return (x[0],) if parts == 1 else (x[0], x[1], x[2])


@lru_cache(maxsize=64)
def tiles(B, T, n_head, queries, scores):
    """Slices (sequences, queries, the keys that these may see), the last queries first: they see every key."""
    found = []
    for t in reversed(range(0, T, queries)):
        end = min(t + queries, T)
        size = max(1, scores // (n_head * (end - t) * end))
        found += [(slice(b, b + size), slice(t, end), slice(0, end)) for b in range(0, B, size)]
    return found


def products(q, k, *, keys_first):
    """q kᵀ: (b, H, t, D) and (b, H, S, D) -> (b, H, t, S)

    keys_first: it lies in memory as (S, b, H, t), so that a maximum or sum over the keys is one of long rows.
    """
    xp = array_module(q)
    b, H, t, S = *q.shape[:3], k.shape[2]
    s = xp.empty((S, b, H, t), q.dtype).transpose(1, 2, 3, 0) if keys_first else xp.empty((b, H, t, S), q.dtype)
    return xp.matmul(q, k.swapaxes(-1, -2), out=s)


def masked_scores(q, k, *, keys_first=False):
    """q kᵀ, as in `products`, with −∞ where a key comes after its query; the last query sees the last key."""
    s, t = products(q, k, keys_first=keys_first), q.shape[2]
    corner = s[..., -t:]                                                # only there is a future
    corner += future(array_module(q), t, s.dtype, "F" if keys_first else "C")
    return s


@cache
def future(xp, t, dtype, order):
    """−∞ above the diagonal, 0 elsewhere: (t, t), its rows ("C") or its columns ("F") lying together in memory"""
    all_hidden = xp.full((t, t), -xp.inf, dtype)
    return xp.triu(all_hidden, 1) if order == "C" else xp.tril(all_hidden, -1).T
