"""GPT: from the tokens so far to the probability of the next (GPT-2, Radford et al. 2019 [GPT2])."""
from dataclasses import dataclass

import numpy as np

from .. import functional as F
from ..backend import array_module, beside
from ..modes import grad_enabled
from ..nn import Dropout, Embedding, LayerNorm, Linear, Module
from ..ops.attention import attention_forward
from ..ops.causal_attention import heads
from ..tensor import Tensor


@dataclass(frozen=True)
class GPTConfig:
    """The shape of a GPT. `dropout` acts on the embeddings and on what each block adds; `bias`: do linear layers and norms
    have one, as in GPT-2?"""
    vocab_size: int
    block_size: int                     # the longest sequence it can read
    n_layer: int = 4
    n_head: int = 4
    n_embd: int = 128
    dropout: float = 0.0
    bias: bool = True

    def __post_init__(self):
        for name in ("vocab_size", "block_size", "n_layer", "n_head", "n_embd"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd={self.n_embd} channels cannot be split evenly between n_head={self.n_head} heads")


class Attention(Module):
    """Tokens look at tokens before them: several heads, each a softmax attention over its own C/H channels."""

    def __init__(self, config, *, rng):
        C = config.n_embd
        self.n_head = config.n_head
        self.qkv = Linear(C, 3 * C, bias=config.bias, rng=rng)    # query, key and value of all heads, side by side
        self.proj = Linear(C, C, bias=config.bias, rng=rng)

    def forward(self, x, mask, cache, add_to=None):     # x (B, T, C)
        return self.proj(self.attend(self.qkv(x), mask, cache), add_to)

    def attend(self, qkv, mask, cache):                 # (B, T, 3C) -> (B, T, C)
        if cache is not None:
            return cache.attend(qkv.data, self.n_head, mask)
        if mask is None:
            return F.qkv_attention(qkv, self.n_head)
        B, T, C = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
        q, k, v = F.split(qkv.reshape(B, T, 3 * self.n_head, -1).swapaxes(1, 2), self.n_head, axis=1)   # (B, H, T, D)
        y = F.scaled_dot_product_attention(q, k, v, mask, is_causal=True)
        return y.swapaxes(1, 2).reshape(B, T, C)


class MLP(Module):
    """Each token thinks for itself: four times as wide, a bend, and back."""

    def __init__(self, config, *, rng):
        self.fc = Linear(config.n_embd, 4 * config.n_embd, bias=config.bias, rng=rng)
        self.proj = Linear(4 * config.n_embd, config.n_embd, bias=config.bias, rng=rng)

    def forward(self, x, add_to=None):
        return self.proj(self.bend(x), add_to)

    def bend(self, x):                                  # (B, T, C) -> (B, T, 4C)
        if self.fc.bias is None:
            return F.gelu(self.fc(x), approximate="tanh")
        return F.linear_gelu(x, self.fc.weight, self.fc.bias)


class Block(Module):
    """Look, then think; each adds to what was there. Norms come first, so that the sum stays clean (pre-norm)."""

    def __init__(self, config, *, rng):
        self.ln1 = LayerNorm(config.n_embd, bias=config.bias)
        self.attn = Attention(config, rng=rng)
        self.ln2 = LayerNorm(config.n_embd, bias=config.bias)
        self.mlp = MLP(config, rng=rng)
        self.drop = Dropout(config.dropout, rng=rng)

    def forward(self, x, mask=None, cache=None):
        x = self.add(x, self.attn, self.ln1(x), mask, cache)
        return self.add(x, self.mlp, self.ln2(x))

    def add(self, x, part, *inputs):
        """x plus what the part says, of which training may drop some; what drops nothing adds in one operation."""
        if self.drop.p and self.training:
            return x + self.drop(part(*inputs))
        return part(*inputs, add_to=x)


class GPT(Module):
    """Embeddings of token and position, blocks, a norm, and a head that shares its weights with the token embedding.

    Weights start as N(0, 0.02²), those that write into the residual stream smaller by √(2·layers), biases at 0; the
    draws, and those of dropout, come from `rng` (seed 0 where none is given).
    """

    def __init__(self, config, *, rng=None):
        rng = np.random.default_rng(0) if rng is None else rng
        self.config = config
        self.wte = Embedding(config.vocab_size, config.n_embd, rng=rng)
        self.wpe = Embedding(config.block_size, config.n_embd, rng=rng)
        self.drop = Dropout(config.dropout, rng=rng)
        self.blocks = [Block(config, rng=rng) for _ in range(config.n_layer)]
        self.ln_f = LayerNorm(config.n_embd, bias=config.bias)
        self._initialise(rng)

    def _initialise(self, rng):
        for name, p in self.named_parameters():
            if p.ndim == 2:
                residual = name.endswith("proj.weight")
                p.data[...] = rng.normal(0, 0.02 / (2 * self.config.n_layer) ** (0.5 if residual else 0), p.shape)
            elif name.endswith("bias"):
                p.data[...] = 0

    def forward(self, idx, *, mask=None, cache=None):
        """Scores of every next token: idx int (B, T) -> Tensor (B, T, V). See `hidden` for mask and cache."""
        return F.linear(self.hidden(idx, mask=mask, cache=cache), self.wte.weight)

    def hidden(self, idx, *, mask=None, cache=None):
        """What the head reads: (B, T) -> (B, T, C).

        mask, bool (B, T): which tokens are real. Padding on the right needs none, since no token sees what comes after
        it; padding on the left does. cache: a KVCache that holds the past; idx then holds only the new tokens. Both, and
        the targets of `loss`, may lie on the host while the model is on the GPU: they are moved.
        """
        idx = Tensor(idx).data if isinstance(idx, (list, tuple, Tensor)) else idx
        if idx.ndim != 2:
            raise ValueError(f"a GPT reads token ids of shape (batch, time), not {idx.shape}")
        B, T = idx.shape
        past = cache.length if cache is not None else 0
        if past + T > self.config.block_size:
            raise ValueError(f"the sequence has {past + T} tokens and the model's block_size is "
                             f"{self.config.block_size}: shorten it, or build the model with a longer block")
        mask = None if mask is None else beside(F.raw(mask), self.wte.weight.data)
        if cache is not None:
            mask = cache.extend(mask, B, T)                                       # (B, past + T) or None
        places = self.wpe.weight[past:past + T] if mask is None else \
            self.wpe((mask.cumsum(-1) - 1).clip(0, None)[:, past:])               # padding does not count
        x = self.drop(self.wte(idx) + places)                                     # (B, T, C)
        keys = None if mask is None else mask[:, None, None, :]                   # (B, 1, 1, S)
        for i, block in enumerate(self.blocks):
            x = block(x, keys, cache and cache.layers[i])
        return self.ln_f(x)

    def loss(self, idx, targets, *, mask=None):
        """Mean −log p(target) over the targets that are not −100: idx, targets int (B, T) -> scalar Tensor."""
        return F.cross_entropy(self(idx, mask=mask), targets)


class KVCache:
    """Keys and values of the tokens read so far, so that reading one more costs one token's work, not all of them.

    Room for `length` tokens of `batch` sequences is taken at once. For decoding only: no gradient flows through it.
    """

    def __init__(self, model, batch, length=None):
        c = model.config
        length = c.block_size if length is None else length
        w = model.wte.weight.data
        self.xp = array_module(w)
        self.layers = [LayerCache(self.xp.empty((2, batch, c.n_head, length, c.n_embd // c.n_head), w.dtype))
                       for _ in range(c.n_layer)]
        self.mask = None                                                          # bool (B, length so far)

    @property
    def length(self):
        return self.layers[0].length

    def extend(self, mask, B, T):
        """Remember which of the T new tokens are real; returns the mask of all so far, None while all are."""
        if grad_enabled():
            raise RuntimeError("a KVCache is for decoding under no_grad: gradients do not flow into the past")
        if mask is None and self.mask is None:
            return None
        past = self.xp.ones((B, self.length), bool) if self.mask is None else self.mask
        new = self.xp.ones((B, T), bool) if mask is None else mask
        self.mask = self.xp.concatenate([past, new], axis=1)
        return self.mask


class LayerCache:
    """One block's part of a KVCache."""

    def __init__(self, kv):
        self.kv = kv                                                              # (2, B, H, length, D)
        self.length = 0

    def append(self, qkv, n_head):
        """The new tokens join: qkv (B, T, 3C) -> their queries (B, H, T, D), and keys and values of all so far,
        (B, H, S, D)."""
        qkv = heads(qkv, 3, n_head)                                               # (3, B, H, T, D)
        start, self.length = self.length, self.length + qkv.shape[3]
        self.kv[:, :, :, start:self.length] = qkv[1:]
        k, v = self.kv[:, :, :, :self.length]
        return qkv[0], k, v

    def attend(self, qkv, n_head, mask):
        """Attention of the new tokens to all so far, which they join; on arrays, since no gradient is wanted and a token
        has little work. qkv (B, T, 3C) -> Tensor (B, T, C)"""
        B, T, C3 = qkv.shape
        q, k, v = self.append(qkv, n_head)
        y, _ = attention_forward(q, k, v, mask=mask, is_causal=T > 1, scale=q.shape[-1] ** -0.5)
        return Tensor(y.swapaxes(1, 2).reshape(B, T, C3 // 3))
