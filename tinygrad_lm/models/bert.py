"""BERT: read the whole sentence at once, and say what stood where a word is hidden (Devlin et al. 2019 [BERT])."""
import numpy as np

from .. import functional as F
from ..backend import beside
from ..modes import no_grad
from ..nn import Dropout, Embedding, LayerNorm, Linear, Module, Parameter, evaluating
from ..tensor import FLOAT, Tensor
from .transformer import ACTIVATIONS, BLOCKS, norm


class BERT(Module):
    """Embeddings of token, position and segment, a norm, blocks that see in both directions, and a head that guesses
    hidden tokens: a layer, a bend, a norm, and the embedding once more.

    config: a GPTConfig with order="post", causal=False and segments; its draws come from `rng` (seed 0 where none is given).
    head=False: the body alone, as checkpoints for sentence embeddings have it.
    """

    def __init__(self, config, *, rng=None, head=True):
        if config.causal or config.position != "learned" or not config.tied:
            raise ValueError("a BERT sees in both directions, learns its positions and shares its embedding: give causal=False, "
                             'position="learned" and tied=True')
        rng = np.random.default_rng(0) if rng is None else rng
        self.config = config
        C = config.n_embd
        self.wte = Embedding(config.vocab_size, C, rng=rng)
        self.wpe = Embedding(config.block_size, C, rng=rng)
        self.wse = Embedding(config.segments, C, rng=rng) if config.segments else None
        self.ln = norm(config)
        self.drop = Dropout(config.dropout, rng=rng)
        self.blocks = [BLOCKS[config.order](config, rng=rng) for _ in range(config.n_layer)]
        self.head = Head(config, rng=rng) if head else None
        for p in self.parameters():
            if p.ndim == 2:
                p.data[...] = rng.normal(0, 0.02, p.shape)
        for m in self.modules():
            if isinstance(m, Linear):
                m.bias.data[...] = 0

    def forward(self, idx, *, mask=None, segments=None):
        """Scores of every token for every place: idx int (B, T) -> Tensor (B, T, V). See `hidden`."""
        if self.head is None:
            raise RuntimeError("this BERT has no head that guesses tokens: it was made, or its checkpoint saved, without one")
        return F.linear(self.head(self.hidden(idx, mask=mask, segments=segments)), self.wte.weight, self.head.bias)

    def hidden(self, idx, *, mask=None, segments=None):
        """What each token means in its sentence: (B, T) -> (B, T, C).

        mask, bool (B, T): which tokens are real, not padding. segments, int (B, T): to which of two texts a token belongs;
        all to the first where it is left out.
        """
        idx = Tensor(idx).data
        B, T = idx.shape
        if T > self.config.block_size:
            raise ValueError(f"the sequence has {T} tokens and the model's block_size is {self.config.block_size}: shorten it")
        x = self.wte(idx) + self.wpe.weight[:T]                                   # (B, T, C)
        if self.wse is not None:
            x = x + (self.wse.weight[0] if segments is None else self.wse(segments))
        x = self.drop(self.ln(x))
        keys = None if mask is None else beside(F.raw(mask), x.data)[:, None, None, :]                 # (B, 1, 1, T)
        for block in self.blocks:
            x = block(x, keys)
        return x

    def loss(self, idx, targets, *, mask=None, segments=None):
        """Mean −log p(target) over the targets that are not −100: idx, targets int (B, T) -> scalar Tensor."""
        return F.cross_entropy(self(idx, mask=mask, segments=segments), targets)


class Head(Module):
    """What the embedding is asked with, to guess a token."""

    def __init__(self, config, *, rng):
        self.fc = Linear(config.n_embd, config.n_embd, rng=rng)
        self.ln = LayerNorm(config.n_embd, eps=config.norm_eps)
        self.bias = Parameter(np.zeros(config.vocab_size, FLOAT))
        self.bend = config.activation

    def forward(self, x):
        return self.ln(ACTIVATIONS[self.bend](self.fc(x)))


def hide(idx, *, hidden, vocab_size, rng, share=0.15, real=None):
    """Tokens to guess, and a text in which they are hidden: (inputs, targets), both int (B, T); targets are −100 but at a
    `share` of the places. Of those, 80 % become the token `hidden`, 10 % another at random, 10 % stay, so that the model
    must know what every token means ([BERT], sec. 3.1). real, bool (B, T): which may be chosen (no padding, no marks)."""
    chosen = rng.random(idx.shape) < share
    if real is not None:
        chosen &= real
    targets, inputs, how = np.where(chosen, idx, -100), idx.copy(), rng.random(idx.shape)
    inputs[chosen & (how < 0.8)] = hidden
    other = chosen & (how >= 0.8) & (how < 0.9)
    inputs[other] = rng.integers(0, vocab_size, other.sum())
    return inputs, targets


def sentence_embedding(model, idx, mask):
    """The mean of what the real tokens mean, of length 1: idx int (B, T), mask bool (B, T) -> (B, C), on the host."""
    x = model.hidden(idx, mask=mask).numpy() * mask[..., None]
    x = x.sum(1) / np.maximum(mask.sum(1, keepdims=True), 1)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def embed(model, tokenizer, texts, *, longest=256):
    """What each text means, as a vector of length 1: a list of str -> (B, C). Of a text longer than `longest` tokens, with the
    marks around it, the rest is not read; all-MiniLM-L6-v2 was tuned on 256 at most."""
    room = longest - len(tokenizer.frame([]))
    ids = [tokenizer.frame(tokenizer.encode(text)[:room]) for text in texts]
    T = max(map(len, ids))
    idx, mask = (np.stack([np.pad(x, (0, T - len(i))) for i, x in zip(ids, rows)])
                 for rows in (ids, [np.ones(len(i), bool) for i in ids]))
    with no_grad(), evaluating(model):
        return sentence_embedding(model, idx, mask)
