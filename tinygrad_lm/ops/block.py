"""GPT-2's block as one operation: forward its parts in turn, backward the same in reverse.

Nothing is computed in another way. But what the engine does around an operation costs a small model as much as the operation
itself, and here it does it once a block instead of fourteen times.
"""
from .activation import linear_gelu_backward, linear_gelu_forward
from .causal_attention import qkv_attention_backward, qkv_attention_forward
from .matmul import linear_add_backward, linear_add_forward, linear_backward, linear_forward
from .norm import layer_norm_backward, layer_norm_forward


def block_forward(x, *weights, n_head, eps):                             # x (B, T, C), six weights of each half
    x, look = attention_half_forward(x, *weights[:6], n_head=n_head, eps=eps)
    x, think = mlp_half_forward(x, *weights[6:], eps=eps)
    return x, (look, think)


def block_backward(dy, saved, needs):
    look, think = saved
    thought = mlp_half_backward(dy, think, (True, *needs[7:]))           # a gradient for what it read, six for its weights
    looked = attention_half_backward(thought[0], look, needs[:7])
    return looked + thought[1:]


def attention_half_forward(x, g, b, w, c, w2, c2, *, n_head, eps):       # x (B, T, C), g and b (C,), w (3C, C), w2 (C, C)
    """y = x + attention(layer_norm(x) Wᵀ + c) W₂ᵀ + c₂"""
    h, norm = layer_norm_forward(x, g, b, eps=eps)
    h, qkv = linear_forward(h, w, c)                                     # (B, T, 3C)
    h, attention = qkv_attention_forward(h, n_head=n_head)               # (B, T, C)
    y, proj = linear_add_forward(x, h, w2, c2)
    return y, (norm, qkv, attention, proj)


def attention_half_backward(dy, saved, needs):
    (norm, qkv, attention, proj), (x, g, b, w, c, w2, c2) = saved, needs
    dx, dh, dw2, dc2 = linear_add_backward(dy, proj, (x, True, w2, c2))
    dh, = qkv_attention_backward(dh, attention)
    dh, dw, dc = linear_backward(dh, qkv, (True, w, c))
    dh, dg, db = layer_norm_backward(dh, norm, (x, g, b))
    if x:
        dh += dx                                                         # dh is ours, dx is perhaps another's
    return dh, dg, db, dw, dc, dw2, dc2


def mlp_half_forward(x, g, b, w, c, w2, c2, *, eps):                     # x (..., C), g and b (C,), w (I, C), w2 (C, I)
    """y = x + gelu_tanh(layer_norm(x) Wᵀ + c) W₂ᵀ + c₂"""
    h, norm = layer_norm_forward(x, g, b, eps=eps)
    h, fc = linear_gelu_forward(h, w, c)                                 # (..., I)
    y, proj = linear_add_forward(x, h, w2, c2)
    return y, (norm, fc, proj)


def mlp_half_backward(dy, saved, needs):
    (norm, fc, proj), (x, g, b, w, c, w2, c2) = saved, needs
    dx, dh, dw2, dc2 = linear_add_backward(dy, proj, (x, True, w2, c2))
    dh, dw, dc = linear_gelu_backward(dh, fc, (True, w, c))
    dh, dg, db = layer_norm_backward(dh, norm, (x, g, b))
    if x:
        dh += dx                                                         # dh is ours, dx is perhaps another's
    return dh, dg, db, dw, dc, dw2, dc2
