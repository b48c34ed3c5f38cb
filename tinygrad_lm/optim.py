"""How parameters move: SGD, AdamW, clipping of the gradient, and the learning rate over time."""
import operator
from math import cos, isfinite, pi, sqrt

import numpy as np

from .backend import array_module, beside, device_of
from .parallel import share_out

BLOCK = 1 << 16                     # elements updated at a time: what a step touches stays in the cache


class Optimizer:
    """Keeps all parameters in one flat buffer and all their gradients in another, so that an update is a few calls for
    the whole model. Each parameter's `.data` becomes a view of the first, its `.grad` lies in the second.

    Parameters that decay (matrices and embeddings) come first, then the others (norms and biases: one axis).
    """

    def __init__(self, params, lr, weight_decay):
        params = [p for p in params if p.requires_grad]
        if not params:
            raise ValueError("there is nothing to optimize: no parameter requires a gradient")
        if len({p.device for p in params}) > 1:
            raise TypeError("parameters on one device, please, not some on the CPU and some on the GPU: use model.to")
        if len({p.dtype for p in params}) > 1:
            raise TypeError(f"parameters of one type, please, not {sorted({str(p.dtype) for p in params})}: use model.to")
        self.params = sorted(params, key=lambda p: p.ndim < 2)                   # a stable sort
        self.lr, self.weight_decay, self.step_count = lr, weight_decay, 0
        self.replicas = []                                                       # of the model: see parallel.py
        xp = array_module(params[0].data)
        self.flat = xp.concatenate([p.data.reshape(-1) for p in self.params])
        self.flat_grad = xp.zeros_like(self.flat)
        self.places, start = [], 0                                               # (parameter, does it decay?, from, to)
        for p in self.params:
            stop = start + p.size
            self.places.append((p, p.ndim >= 2, start, stop))
            p.data = self.flat[start:stop].reshape(p.shape)
            p.grad_buffer, p.grad = self.flat_grad[start:stop].reshape(p.shape), None
            start = stop

    @property
    def device(self):
        """Where the parameters are: "cpu" or "cuda"."""
        return device_of(self.flat)

    def zero_grad(self):
        for p in self.params:
            p.grad = None

    def step(self, *, workers=1):
        """One update from the gradients, its blocks shared among `workers` threads; a parameter without a gradient stays
        as it is."""
        self.step_count += 1
        share_out(lambda block, decays: self.update(self.flat[block], self.flat_grad[block], block,
                                                    self.weight_decay if decays else 0), self._blocks(), workers)

    def clip_grad_norm_(self, max_norm, *, workers=1):
        """The function of this name for all its parameters, in a few calls over the flat buffer."""
        blocks = self._blocks()
        squares = share_out(lambda block, decays: dot(self.flat_grad[block]), blocks, workers)
        scale, norm = clip_scale(squares, max_norm)
        if scale < 1:
            share_out(lambda block, decays: operator.imul(self.flat_grad[block], scale), blocks, workers)
        return norm

    def _blocks(self):
        """(slice, decays): the stretches of `_runs`, cut into pieces that stay in the cache while an update passes over
        them several times."""
        size = BLOCK if self.device == "cpu" else self.flat.size          # a GPU takes a stretch at once
        return [(slice(i, min(i + size, stop)), decays) for start, stop, decays in self._runs()
                for i in range(start, stop, size)]

    def _runs(self):
        """(start, stop, decays): stretches of the flat buffer whose gradients are there, as long as possible."""
        runs, end = [], None
        for p, decays, start, stop in self.places:
            if p.data.base is not self.flat:
                raise RuntimeError("a parameter has left this optimizer's buffer, because a later optimizer or model.to() "
                                   "took it: make the optimizer anew")
            if p.grad is None:
                continue
            if p.grad is not p.grad_buffer:                                      # somebody set .grad by hand
                p.grad_buffer[...] = p.grad
            if end == (start, decays):                                           # it continues the last one
                start = runs.pop()[0]
            runs.append((start, stop, decays))
            end = stop, decays
        return runs

    def state_dict(self):
        """{name: array} with all that a later load_state_dict needs to go on exactly here."""
        return {"step_count": np.array(self.step_count)} | {name: getattr(self, name) for name in self.buffers}

    def load_state_dict(self, state):
        for name in self.buffers:
            if name not in state:
                raise ValueError(f"the optimizer's state has no `{name}`, which {type(self).__name__} keeps: it belongs to "
                                 f"another kind of optimizer, being {', '.join(state)}")
            if state[name].shape != self.flat.shape:
                raise ValueError(f"the optimizer's state {name} has {state[name].size} elements, its parameters "
                                 f"{self.flat.size}: it belongs to another model")
            getattr(self, name)[...] = beside(state[name], self.flat)
        self.step_count = int(state["step_count"])


class SGD(Optimizer):
    """v ← μ v + g;  w ← w − lr v  (g with weight_decay · w added, for matrices)."""
    buffers = ("velocity",)

    def __init__(self, params, lr, *, momentum=0.0, weight_decay=0.0):
        super().__init__(params, lr, weight_decay)
        self.momentum = momentum
        self.velocity = array_module(self.flat).zeros_like(self.flat)

    def update(self, w, g, block, decay):
        v = self.velocity[block]
        v *= self.momentum
        v += g
        if decay:
            v += decay * w
        w -= self.lr * v


class AdamW(Optimizer):
    """m ← β₁ m + (1−β₁) g;  v ← β₂ v + (1−β₂) g²;  w ← (1 − lr λ) w − lr m̂ / (√v̂ + ε)

    with m̂ = m / (1−β₁ᵗ) and v̂ likewise (Kingma and Ba 2015 [ADAM]) and the decay λ apart from the gradient (Loshchilov
    and Hutter 2019 [ADAMW]). Norms and biases do not decay.
    """
    buffers = ("m", "v")

    def __init__(self, params, lr=1e-3, *, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
        super().__init__(params, lr, weight_decay)
        self.betas, self.eps = betas, eps
        xp = array_module(self.flat)
        self.m, self.v = xp.zeros_like(self.flat), xp.zeros_like(self.flat)

    def update(self, w, g, block, decay):
        m, v = self.m[block], self.v[block]
        b1, b2 = self.betas
        root = sqrt(1 - b2 ** self.step_count)           # √v̂ = √v / root, with which fraction and ε are expanded
        xp = array_module(w)
        s = g * (1 - b1)
        m *= b1
        m += s
        xp.multiply(g, g, out=s)
        s *= 1 - b2
        v *= b2
        v += s
        if decay:
            w *= 1 - self.lr * decay
        xp.sqrt(v, out=s)
        s += self.eps * root
        xp.divide(m, s, out=s)
        s *= self.lr * root / (1 - b1 ** self.step_count)
        w -= s


def clip_grad_norm_(params, max_norm):
    """Scale all gradients, in place, so that their joint Euclidean norm is at most `max_norm`; returns the norm before.

    A norm that is not finite raises: a step along it would destroy the model.
    """
    grads = [p.grad for p in params if p.grad is not None]
    scale, norm = clip_scale([dot(g.reshape(-1)) for g in grads], max_norm)
    if scale < 1:
        for g in grads:
            g *= scale
    return norm


def dot(g):
    return float(g @ g)


def clip_scale(squares, max_norm):
    """(what brings a gradient of these squared norms down to max_norm, its norm)"""
    norm = sqrt(sum(squares))
    if not isfinite(norm):
        raise FloatingPointError("the gradient is NaN or infinite: lower the learning rate, or find the operation with "
                                 "`with tinygrad_lm.detect_anomaly():` around the step")
    return (max_norm / norm if norm > max_norm else 1.0), norm


def warmup_cosine(step, *, lr, warmup, total, floor=0.0):
    """The learning rate at `step` (0, 1, …): a straight rise over `warmup` steps, then half a cosine down to `floor` at
    `total` (Loshchilov and Hutter 2017 [SGDR])."""
    if step < warmup:
        return lr * (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, total - warmup))
    return floor + 0.5 * (lr - floor) * (1 + cos(pi * done))
