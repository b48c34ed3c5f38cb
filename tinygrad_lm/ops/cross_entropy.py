"""How surprised the model is by the right answer: −log softmax(logits)[target], and its gradient p − onehot."""
from ..backend import array_module
from .reduce import row_sums


def cross_entropy_forward(logits, *, targets, ignore_index=-100, reduction="mean", label_smoothing=0.0):
    """ℓ = −Σᵥ qᵥ log pᵥ with q = (1 − ε) onehot(target) + ε/V; 0 where the target is to be ignored.

    logits (..., V), targets int (...). Label smoothing ε: Szegedy et al. 2016 [SMOOTH].
    """
    xp = array_module(logits)
    z, targets = logits.reshape(-1, logits.shape[-1]), targets.reshape(-1)       # (N, V), (N,)
    kept = targets != ignore_index
    rows, picked = xp.arange(len(z)), xp.where(kept, targets, 0)
    peak = z.max(-1, keepdims=True)
    e = z - peak
    xp.exp(e, out=e)
    lse = xp.log(row_sums(e)) + peak                                             # (N, 1): log Σ exp
    loss = (lse[:, 0] - z[rows, picked]) * (1 - label_smoothing)
    if label_smoothing:
        loss += label_smoothing * (lse[:, 0] - z.mean(-1))
    loss = loss * kept
    count = kept.sum(dtype="float32") if reduction == "mean" else 1              # no int(): a GPU would be waited for
    saved = logits, lse, rows, picked, kept, count, label_smoothing              # no second copy of the logits
    return (loss.reshape(logits.shape[:-1]) if reduction == "none" else loss.sum() / count), saved


def cross_entropy_backward(dy, saved):
    """dlogits = (p − q) dy; p is made again from the logits, which is cheaper than keeping it"""
    logits, lse, rows, picked, kept, count, label_smoothing = saved
    V = logits.shape[-1]
    d = logits.reshape(-1, V) - lse                                              # (N, V)
    array_module(d).exp(d, out=d)
    if label_smoothing:
        d -= label_smoothing / V
    d[rows, picked] -= 1 - label_smoothing
    d *= (dy.reshape(-1) * kept / count)[:, None].astype(d.dtype, copy=False)
    return d.reshape(logits.shape),
