"""How surprised the model is by the right answer: −log softmax(logits)[target], and its gradient p − onehot."""
from ..backend import array_module


def cross_entropy_forward(logits, *, targets, ignore_index=-100, reduction="mean", label_smoothing=0.0):
    """ℓ = −Σᵥ qᵥ log pᵥ with q = (1 − ε) onehot(target) + ε/V; 0 where the target is to be ignored.

    logits (N, V), targets int (N,). Label smoothing ε: Szegedy et al. 2016 [SMOOTH].
    """
    xp = array_module(logits)
    N, V = logits.shape
    kept = targets != ignore_index
    rows, picked = xp.arange(N), xp.where(kept, targets, 0)
    peak = logits.max(-1, keepdims=True)
    lse = xp.log(xp.exp(logits - peak).sum(-1, keepdims=True)) + peak            # (N, 1): log Σ exp
    loss = (lse[:, 0] - logits[rows, picked]) * (1 - label_smoothing)
    if label_smoothing:
        loss += label_smoothing * (lse[:, 0] - logits.mean(-1))
    loss = loss * kept
    count = int(kept.sum()) if reduction == "mean" else 1
    saved = logits, lse, picked, kept, count, label_smoothing                    # no second copy of the logits
    return (loss if reduction == "none" else loss.sum() / count), saved


def cross_entropy_backward(dy, saved):
    """dlogits = (p − q) dy; p is made again from the logits, which is cheaper than keeping it"""
    logits, lse, picked, kept, count, label_smoothing = saved
    xp = array_module(logits)
    N, V = logits.shape
    d = logits - lse
    xp.exp(d, out=d)
    if label_smoothing:
        d -= label_smoothing / V
    d[xp.arange(N), picked] -= 1 - label_smoothing
    d *= (dy * kept / count)[:, None].astype(d.dtype, copy=False)
    return d,
