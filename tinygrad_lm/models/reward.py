"""A language model whose last layer gives a number instead of a word: how good is this answer (a reward model), or how
good will it turn out to be (a value model)?"""
import copy

import numpy as np

from .. import functional as F
from ..backend import array_module, beside
from ..nn import Module, Parameter
from ..tensor import FLOAT


class RewardModel(Module):
    """A scalar head on a copy of a GPT's body.

    The head starts as N(0, 1/(C+1)) drawn from `rng` (Stiennon et al. 2020 [SUMM]), or at zero where `rng` is None: a
    value model that knows nothing yet. `mean` and `std` normalise the reward; see `normalise`.
    """

    def __init__(self, gpt, *, rng=None):
        C = gpt.config.n_embd
        self.config = gpt.config
        self.body = copy.deepcopy(gpt)
        for p in self.body.parameters():                                # a copy belongs to no optimizer
            p.grad = p.grad_buffer = None
            p.requires_grad = True
        weight = np.zeros((1, C)) if rng is None else rng.normal(0, (C + 1) ** -0.5, (1, C))
        device = gpt.device
        self.weight = Parameter(weight.astype(FLOAT), device=device)
        self.bias = Parameter(np.zeros(1, FLOAT), device=device)
        self.mean = Parameter(np.zeros(1, FLOAT), requires_grad=False, device=device)
        self.std = Parameter(np.ones(1, FLOAT), requires_grad=False, device=device)

    def values(self, idx, *, mask=None):
        """A number for every place: what the text up to there is worth. (B, T) -> Tensor (B, T)"""
        B, T = idx.shape
        scores = F.linear(self.body.hidden(idx, mask=mask), self.weight, self.bias).reshape(B, T)
        return (scores - self.mean) / self.std

    def forward(self, idx, last, *, mask=None):
        """The reward of each sequence, read at its last token, not at the last column, which may be padding.

        idx int (B, T), last int (B,): the index of the last token -> Tensor (B,)
        """
        values = self.values(idx, mask=mask)
        return values[array_module(values.data).arange(len(idx)), beside(last, values.data)]

    def normalise(self, rewards):
        """From now on, answers that had these rewards have mean 0 and standard deviation 1."""
        if not rewards.std() > 0:
            raise ValueError(f"these {len(rewards)} rewards are all {rewards[0]:g}: without a spread nothing can be normalised")
        self.mean.data[...] += self.std.data * float(rewards.mean())
        self.std.data[...] *= float(rewards.std())


class ValueHead(Module):
    """A scalar head that reads a policy's own last hidden states: one trunk for both saves a second model's work, and
    the value's gradient reaches the policy. It starts at zero."""

    def __init__(self, gpt):
        self.weight = Parameter(np.zeros((1, gpt.config.n_embd), FLOAT), device=gpt.device)
        self.bias = Parameter(np.zeros(1, FLOAT), device=gpt.device)

    def forward(self, h):
        """(B, T, C) -> Tensor (B, T)"""
        return F.linear(h, self.weight, self.bias).reshape(*h.shape[:2])
