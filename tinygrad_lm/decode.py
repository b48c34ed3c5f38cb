"""Reading one more token of every sequence: the forward of models/transformer.py once more, on plain arrays.

A token is little work and a lot of weights. What the engine does around an operation costs more than the operation, and
the products wait for memory, not for arithmetic. So the model becomes a chain of few functions on arrays, whose weights lie
as memory is read fastest. Tests hold the chain equal to the model.
"""
from .backend import array_module, beside
from .functional import raw
from .kernels import fits_kernel
from .nn import Embedding
from .ops.activation import gelu_tanh
from .ops.norm import layer_norm_forward, standardised
from .ops.softmax import masked_softmax_forward


def decoder(model):
    """read(token, cache): scores of what comes after one more token a sequence, (B,) -> (B, V); the cache then holds it.

    Equal to model(token[:, None], cache=cache)[:, 0] in eval mode. It is made for one generation, of the weights as
    they are now, and copies some of them: 7/12 of the blocks' memory.
    """
    if not has_shape_of_gpt2(model.config) or not isinstance(model.wte, Embedding):     # quantised weights are not copied
        return lambda token, cache: model(token[:, None], cache=cache).data[:, 0]
    tokens, positions = model.wte.weight.data, model.wpe.weight.data
    blocks = [(linear(b.attn.qkv, b.ln1), b.attn.config.n_head, linear(b.attn.proj), linear(b.mlp.fc, b.ln2), linear(b.mlp.proj))
              for b in model.blocks]
    g, b, eps = model.ln_f.weight.data, raw(model.ln_f.bias), model.ln_f.eps

    def read(token, cache):
        token = beside(token, tokens)
        mask = cache.extend(None, len(token), 1)                                   # (B, S) or None
        x = tokens[token] + positions[cache.length if mask is None else mask.sum(-1) - 1]         # (B, C)
        for (qkv, n_head, mix, widen, narrow), past in zip(blocks, cache.layers):
            x += mix(attend(qkv(x), n_head, past, mask))
            x += narrow(gelu_tanh(widen(x)))
        return layer_norm_forward(x, g, b, eps=eps)[0] @ tokens.T                  # (B, V)

    return read


def has_shape_of_gpt2(c):
    return c.plain_attention and c.norm == "layer" and c.activation == "gelu_tanh" and not c.gated and c.order == "pre" \
        and c.tied


def linear(layer, norm=None):
    """The layer, and the layer norm before it if there is one, as a function on arrays: with x̂ for x standardised,

        (x̂ g + b) Wᵀ + c = x̂ (g Wᵀ) + (b Wᵀ + c),

    so that the norm's own weights cost nothing at each token. The copy lies with the outputs along memory: those layers
    have more outputs than inputs, and the longer the rows, the sooner they are read, up to a third.
    """
    w, c = layer.weight.data.T, 0 if layer.bias is None else layer.bias.data       # (I, O), (O,)
    if norm is not None:
        c = c if norm.bias is None else c + norm.bias.data @ w
        xp = array_module(w)
        w = xp.ascontiguousarray(norm.weight.data[:, None] * w)

    def apply(x):
        y = (x if norm is None else standardised(x, norm.eps)[0]) @ w
        y += c
        return y

    return apply


def attend(qkv, n_head, past, mask):
    """Attention of each sequence's new token to all so far, which it joins. qkv (B, 3C) -> (B, C)"""
    xp = array_module(qkv)
    q, k, v = past.append(qkv[:, None], n_head)                                    # (B, H, 1, D), twice (B, H, S, D)
    p = (q * q.shape[-1] ** -0.5) @ k.swapaxes(-1, -2)                             # (B, H, 1, S)
    mask = None if mask is None else mask[:, None, None]                           # (B, 1, 1, S)
    if fits_kernel(p):
        return (masked_softmax_forward(p, mask=mask)[0] @ v).reshape(len(qkv), -1)
    if mask is not None:
        xp.copyto(p, -xp.inf, where=~mask)
    p -= p.max(-1, keepdims=True)                                                  # finite: a token sees itself
    xp.exp(p, out=p)
    y = p @ v
    y /= p.sum(-1, keepdims=True)
    return y.reshape(len(qkv), -1)                                                 # (B, H, 1, D) is (B, C) in memory
