"""Every differentiable function on tensors, one line each where the mathematics in ops/ says it all.

Inputs are tensors, arrays or numbers; results are tensors. Names and meanings are PyTorch's where it has one; axes are
called `axis` and `keepdims` as in NumPy, and options are given by name.
"""
import operator

import numpy as np

from .backend import DEVICES, array_module, beside, capturing, check_one_device, cuda_loaded, device_of
from .ops import activation, attention, block, causal_attention as causal, cross_entropy as ce, dropout as drop
from .ops import elementwise as ew, embedding as emb
from .ops import erf as erf_, index as ix, matmul as mm, norm, reduce as rd, rotary as rot, shape as sh, softmax as sm
from .modes import check_replayed
from .recompute import checkpoint  # noqa: F401 (public as functional.checkpoint)
from .tensor import Tensor, op

# ---- one number in, one number out; two inputs are broadcast --------------------------------------------------------

add = op(ew.add_forward, ew.add_backward)
sub = op(ew.sub_forward, ew.sub_backward)
mul = op(ew.mul_forward, ew.mul_backward)
div = op(ew.div_forward, ew.div_backward)
neg = op(ew.neg_forward, ew.neg_backward)
pow = op(ew.power_forward, ew.power_backward)
exp = op(ew.exp_forward, ew.exp_backward)
log = op(ew.log_forward, ew.log_backward)
sqrt = op(ew.sqrt_forward, ew.sqrt_backward)
tanh = op(ew.tanh_forward, ew.tanh_backward)
sigmoid = op(ew.sigmoid_forward, ew.sigmoid_backward)
erf = op(erf_.erf_forward, erf_.erf_backward)
sin = op(ew.sin_forward, ew.sin_backward)
cos = op(ew.cos_forward, ew.cos_backward)
abs = op(ew.abs_forward, ew.abs_backward)
maximum = op(ew.maximum_forward, ew.extremum_backward)
minimum = op(ew.minimum_forward, ew.extremum_backward)
relu = op(activation.relu_forward, activation.relu_backward)
silu = op(activation.silu_forward, activation.silu_backward)
logsigmoid = op(activation.logsigmoid_forward, activation.logsigmoid_backward)
_gelu = op(activation.gelu_forward, activation.gelu_backward)
_gelu_tanh = op(activation.gelu_tanh_forward, activation.gelu_tanh_backward)
_clip = op(ew.clip_forward, ew.clip_backward)
_where = op(ew.where_forward, ew.where_backward)
_masked_fill = op(ew.masked_fill_forward, ew.masked_fill_backward)
_astype = op(ew.astype_forward, ew.astype_backward)


def gelu(x, *, approximate="none"):
    """x Φ(x), exactly ("none", with erf) or as GPT-2 has it ("tanh")."""
    if approximate not in ("none", "tanh"):
        raise ValueError(f'gelu\'s approximate is "none" or "tanh", not {approximate!r}')
    return _gelu_tanh(x) if approximate == "tanh" else _gelu(x)


def clip(x, low=None, high=None):
    """min(max(x, low), high); either bound may be None. The gradient is 1 on the bounds, too."""
    return _clip(x, low=low, high=high)


def where(condition, a, b):
    """a where the boolean `condition` holds, else b."""
    return _where(a, b, condition=raw(condition))


def masked_fill(x, mask, value):
    """x, with the number `value` where the boolean `mask` holds."""
    return _masked_fill(x, mask=raw(mask), value=value)


def astype(x, dtype):
    """x in another floating-point type; the gradient comes back in x's."""
    return _astype(x, dtype=np.dtype(dtype))


_move = op(sh.move_forward, sh.move_backward)


def to(x, where):
    """x on the device "cpu" or "cuda", or in the floating-point type `where`; x itself where it is so already. The
    gradient comes back to x's device and type."""
    if isinstance(where, str) and where.partition(":")[0] in DEVICES:
        return x if device_of(raw(x)) == where else _move(x, device=where)
    return x if raw(x).dtype == np.dtype(where) else astype(x, where)


# ---- many numbers become one ----------------------------------------------------------------------------------------

_sum = op(rd.sum_forward, rd.sum_backward)
_mean = op(rd.mean_forward, rd.mean_backward)
_max = op(rd.max_forward, rd.extreme_backward)
_min = op(rd.min_forward, rd.extreme_backward)
_cumsum = op(rd.cumsum_forward, rd.cumsum_backward)


def sum(x, *, axis=None, keepdims=False):
    return _sum(x, axis=axis, keepdims=keepdims)


def mean(x, *, axis=None, keepdims=False):
    return _mean(x, axis=axis, keepdims=keepdims)


def max(x, *, axis=None, keepdims=False):
    """The largest element; several equal largest ones share the gradient equally."""
    return _max(x, axis=axis, keepdims=keepdims)


def min(x, *, axis=None, keepdims=False):
    """The smallest element; several equal smallest ones share the gradient equally."""
    return _min(x, axis=axis, keepdims=keepdims)


def cumsum(x, *, axis):
    return _cumsum(x, axis=axis)


def var(x, *, axis=None, keepdims=False, correction=1):
    """Σ(x − mean)² / (n − correction): the sample variance by default, as in PyTorch (NumPy's default is 0)."""
    centred = x - mean(x, axis=axis, keepdims=True)
    squares = sum(centred * centred, axis=axis, keepdims=keepdims)
    n = raw(x).size // (raw(squares).size or 1)
    if n <= correction:
        raise ValueError(f"the variance of {n} element(s) with correction={correction} divides by {n - correction}")
    return squares / int(n - correction)


def logsumexp(x, *, axis=-1, keepdims=False):
    """log Σ exp(x), shifted by the maximum, which cancels, so that exp cannot overflow."""
    peak = raw(x).max(axis=axis, keepdims=True)
    peak = array_module(peak).where(array_module(peak).isfinite(peak), peak, 0)
    y = log(sum(exp(x - peak), axis=axis, keepdims=True)) + peak
    return y if keepdims else squeeze(y, axis)


# ---- the same numbers in another arrangement ------------------------------------------------------------------------

_reshape = op(sh.reshape_forward, sh.reshape_backward)
_permute = op(sh.permute_forward, sh.permute_backward)
_broadcast_to = op(sh.broadcast_to_forward, sh.broadcast_to_backward)
_concat = op(sh.concat_forward, sh.concat_backward)
_stack = op(sh.stack_forward, sh.stack_backward)
_pad = op(sh.pad_forward, sh.pad_backward)
_repeat = op(sh.repeat_forward, sh.repeat_backward)
_repeat_interleave = op(sh.repeat_interleave_forward, sh.repeat_interleave_backward)


def reshape(x, *shape):
    """The same elements in order under another shape, given as numbers or as one tuple; one of them may be −1."""
    return _reshape(x, shape=_flat(shape))


def permute(x, *axes):
    """Axis i of the result is axis axes[i] of x."""
    return _permute(x, axes=tuple(a % raw(x).ndim for a in _flat(axes)))


def transpose(x, *axes):
    """The axes reversed, or in the order given: NumPy's meaning. (PyTorch's two-axis transpose is `swapaxes`.)"""
    return permute(x, *(axes or range(raw(x).ndim)[::-1])) if raw(x).ndim else x


def swapaxes(x, axis1, axis2):
    axes = list(range(raw(x).ndim))
    axes[axis1], axes[axis2] = axes[axis2], axes[axis1]
    return permute(x, *axes)


def broadcast_to(x, *shape):
    return _broadcast_to(x, shape=_flat(shape))


def squeeze(x, axis=None):
    """Without its axes of length 1 (all of them, or those named)."""
    return reshape(x, np.empty(raw(x).shape, bool).squeeze(axis).shape)


def unsqueeze(x, axis):
    """With a new axis of length 1 at `axis`."""
    return reshape(x, np.expand_dims(np.empty(raw(x).shape, bool), axis).shape)


def concat(tensors, *, axis=0):
    """Laid end to end along an axis that they have."""
    return _concat(*_some(tensors, "concat"), axis=axis)


def stack(tensors, *, axis=0):
    """Laid beside each other along a new axis."""
    return _stack(*_some(tensors, "stack"), axis=axis)


def _some(tensors, name):
    tensors = list(tensors)
    if not tensors:
        raise ValueError(f"{name} needs at least one tensor")
    return tensors


def split(x, size, *, axis=0):
    """Pieces of `size` along the axis (the last may be smaller), or of the sizes in a list: PyTorch's meaning."""
    n = raw(x).shape[axis]
    sizes = [size] * -(-n // size) if isinstance(size, int) else list(size)
    ends = np.cumsum(sizes)
    if not isinstance(size, int) and (ends[-1] if sizes else 0) != n:
        raise ValueError(f"split sizes {sizes} sum to {ends[-1] if sizes else 0}, and axis {axis} has {n}")
    before = (slice(None),) * (axis % raw(x).ndim)
    return [getitem(x, before + (slice(int(end) - s, int(end)),)) for s, end in zip(sizes, ends)]


def pad(x, widths, *, value=0.0):
    """`value` before and after: widths is a pair (before, after) for each axis."""
    return _pad(x, widths=[tuple(w) for w in widths], value=value)


def repeat(x, *repeats):
    """The whole of x, repeats[i] times along axis i: PyTorch's meaning (NumPy calls it tile)."""
    repeats = _flat(repeats)
    return _repeat(x, repeats=(1,) * (raw(x).ndim - len(repeats)) + repeats)


def repeat_interleave(x, repeats, *, axis):
    """Each element along the axis, `repeats` times side by side."""
    return _repeat_interleave(x, repeats=repeats, axis=axis % raw(x).ndim)


# ---- picking out ----------------------------------------------------------------------------------------------------

_getitem = op(ix.getitem_forward, ix.getitem_backward)
_gather = op(ix.gather_forward, ix.gather_backward)
_take = op(ix.take_forward, ix.take_backward)
_embedding = op(emb.embedding_forward, emb.embedding_backward)
_placed_embedding = op(emb.placed_embedding_forward, emb.placed_embedding_backward)


def getitem(x, index):
    """x[index], with NumPy's basic and advanced indexing."""
    parts = index if isinstance(index, tuple) else (index,)
    parts = tuple(int(i) if isinstance(i, np.integer) else beside(i, raw(x)) if isinstance(i, list) else raw(i)
                  for i in parts)
    return _getitem(x, index=parts)


def gather(x, axis, index):
    """`y[i][j][k] = x[i][index[i][j][k]][k]` for axis 1: NumPy's take_along_axis (PyTorch's gather where the other axes
    of x and index are equal; here they broadcast)."""
    return _gather(x, axis=axis % raw(x).ndim, index=raw(index))


def take(x, index, *, axis):
    """x[..., index, ...] with the integer array `index` at `axis`."""
    return _take(x, index=raw(index), axis=axis % raw(x).ndim)


def embedding(idx, weight):
    """Row idx of a table: idx int (...), weight (V, C) -> (..., C). Ids are checked, and move to the table's device."""
    return _embedding(weight, idx=_ids_for(weight, idx))


def placed_embedding(idx, weight, places, *, start=0):
    """The same plus the rows of a second table for the places start, start + 1, …, in one operation: idx int (B, T), weight
    (V, C), places (P, C) -> (B, T, C)."""
    idx = _ids_for(weight, idx)
    if idx.ndim != 2 or start + idx.shape[1] > raw(places).shape[0]:
        raise ValueError(f"token ids of shape {idx.shape} from place {start} on need shape (B, T) and start + T places, of "
                         f"which there are {raw(places).shape[0]}")
    return _placed_embedding(weight, places, idx=idx, start=start)


def _ids_for(weight, idx):
    """Token ids, an array or lists, checked, where the table is."""
    idx = Tensor(idx).data
    check_ids(idx, raw(weight).shape[0], "token id")
    return beside(idx, raw(weight))


def check_ids(ids, size, what):
    """Refuse ids outside 0 … size − 1, naming the first of them and its place. On a GPU that means waiting for it: ids
    from the host are checked there, before they move."""
    if ids.dtype.kind not in "iu":
        raise TypeError(f"{what}s are integers, not {ids.dtype}: use .astype(int)")
    if ids.size and not capturing(ids) and ids.view(f"u{ids.itemsize}").max() >= size:      # unsigned, −1 is the largest
        xp = array_module(ids)
        place = tuple(int(i) for i in xp.argwhere((ids < 0) | (ids >= size))[0])
        raise IndexError(f"{what} {int(ids[place])} at position {place}: the vocabulary has {size} entries, "
                         f"0 to {size - 1}")


# ---- products -------------------------------------------------------------------------------------------------------

matmul = op(mm.matmul_forward, mm.matmul_backward)
_linear = op(mm.linear_forward, mm.linear_backward)
_linear_add = op(mm.linear_add_forward, mm.linear_add_backward)
_linear_gelu = op(activation.linear_gelu_forward, activation.linear_gelu_backward)
_einsum = op(mm.einsum_forward, mm.einsum_backward)


def linear(x, weight, bias=None):
    """x Wᵀ + b: x (..., I), weight (O, I), bias (O,) -> (..., O)."""
    return _linear(x, weight) if bias is None else _linear(x, weight, bias)


def linear_add(residual, x, weight, bias=None):
    """residual + x Wᵀ + b in one pass: residual (..., O), the rest as for `linear`."""
    return _linear_add(residual, x, weight) if bias is None else _linear_add(residual, x, weight, bias)


def linear_gelu(x, weight, bias):
    """GPT-2's gelu (the "tanh" one) of x Wᵀ + b, in one operation: shapes as for `linear`."""
    return _linear_gelu(x, weight, bias)


def einsum(spec, a, b):
    """Einstein's summation for two operands, e.g. einsum("btd,bsd->bts", q, k); `...` stands for leading axes."""
    return _einsum(a, b, spec=spec)


# ---- probabilities, norms, attention --------------------------------------------------------------------------------

_softmax = op(sm.softmax_forward, sm.softmax_backward)
_masked_softmax = op(sm.masked_softmax_forward, sm.masked_softmax_backward)
_log_softmax = op(sm.log_softmax_forward, sm.log_softmax_backward)
_cross_entropy = op(ce.cross_entropy_forward, ce.cross_entropy_backward)
_layer_norm = op(norm.layer_norm_forward, norm.layer_norm_backward)
_rms_norm = op(norm.rms_norm_forward, norm.rms_norm_backward)
_attention = op(attention.attention_forward, attention.attention_backward)
_qkv_attention = op(causal.qkv_attention_forward, causal.qkv_attention_backward)
_block = op(block.block_forward, block.block_backward)
_rotary = op(rot.rotary_forward, rot.rotary_backward)
_dropout = op(drop.dropout_forward, drop.dropout_backward)


def softmax(x, *, axis=-1):
    return _softmax(x, axis=axis)


def masked_softmax(x, mask):
    """softmax over the last axis of what the boolean `mask` lets through (True), 0 elsewhere: x (..., S), to which the mask
    broadcasts.

    It is softmax(masked_fill(x, ~mask, −∞)) in one pass, but a row of which nothing is let through is all 0, without a
    gradient, not NaN; and what is not let through may hold anything. attention with weights to look at, or to drop:
    masked_softmax(q @ k.swapaxes(-1, -2) * scale, mask) @ v.
    """
    mask, shape = raw(mask), raw(x).shape
    if getattr(mask, "dtype", None) != bool:
        raise TypeError("masked_softmax takes an array of booleans, True for what counts, not "
                        f"{getattr(mask, 'dtype', type(mask).__name__)}: use .astype(bool), or add numbers to x")
    if not shape or mask.ndim > len(shape) or any(n not in (1, m) for n, m in zip(mask.shape[::-1], shape[::-1])):
        raise ValueError(f"masked_softmax of shape {shape} with a mask of shape {mask.shape}: x has an axis at least, and "
                         "the mask broadcasts to it")
    return _masked_softmax(x, mask=mask)


def log_softmax(x, *, axis=-1):
    return _log_softmax(x, axis=axis)


def cross_entropy(logits, targets, *, ignore_index=-100, reduction="mean", label_smoothing=0.0):
    """−log softmax(logits)[target], summed, averaged over the targets that count, or one each ("none").

    logits (..., V), targets int (...): classes are on the last axis. Where the target is `ignore_index` the loss and
    its gradient are 0. Targets move to the logits' device.
    """
    targets, shape = Tensor(targets).data, raw(logits).shape
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f'reduction is "mean", "sum" or "none", not {reduction!r}')
    if targets.shape != shape[:-1]:
        raise ValueError(f"logits of shape {shape} need targets of shape {shape[:-1]}, not {targets.shape}: "
                         "one class number for each row of logits")
    kept = targets != ignore_index
    counts = None if capturing(targets) else int(array_module(kept).count_nonzero(kept))
    if counts == targets.size:
        ignore_index = None
    check_ids(targets if ignore_index is None else array_module(targets).where(kept, targets, 0), shape[-1], "target")
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing is a share in [0, 1], not {label_smoothing}")
    if reduction == "mean" and counts == 0:
        raise ValueError(f"no target to average over: all {targets.size} are {ignore_index}, which is ignored")
    return _cross_entropy(logits, targets=beside(targets, raw(logits)), ignore_index=ignore_index, reduction=reduction,
                          label_smoothing=label_smoothing)


def mse_loss(x, target):
    """mean (x − target)²; the shapes must be equal, since (N,) with (N, 1) would be a table of all pairs."""
    if raw(x).shape != raw(target).shape:
        raise ValueError(f"a loss compares equal shapes, not {raw(x).shape} with {raw(target).shape}: reshape one")
    difference = sub(x, target)
    return mean(difference * difference)


def layer_norm(x, weight, bias=None, *, eps=1e-5):
    """Rows of mean 0 and variance 1, times weight, plus bias: x (..., C), weight and bias (C,)."""
    return _layer_norm(x, weight, eps=eps) if bias is None else _layer_norm(x, weight, bias, eps=eps)


def rms_norm(x, weight, *, eps=1e-6):
    """Rows of mean square 1, times weight: x (..., C), weight (C,)."""
    return _rms_norm(x, weight, eps=eps)


def dropout(x, p, *, rng):
    """Each element is zero with probability p, else divided by 1 − p; drawn from the generator `rng`."""
    check_probability(p)
    if not p:
        return x
    check_replayed(rng)
    return _dropout(x, p=p, rng=rng)


def check_probability(p):
    if not 0 <= p < 1:
        raise ValueError(f"dropout's p is a probability in [0, 1), not {p}")


def scaled_dot_product_attention(query, key, value, attn_mask=None, *, is_causal=False, key_lengths=None, scale=None):
    """softmax(scale · q kᵀ + mask) v; zeros for a query that may see nothing.

    query (B, H, T, D); key and value (B, K, S, D), where K divides H (grouped queries). attn_mask broadcasts to
    (B, H, T, S): boolean (True: may be seen) or added to the scores, a constant either way. is_causal: query t sees
    keys up to t + S − T, so that the last sees all. key_lengths int (B,): only so many keys count. scale: 1/√D.
    """
    if not raw(query).ndim == raw(key).ndim == raw(value).ndim == 4:
        raise ValueError("attention takes query, key and value of shape (B, H, T, D), not "
                         f"{raw(query).shape}, {raw(key).shape} and {raw(value).shape}")
    (B, H, T, D), (Bk, K, _, Dk) = raw(query).shape, raw(key).shape
    if (B, D) != (Bk, Dk) or raw(key).shape[:3] != raw(value).shape[:3] or H % K:
        raise ValueError(f"attention of query {(B, H, T, D)}, key {raw(key).shape} and value {raw(value).shape}: "
                         "batch and head size must agree, and key heads divide query heads")
    return _attention(query, key, value, mask=raw(attn_mask), is_causal=is_causal, key_lengths=raw(key_lengths),
                      scale=D ** -0.5 if scale is None else scale)


def rotary(x, cos, sin):
    """Channels turned by their position's angles [ROPE]: x (B, H, T, D), constants cos and sin (T, R/2) or (B, 1, T, R/2).
    Channels i and i + R/2 of the first R are a pair; the others stay."""
    return _rotary(x, cos=raw(cos), sin=raw(sin))


def qkv_attention(qkv, n_head):
    """Causal self-attention from projections that lie side by side: (B, T, 3C) -> (B, T, C)."""
    shape = raw(qkv).shape
    if len(shape) != 3 or shape[2] % (3 * n_head):
        raise ValueError(f"qkv_attention takes (B, T, 3C) where 3 · n_head = {3 * n_head} divides 3C, not {shape}")
    return _qkv_attention(qkv, n_head=n_head)


def gpt2_block(x, layers, *, n_head, eps=1e-5):
    """GPT-2's block in one operation, h = x + attention(layer_norm(x)) and h + mlp(layer_norm(h)): x (B, T, C); layers, the
    six that it has in the order in which they are used, each with weight and bias: a layer norm, linear layers with 3C and
    with C outputs, a layer norm, linear layers with I and with C outputs."""
    return _block(x, *[p for layer in layers for p in (layer.weight, layer.bias)], n_head=n_head, eps=eps)


# ---- helpers, and Tensor's operators and methods: each is the function of the same name -----------------------------

def raw(x):
    """The array of a tensor; anything else as it is."""
    return x.data if isinstance(x, Tensor) else x


def _compare(how, a, b):
    """Comparisons give booleans, without a gradient."""
    if cuda_loaded():
        check_one_device(how.__name__, (raw(a), raw(b)))
    return Tensor(how(raw(a), raw(b)))


def _flat(numbers):
    """f(2, 3) and f((2, 3)) mean the same."""
    return tuple(numbers[0]) if len(numbers) == 1 and not isinstance(numbers[0], (int, np.integer)) else tuple(numbers)


Tensor.__add__ = Tensor.__radd__ = add
Tensor.__sub__ = sub
Tensor.__rsub__ = lambda a, b: sub(b, a)
Tensor.__mul__ = Tensor.__rmul__ = mul
Tensor.__truediv__ = div
Tensor.__rtruediv__ = lambda a, b: div(b, a)
Tensor.__pow__ = pow
Tensor.__rpow__ = lambda a, b: pow(b, a)
Tensor.__matmul__ = matmul
Tensor.__rmatmul__ = lambda a, b: matmul(b, a)
Tensor.__neg__ = neg
Tensor.__abs__ = abs
Tensor.__getitem__ = getitem
Tensor.__lt__ = lambda a, b: _compare(operator.lt, a, b)
Tensor.__le__ = lambda a, b: _compare(operator.le, a, b)
Tensor.__gt__ = lambda a, b: _compare(operator.gt, a, b)
Tensor.__ge__ = lambda a, b: _compare(operator.ge, a, b)
Tensor.argmax = lambda x, axis=None: Tensor(x.data.argmax(axis))
Tensor.T = property(transpose)
for _f in (exp, log, sqrt, tanh, sigmoid, erf, sin, cos, abs, relu, clip, masked_fill, astype, to, sum, mean, max, min, var,
           cumsum, logsumexp, reshape, permute, transpose, swapaxes, broadcast_to, squeeze, unsqueeze, split, repeat,
           gather, take, softmax, log_softmax):
    setattr(Tensor, _f.__name__, _f)
