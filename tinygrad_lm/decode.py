"""Reading one more token of every sequence: the forward of models/transformer.py once more, on plain arrays.

A token is little work and a lot of weights. What the engine does around an operation costs more than the operation, and
the products wait for memory, not for arithmetic. So the model becomes a chain of functions on arrays, whose weights lie as
memory is read fastest. Tests hold the chain equal to the model.
"""
import numpy as np

from .ops.activation import gelu_tanh_forward
from .ops.norm import layer_norm_forward


def decoder(model):
    """read(token, cache): scores of what comes after one more token a sequence, (B,) -> (B, V); the cache then holds it.

    Equal to model(token[:, None], cache=cache)[:, 0] in eval mode. It is made for one generation, of the weights as
    they are now, and copies some of them: at most 7/12 of the blocks' memory.
    """
    tokens, positions = model.wte.weight.data, model.wpe.weight.data
    blocks = [(layer_norm(b.ln1), linear(b.attn.qkv), b.attn.n_head, linear(b.attn.proj),
               layer_norm(b.ln2), linear(b.mlp.fc), linear(b.mlp.proj)) for b in model.blocks]
    last_norm = layer_norm(model.ln_f)

    def read(token, cache):
        mask = cache.extend(None, len(token), 1)                                   # (B, S) or None
        x = tokens[token] + positions[cache.length if mask is None else mask.sum(-1) - 1]         # (B, C)
        for (norm1, qkv, n_head, mix, norm2, widen, narrow), past in zip(blocks, cache.layers):
            x = x + mix(attend(qkv(norm1(x)), n_head, past, mask))
            x = x + narrow(gelu_tanh_forward(widen(norm2(x)))[0])
        return last_norm(x) @ tokens.T                                             # (B, V)

    return read


def linear(layer):
    """The layer as a function on arrays. Of its weight (O, I) the longer side lies along memory, if need be in a copy:
    where the weights of all layers do not fit the cache, that is up to a third faster."""
    w, b = layer.weight.data.T, layer.bias.data                                    # (I, O)
    w = np.ascontiguousarray(w) if w.shape[1] > w.shape[0] else w

    def apply(x):
        y = x @ w
        y += b
        return y

    return apply


def layer_norm(layer):
    return lambda x: layer_norm_forward(x, layer.weight.data, layer.bias.data, eps=layer.eps)[0]


def attend(qkv, n_head, past, mask):
    """Attention of each sequence's new token to all so far, which it joins. qkv (B, 3C) -> (B, C)"""
    q, k, v = past.append(qkv[:, None], n_head)                                    # (B, H, 1, D), twice (B, H, S, D)
    p = (q * q.shape[-1] ** -0.5) @ k.swapaxes(-1, -2)                             # (B, H, 1, S)
    if mask is not None:
        np.copyto(p, -np.inf, where=~mask[:, None, None])
    p -= p.max(-1, keepdims=True)                                                  # finite: a token sees itself
    np.exp(p, out=p)
    y = p @ v
    y /= p.sum(-1, keepdims=True)
    return y.reshape(len(qkv), -1)                                                 # (B, H, 1, D) is (B, C) in memory
