"""The transformer, by configuration: GPT-2 (Radford et al. 2019 [GPT2]), GPT-NeoX (Black et al. 2022 [NEOX]), LLaMA
(Touvron et al. 2023 [LLAMA]), and the body of BERT (bert.py)."""
import numpy as np

from .. import functional as F
from ..backend import array_module, beside
from ..modes import anomaly_detection
from ..nn import Dropout, Embedding, LayerNorm, Linear, Module, RMSNorm
from ..tensor import Tensor
from .cache import KVCache
from .config import GPTConfig
from .rotary import rotary_angles

__all__ = ["GPT", "GPTConfig", "KVCache"]
ACTIVATIONS = {"gelu_tanh": lambda x: F.gelu(x, approximate="tanh"), "gelu": F.gelu, "relu": F.relu, "silu": F.silu}


def norm(config):
    """One of the network's norms."""
    if config.norm == "rms":
        return RMSNorm(config.n_embd, eps=config.norm_eps)
    return LayerNorm(config.n_embd, eps=config.norm_eps, bias=config.bias)


class Attention(Module):
    """Tokens look at other tokens: several heads, each a softmax attention over its own D channels. With fewer heads of
    keys and values than of queries, neighbouring queries share them (Ainslie et al. 2023 [GQA])."""

    def __init__(self, config, *, rng):
        self.config = config
        H, K, D, C, bias = config.n_head, config.n_kv_head, config.head_size, config.n_embd, config.attention_bias
        self.qkv = Linear(C, (H + 2 * K) * D, bias=bias, rng=rng)      # queries, keys and values of all heads, side by side
        self.proj = Linear(H * D, C, bias=bias, rng=rng)

    def forward(self, x, mask, cache, turn, add_to=None):              # x (B, T, C)
        return self.proj(self.attend(self.qkv(x), mask, cache, turn), add_to)

    def attend(self, qkv, mask, cache, turn):           # (B, T, (H + 2K) D) -> (B, T, H D)
        c = self.config
        if c.plain_attention and mask is None and cache is None:
            return F.qkv_attention(qkv, c.n_head)
        B, T, _ = qkv.shape
        q, k, v = F.split(qkv.reshape(B, T, -1, c.head_size).swapaxes(1, 2), [c.n_head, c.n_kv_head, c.n_kv_head], axis=1)
        if turn is not None:
            q, k = F.rotary(q, *turn), F.rotary(k, *turn)              # (B, H, T, D), (B, K, T, D)
        if cache is not None:
            k, v = cache.extend(k.data, v.data)                        # (B, K, S, D)
        y = F.scaled_dot_product_attention(q, k, v, mask, is_causal=c.causal)
        return y.swapaxes(1, 2).reshape(B, T, c.n_head * c.head_size)


class MLP(Module):
    """Each token thinks for itself: wider, a bend, and back. Gated, a second layer says how much of each of the wider
    channels counts (Shazeer 2020 [GLU])."""

    def __init__(self, config, *, rng):
        C, inner, bias = config.n_embd, config.n_inner, config.bias
        self.bend = config.activation
        self.gate = Linear(C, inner, bias=bias, rng=rng) if config.gated else None
        self.fc = Linear(C, inner, bias=bias, rng=rng)
        self.proj = Linear(inner, C, bias=bias, rng=rng)

    def forward(self, x, add_to=None):
        return self.proj(self.widen(x), add_to)

    def widen(self, x):                                 # (B, T, C) -> (B, T, inner)
        if self.gate is not None:
            return ACTIVATIONS[self.bend](self.gate(x)) * self.fc(x)
        if self.bend == "gelu_tanh" and self.fc.bias is not None and isinstance(self.fc, Linear) and self.fc.adapter is None:
            return F.linear_gelu(x, self.fc.weight, self.fc.bias)
        return ACTIVATIONS[self.bend](self.fc(x))


class Block(Module):
    """Look, then think; each adds to what was there. Norms come first, so that the sum stays clean (pre-norm)."""

    def __init__(self, config, *, rng):
        self.ln1 = norm(config)
        self.attn = Attention(config, rng=rng)
        self.ln2 = norm(config)
        self.mlp = MLP(config, rng=rng)
        self.drop = Dropout(config.dropout, rng=rng)

    def forward(self, x, mask=None, cache=None, turn=None):
        if mask is None and cache is None and self.is_plain():
            return self.in_one_operation(x)
        x = self.add(x, self.attn, self.ln1(x), mask, cache, turn)
        return self.add(x, self.mlp, self.ln2(x))

    def add(self, x, part, *inputs):
        """x plus what the part says, of which training may drop some; what drops nothing adds in one operation."""
        if self.drops():
            return x + self.drop(part(*inputs))
        return part(*inputs, add_to=x)

    def drops(self):
        return self.drop.p > 0 and self.training

    def is_plain(self):
        """Is this GPT-2's block, which is one operation? Not where a layer is of another kind (quantised), and not while
        detect_anomaly is to name the operation that fails."""
        c, (qkv, mix, fc, narrow) = self.attn.config, (self.attn.qkv, self.attn.proj, self.mlp.fc, self.mlp.proj)
        return c.plain_block and c.bias and c.attention_bias and not self.drops() and not anomaly_detection() \
            and type(qkv) is type(mix) is type(fc) is type(narrow) is Linear \
            and qkv.adapter is mix.adapter is fc.adapter is narrow.adapter is None and self.ln1.eps == self.ln2.eps

    def in_one_operation(self, x):
        """The same, to the bit, with less of the engine around it."""
        layers = self.ln1, self.attn.qkv, self.attn.proj, self.ln2, self.mlp.fc, self.mlp.proj
        return F.gpt2_block(x, layers, n_head=self.attn.config.n_head, eps=self.ln1.eps)


class ParallelBlock(Block):
    """Look and think at the same time: both parts read the same x (GPT-NeoX)."""

    def forward(self, x, mask=None, cache=None, turn=None):
        y = self.add(x, self.attn, self.ln1(x), mask, cache, turn)
        return self.add(y, self.mlp, self.ln2(x))


class PostNormBlock(Block):
    """Norms come after each sum, as in the first transformers [ATTN] and in BERT."""

    def forward(self, x, mask=None, cache=None, turn=None):
        x = self.ln1(self.add(x, self.attn, x, mask, cache, turn))
        return self.ln2(self.add(x, self.mlp, x))


BLOCKS = {"pre": Block, "parallel": ParallelBlock, "post": PostNormBlock}


class GPT(Module):
    """Embeddings of token and position, blocks, a norm, and a head, which may share its weights with the token embedding.

    Weights start as N(0, 0.02²), those that write into the residual stream smaller by √(2·layers), biases at 0; the
    draws, and those of dropout, come from `rng` (seed 0 where none is given).
    """
    checkpoint_blocks = False               # True: backward computes each block again instead of keeping what it computed

    def __init__(self, config, *, rng=None):
        rng = np.random.default_rng(0) if rng is None else rng
        self.config = config
        self.wte = Embedding(config.vocab_size, config.n_embd, rng=rng)
        self.wpe = Embedding(config.block_size, config.n_embd, rng=rng) if config.position == "learned" else None
        self.drop = Dropout(config.dropout, rng=rng)
        self.blocks = [BLOCKS[config.order](config, rng=rng) for _ in range(config.n_layer)]
        self.ln_f = norm(config)
        self.head = None if config.tied else Linear(config.n_embd, config.vocab_size, bias=False, rng=rng)
        self._initialise(rng)

    def _initialise(self, rng):
        for name, p in self.named_parameters():
            if p.ndim == 2:
                residual = name.endswith("proj.weight")
                p.data[...] = rng.normal(0, 0.02 / (2 * self.config.n_layer) ** (0.5 if residual else 0), p.shape)
            elif name.endswith("bias"):
                p.data[...] = 0

    def forward(self, idx, *, mask=None, cache=None, documents=None):
        """Scores of every next token: idx int (B, T) -> Tensor (B, T, V). See `hidden` for mask, cache and documents."""
        return self.scores(self.hidden(idx, mask=mask, cache=cache, documents=documents))

    def scores(self, x):
        """The head: (..., C) -> (..., V)"""
        return F.linear(x, self.wte.weight) if self.head is None else self.head(x)

    def hidden(self, idx, *, mask=None, cache=None, documents=None):
        """What the head reads: (B, T) -> (B, T, C).

        mask, bool (B, T): which tokens are real. Padding on the right needs none, since no token sees what comes after
        it; padding on the left does. cache: a KVCache that holds the past; idx then holds only the new tokens. documents,
        int (B, T): which of several texts in a row each token belongs to; each of them is read as if it were alone, its
        positions from 0. All, and the targets of `loss`, may lie on the host while the model is on the GPU: they are moved.
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
        places = None if mask is None else (mask.cumsum(-1) - 1).clip(0, None)[:, past:]          # padding does not count
        keys = None if mask is None else mask[:, None, None, :]                   # (B, 1, 1, S)
        if documents is not None:
            if mask is not None or cache is not None:
                raise ValueError("documents share a row in training: they go with neither a mask nor a cache")
            seen = own_past(beside(F.raw(documents), self.wte.weight.data))       # (B, T, T)
            keys, places = seen[:, None], seen.sum(-1) - 1
        x, turn = self.embedded(idx, past, places)                                # (B, T, C)
        x = self.drop(x)
        for i, block in enumerate(self.blocks):
            if self.checkpoint_blocks and cache is None:
                x = F.checkpoint(block, x, keys, None, turn)
            else:
                x = block(x, keys, cache and cache.layers[i], turn)
        return self.ln_f(x)

    def embedded(self, idx, past, places):
        """(vectors of tokens where they stand, the angles that rotary embedding turns by): (B, T) -> (B, T, C), None or cos
        and sin. The tokens stand at `past` and after it, where `places` (B, T) does not say otherwise."""
        if self.wpe is not None and places is None and type(self.wte) is Embedding:          # not quantised
            return F.placed_embedding(idx, self.wte.weight, self.wpe.weight, start=past), None
        x, places = self.wte(idx), np.arange(past, past + idx.shape[1]) if places is None else places
        return (x, rotary_angles(self.config, places, x.data)) if self.wpe is None else (x + self.wpe(places), None)

    def loss(self, idx, targets, documents=None, *, mask=None):
        """Mean −log p(target) over the targets that are not −100: idx, targets int (B, T) -> scalar Tensor."""
        return F.cross_entropy(self(idx, mask=mask, documents=documents), targets)


def own_past(documents):
    """Which tokens each token sees where several texts share a row: those of its own up to itself. int (B, T) -> bool
    (B, T, T)"""
    t = array_module(documents).arange(documents.shape[-1])
    return (documents[:, :, None] == documents[:, None, :]) & (t[:, None] >= t)
