"""Reading one more token of every sequence: the forward of models/transformer.py once more, on plain arrays.

A token is little work and a lot of weights. What the engine does around an operation costs more than the operation, and
the products wait for memory, not for arithmetic. So the model becomes a chain of few functions on arrays, whose weights lie
as memory is read fastest. Tests hold the chain equal to the model.
"""
import numpy as np

from .backend import array_module, beside
from .functional import raw
from .kernels import fits_kernel
from .models.rotary import rotary_angles
from .nn import Embedding, Linear, RMSNorm
from .ops.activation import gelu_tanh, silu_forward
from .ops.norm import layer_norm_forward, rms_norm_forward, scaled, standardised
from .ops.rotary import turned
from .ops.softmax import masked_softmax_forward
from .tensor import Tensor


def decoder(model):
    """read(token, cache): scores of what comes after one more token a sequence, (B,) -> (B, V); the cache then holds it.

    Equal to model(token[:, None], cache=cache)[:, 0] in eval mode. It is made for one generation, of the weights as
    they are now, and copies some of them: of GPT-2's shape 7/12 of the blocks' memory, of LLaMA's about two thirds, and none
    of a model in few bits (models/quantised.py).
    """
    for fits, chain in ((has_shape_of_gpt2, gpt2_decoder), (has_shape_of_llama, llama_decoder)):
        if fits(model.config):
            return chain(model)
    return lambda token, cache: model(token[:, None], cache=cache).data[:, 0]


# ---- GPT-2 -----------------------------------------------------------------------------------------------------------

def has_shape_of_gpt2(c):
    return c.plain_block and c.tied


def gpt2_decoder(model):
    (rows, scores), positions = table(model), model.wpe.weight.data
    blocks = [(linear(b.attn.qkv, b.ln1), b.attn.config.n_head, linear(b.attn.proj), linear(b.mlp.fc, b.ln2),
               linear(b.mlp.proj)) for b in model.blocks]
    g, b, eps = model.ln_f.weight.data, raw(model.ln_f.bias), model.ln_f.eps

    def read(token, cache):
        mask = cache.extend(None, len(token), 1)                                   # (B, S) or None
        x = rows(token) + positions[cache.length if mask is None else mask.sum(-1) - 1]         # (B, C)
        for (qkv, n_head, mix, widen, narrow), past in zip(blocks, cache.layers):
            x += mix(attend(*past.append(qkv(x)[:, None], n_head), mask))
            x += narrow(gelu_tanh(widen(x)))
        return scores(layer_norm_forward(x, g, b, eps=eps)[0])                     # (B, V)

    return read


# ---- LLaMA -----------------------------------------------------------------------------------------------------------

def has_shape_of_llama(c):
    return c.causal and c.position == "rotary" and c.norm == "rms" and c.activation == "silu" and c.gated \
        and c.order == "pre"


def llama_decoder(model):
    c, (rows, scores) = model.config, table(model)
    blocks = [(linear(b.attn.qkv, b.ln1), linear(b.attn.proj), linear((b.mlp.gate, b.mlp.fc), b.ln2), linear(b.mlp.proj))
              for b in model.blocks]
    g, eps = model.ln_f.weight.data, model.ln_f.eps

    def read(token, cache):
        mask = cache.extend(None, len(token), 1)                                   # (B, S) or None
        place = np.array([cache.length]) if mask is None else mask.sum(-1, keepdims=True) - 1     # (1,) or (B, 1)
        turn = rotary_angles(c, place, g)                                          # twice (1, R/2) or (B, 1, 1, R/2)
        x = rows(token)                                                            # (B, C)
        for (qkv, mix, widen, narrow), past in zip(blocks, cache.layers):
            x += mix(attend(*rotated(qkv(x), turn, past), mask))
            gate, wide = split_in_two(widen(x))
            x += narrow(silu_forward(gate)[0] * wide)
        return scores(rms_norm_forward(x, g, eps=eps)[0])                          # (B, V)

    def rotated(qkv, turn, past):
        """The new token's queries, those that share keys as rows beside each other, (B, K, H/K, D); all keys and values."""
        qkv = qkv.reshape(len(qkv), -1, 1, c.head_size)                            # (B, H + 2K, 1, D)
        H, K = c.n_head, c.n_kv_head
        qk, v = turned(qkv[:, :H + K], *turn), qkv[:, H + K:]
        return qk[:, :H].reshape(len(qkv), K, H // K, -1), *past.extend(qk[:, H:], v)

    return read


def split_in_two(x):
    half = x.shape[-1] // 2
    return x[..., :half], x[..., half:]


# ---- both ------------------------------------------------------------------------------------------------------------

def table(model):
    """Two functions on arrays: the tokens' embedding, (B,) -> (B, C), and the head, (B, C) -> (B, V)."""
    if not isinstance(model.wte, Embedding):                                       # in few bits
        return lambda token: model.wte(token).data, lambda x: model.head(Tensor(x)).data
    tokens = raw(model.wte.weight)
    head = tokens if model.head is None else model.head.whole()
    return lambda token: tokens[beside(token, tokens)], lambda x: x @ head.T


def linear(layers, norm=None):
    """The layer, or several side by side, and the norm before it if there is one, as a function on arrays: with x̂ for x
    standardised,

        (x̂ g + b) Wᵀ + c = x̂ (g Wᵀ) + (b Wᵀ + c),

    so that the norm's own weights cost nothing at each token. The copy lies with the outputs along memory: those layers
    have more outputs than inputs, and the longer the rows, the sooner they are read, up to a third.
    """
    layers = layers if isinstance(layers, tuple) else (layers,)
    if not isinstance(layers[0], Linear):
        return in_few_bits(layers, norm)
    w = layers[0].whole().T                                                        # (I, O)
    xp = array_module(w)
    w = w if len(layers) == 1 else xp.concatenate([layer.whole().T for layer in layers], axis=1)
    c = None if layers[0].bias is None else xp.concatenate([layer.bias.data for layer in layers])              # (O,)
    x_hat = without_weights(norm)
    if norm is not None:
        if (b := getattr(norm, "bias", None)) is not None:
            c = b.data @ w if c is None else c + b.data @ w
        w = xp.ascontiguousarray(norm.weight.data[:, None] * w)

    def apply(x):
        y = x_hat(x) @ w
        if c is not None:
            y += c
        return y

    return apply


def in_few_bits(layers, norm):
    """The same of layers that are not copied, with the norm as it is."""
    def apply(x):
        x = Tensor(x) if norm is None else norm(Tensor(x))
        ys = [layer(x).data for layer in layers]
        return ys[0] if len(ys) == 1 else array_module(ys[0]).concatenate(ys, axis=-1)

    return apply


def without_weights(norm):
    """x̂ of a norm, or x where there is none, as a function on arrays."""
    if norm is None:
        return lambda x: x
    to_size = scaled if isinstance(norm, RMSNorm) else standardised
    return lambda x: to_size(x, norm.eps)[0]


def attend(q, k, v, mask):
    """Attention of each sequence's new token to all so far: q (B, K, G, D), of which G queries share a head of keys,
    k and v (B, K, S, D) -> (B, K G D)"""
    xp = array_module(q)
    p = (q * q.shape[-1] ** -0.5) @ k.swapaxes(-1, -2)                             # (B, K, G, S)
    mask = None if mask is None else mask[:, None, None]                           # (B, 1, 1, S)
    if fits_kernel(p):
        return (masked_softmax_forward(p, mask=mask)[0] @ v).reshape(len(q), -1)
    if mask is not None:
        xp.copyto(p, -xp.inf, where=~mask)
    p -= p.max(-1, keepdims=True)                                                  # finite: a token sees itself
    xp.exp(p, out=p)
    y = p @ v
    y /= p.sum(-1, keepdims=True)
    return y.reshape(len(q), -1)                                                   # (B, K, G, D) is (B, C) in memory
