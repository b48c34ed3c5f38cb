"""Layers: parameters with names, and what they compute."""
from contextlib import contextmanager

import numpy as np

from . import functional as F
from .backend import beside
from .tensor import FLOAT, Tensor


class Parameter(Tensor):
    """A tensor that training changes. Modules find it by its type."""
    __slots__ = ()

    def __init__(self, data, requires_grad=True, *, dtype=None, device=None):
        super().__init__(data, requires_grad, dtype=dtype, device=device)


class Module:
    """Something with parameters: its attributes that are Parameters, Modules, or lists and dicts of these, in the order
    in which they were set. A parameter that stands in two places (a tied weight) counts once, under its first name."""
    training = True

    def __call__(self, *args, **kwargs):
        return self.forward(*args, **kwargs)

    def children(self):
        """(name, Parameter or Module) directly below."""
        for name, value in vars(self).items():
            inner = enumerate(value) if isinstance(value, (list, tuple)) else \
                value.items() if isinstance(value, dict) else None
            for key, item in ([(name, value)] if inner is None else ((f"{name}.{k}", v) for k, v in inner)):
                if isinstance(item, (Parameter, Module)):
                    yield key, item

    def modules(self):
        """This module and all below it."""
        yield self
        for _, child in self.children():
            if isinstance(child, Module):
                yield from child.modules()

    def named_parameters(self, prefix="", *, _seen=None):
        """(name, Parameter) for each parameter once, e.g. ("blocks.0.attn.qkv.weight", …)."""
        seen = set() if _seen is None else _seen
        for name, child in self.children():
            if isinstance(child, Module):
                yield from child.named_parameters(f"{prefix}{name}.", _seen=seen)
            elif id(child) not in seen:
                seen.add(id(child))
                yield prefix + name, child

    def parameters(self):
        return [p for _, p in self.named_parameters()]

    def n_parameters(self):
        return sum(p.size for p in self.parameters())

    def train(self, mode=True):
        """Switch dropout on (or off) here and below."""
        for m in self.modules():
            m.training = mode
        return self

    def eval(self):
        return self.train(False)

    def requires_grad_(self, wanted=True):
        """Freeze (False) or thaw every parameter."""
        for p in self.parameters():
            p.requires_grad = wanted
        return self

    def to(self, where):
        """Every parameter in another floating-point type, or on the device "cpu" or "cuda". An optimizer is made
        afterwards: it holds the parameters' memory."""
        for p in self.parameters():
            moved = F.to(p.detach(), where).data
            if moved is not p.data:
                p.data, p.grad, p.grad_buffer = moved, None, None
        return self

    @property
    def device(self):
        """Where the parameters are: "cpu" or "cuda"; None where there are none."""
        return next((p.device for p in self.parameters()), None)

    def state_dict(self):
        """{name: array}; the arrays are the parameters' own, not copies."""
        return {name: p.data for name, p in self.named_parameters()}

    def load_state_dict(self, state, *, strict=True):
        """Copy arrays into the parameters of the same names. Any difference in names or shapes raises, with a list of
        all of them, before anything is changed; strict=False forgives missing and surplus names, not shapes."""
        own = dict(self.named_parameters())
        wrong = [f"  {n}: shape {tuple(state[n].shape)}, the model has {p.shape}"
                 for n, p in own.items() if n in state and tuple(state[n].shape) != p.shape]
        if strict:
            wrong += [f"  {n}: missing, the model has shape {p.shape}" for n, p in own.items() if n not in state]
            wrong += [f"  {n}: unknown to the model, shape {tuple(a.shape)}" for n, a in state.items() if n not in own]
        if wrong:
            raise ValueError(f"the state does not fit {type(self).__name__}:\n" + "\n".join(wrong))
        for name, p in own.items():
            if name in state:
                p.data[...] = beside(state[name], p.data)


@contextmanager
def evaluating(*models):
    """with evaluating(model): dropout is off inside, and afterwards as it was before."""
    before = [(m, m.training) for model in models for m in model.modules()]
    for m, _ in before:
        m.training = False
    try:
        yield
    finally:
        for m, training in before:
            m.training = training


class Linear(Module):
    """y = x Wᵀ + b, weight (out, in). Initial weights and bias are uniform in ±1/√in, drawn from `rng`. An adapter
    (models/lora.py) adds its share to y."""
    adapter = None

    def __init__(self, n_in, n_out, *, bias=True, rng):
        bound = n_in ** -0.5
        self.weight = Parameter(rng.uniform(-bound, bound, (n_out, n_in)).astype(FLOAT))
        self.bias = Parameter(rng.uniform(-bound, bound, n_out).astype(FLOAT)) if bias else None

    def forward(self, x, add_to=None):
        """x (..., in) -> (..., out), plus the tensor `add_to` of that shape, if there is one."""
        y = F.linear(x, self.weight, self.bias) if add_to is None else F.linear_add(add_to, x, self.weight, self.bias)
        return y if self.adapter is None else self.adapter(x, y)

    def whole(self):
        """The weight with the adapter's share in it: an array (out, in), to read only."""
        return self.weight.data if self.adapter is None else self.adapter.added_to(self.weight.data)


class Embedding(Module):
    """A table of `n` vectors of size `size`, weight (n, size), initially N(0, 1) drawn from `rng`."""

    def __init__(self, n, size, *, rng):
        self.weight = Parameter(rng.standard_normal((n, size), dtype=FLOAT))

    def forward(self, idx):
        return F.embedding(idx, self.weight)


class LayerNorm(Module):
    """Rows of mean 0 and variance 1, times weight, plus bias (Ba et al. 2016 [LN])."""

    def __init__(self, size, *, eps=1e-5, bias=True):
        self.weight = Parameter(np.ones(size, FLOAT))
        self.bias = Parameter(np.zeros(size, FLOAT)) if bias else None
        self.eps = eps

    def forward(self, x):
        return F.layer_norm(x, self.weight, self.bias, eps=self.eps)


class RMSNorm(Module):
    """Rows of mean square 1, times weight (Zhang and Sennrich 2019 [RMS])."""

    def __init__(self, size, *, eps=1e-6):
        self.weight = Parameter(np.ones(size, FLOAT))
        self.eps = eps

    def forward(self, x):
        return F.rms_norm(x, self.weight, eps=self.eps)


class Dropout(Module):
    """Zeros with probability p while training, nothing in eval mode; the draws come from the generator `rng`."""

    def __init__(self, p, *, rng):
        F.check_probability(p)
        self.p, self.rng = p, rng

    def forward(self, x):
        return F.dropout(x, self.p, rng=self.rng) if self.training and self.p else x
