"""The first neural language model (Bengio et al. 2003 [NPLM]): embeddings of the last few words side by side, a tanh, a
softmax. Words that are used alike come to lie near each other, so that what is learned of one holds for the other."""
from dataclasses import dataclass

import numpy as np

from .. import functional as F
from ..backend import array_module
from ..nn import Dropout, Embedding, Linear, Module
from ..tensor import Tensor

PAD = 0                                 # what stands before the first token


@dataclass(frozen=True)
class FeedForwardConfig:
    """The shape of a FeedForward: it predicts a token from the `context` tokens before it."""
    vocab_size: int
    context: int = 8
    n_embd: int = 32
    n_hidden: int = 128
    dropout: float = 0.0                # on the embeddings and on the hidden layer [DROP], which the paper did not have

    def __post_init__(self):
        for name in ("vocab_size", "context", "n_embd", "n_hidden"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")

    @property
    def block_size(self):
        """How long a sequence is read at once: any length would do."""
        return max(256, 2 * self.context)


class FeedForward(Module):
    """y = b + U tanh(d + H x), where x holds the embeddings of the last `context` tokens side by side ([NPLM] eq. 1, without
    the direct connections from x to y, which did not help there). Read and trained as a GPT is.

    Embeddings start small, N(0, 0.1²): where a token comes to lie is then learned, and not where it happened to start.
    """

    def __init__(self, config, *, rng=None):
        rng = np.random.default_rng(0) if rng is None else rng
        self.config = config
        self.wte = Embedding(config.vocab_size, config.n_embd, rng=rng)               # C
        self.wte.weight.data *= 0.1
        self.hidden = Linear(config.context * config.n_embd, config.n_hidden, rng=rng)       # H, d
        self.head = Linear(config.n_hidden, config.vocab_size, rng=rng)               # U, b
        self.drop = Dropout(config.dropout, rng=rng)

    def forward(self, idx):
        """Scores of every next token: idx int (B, T) -> Tensor (B, T, V)."""
        idx = Tensor(idx).data
        if idx.ndim != 2:
            raise ValueError(f"a FeedForward reads token ids of shape (batch, time), not {idx.shape}")
        B, T = idx.shape
        n = self.config.context
        F.check_ids(idx, self.config.vocab_size, "token id")
        xp = array_module(idx)
        padded = xp.pad(idx, ((0, 0), (n - 1, 0)), constant_values=PAD)               # (B, n − 1 + T)
        past = padded[:, xp.arange(T)[:, None] + xp.arange(n)]                        # (B, T, n)
        x = self.drop(self.wte(past).reshape(B, T, n * self.config.n_embd))
        return self.head(self.drop(self.hidden(x).tanh()))

    def loss(self, idx, targets):
        """Mean −log p(target) over the targets that are not −100: idx, targets int (B, T) -> scalar Tensor."""
        return F.cross_entropy(self(idx), targets)


def neighbours(vectors, i):
    """The other rows, the nearest first, by the cosine of the angle to row i: (indices, cosines), both (V − 1,)."""
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
    cosines = unit @ unit[i]
    order = np.argsort(-cosines, kind="stable")
    order = order[order != i]
    return order, cosines[order]


def plane(vectors):
    """The rows seen from the side on which they differ most (their first two principal components): (V, C) -> (V, 2)"""
    centred = vectors - vectors.mean(0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    return u[:, :2] * s[:2]
