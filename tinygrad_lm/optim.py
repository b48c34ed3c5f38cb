"""How parameters move: SGD, AdamW, clipping of the gradient, and the learning rate over time."""
import operator
from math import cos, isfinite, pi, sqrt

import numpy as np

from .backend import array_module, beside, device_of
from .kernels import fits_kernel, launch
from .parallel import share_out

BLOCK = 1 << 16                     # elements updated at a time: what a step touches stays in the cache


class Optimizer:
    """Keeps all parameters in one flat buffer and all their gradients in another, so that an update is a few calls for
    the whole model. Each parameter's `.data` becomes a view of the first, its `.grad` lies in the second.

    Parameters that decay (matrices and embeddings) come first, then the others (norms and biases: one axis).

    Parameters in float16 are rounded copies: `flat` holds the master weights, in float32, because a step is often smaller
    than half of float16's distance to the next number (Micikevicius et al. 2018 [MIXED]). The parameters are views of
    `home` and their gradients of `home_grad`, in float16; `scaler` says by how much the loss is multiplied, and `unscale`
    brings the gradient to float32. For other types home is flat, home_grad is flat_grad, and there is no scaler.
    """

    def __init__(self, params, lr, weight_decay):
        params = list(params)
        self.n_parameters = sum(p.size for p in params)                         # frozen ones, too: what a step computes with
        params = [p for p in params if p.requires_grad]
        if not params:
            raise ValueError("there is nothing to optimize: no parameter requires a gradient")
        if len({p.device for p in params}) > 1:
            raise TypeError("parameters on one device, please, not some on the CPU and some on the GPU: use model.to")
        if len({p.dtype for p in params}) > 1:
            raise TypeError(f"parameters of one type, please, not {sorted({str(p.dtype) for p in params})}: use model.to")
        self.params = sorted(params, key=lambda p: p.ndim < 2)                   # a stable sort
        self.lr, self.weight_decay, self.step_count = lr, weight_decay, 0
        self.grad_norm = None                                                    # of the last step, before it was clipped
        self.replicas = []                                                       # of the model: see parallel.py
        xp = array_module(params[0].data)
        self.home = self.flat = xp.concatenate([p.data.reshape(-1) for p in self.params])
        self.home_grad = self.flat_grad = xp.zeros_like(self.flat)
        self.scaler = None
        if self.flat.dtype == np.float16:
            self.flat, self.flat_grad = self.flat.astype(np.float32), self.flat_grad.astype(np.float32)
            self.scaler = LossScaler()
        self.decaying = sum(p.size for p in self.params if p.ndim >= 2)           # so many elements, the first, decay
        self.places, start = [], 0                                               # (parameter, from, to)
        for p in self.params:
            stop = start + p.size
            self.places.append((p, start, stop))
            p.data = self.home[start:stop].reshape(p.shape)
            p.grad_buffer, p.grad = self.home_grad[start:stop].reshape(p.shape), None
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
        self.prepare()

        def update(block, decaying):
            self.update(self.flat[block], self.flat_grad[block], block, decaying if self.weight_decay else 0)
            if self.scaler:
                self.home[block] = self.flat[block]

        share_out(update, self._blocks(), workers)

    def prepare(self):
        """What an update needs to have ready that changes from step to step."""

    @property
    def loss_scale(self):
        """The seed of backward(): the loss's gradient with respect to itself, 1 where nothing is scaled."""
        return self.scaler.scale if self.scaler else 1.0

    def unscale(self):
        """Bring the gradient of the scaled loss back to size, in float32, before clip_grad_norm_ and step. False where it
        overflowed: the step is to be left out, and the next one's loss is scaled less."""
        if not self.scaler:
            return True
        if fits_kernel(self.home_grad):
            factor = array_module(self.flat).full(1, 1 / self.scaler.scale, np.float32)
            finite = not unscale_kernel(self, factor).item()
            self.scaler.update(finite)
            return finite
        blocks, finite = self._blocks(), True
        for block, _ in blocks:
            self.flat_grad[block] = self.home_grad[block]
            self.flat_grad[block] *= 1 / self.scaler.scale
        for block, _ in blocks:
            finite = finite and bool(array_module(self.flat).isfinite(self.flat_grad[block]).all())
        self.scaler.update(finite)
        return finite

    def clip_grad_norm_(self, max_norm, *, workers=1):
        """The function of this name for all its parameters, in a few calls over the flat buffer."""
        blocks = self._blocks()
        if fits_kernel(self.flat_grad):
            return clip_kernel([self.flat_grad[block] for block, _ in blocks], max_norm)
        squares = share_out(lambda block, decaying: dot(self.flat_grad[block]), blocks, workers)
        scale, norm = clip_scale(squares, max_norm)
        if scale < 1:
            share_out(lambda block, decaying: operator.imul(self.flat_grad[block], scale), blocks, workers)
        return norm

    def _blocks(self):
        """(slice, how many of its elements, the first, decay): the stretches of `_runs`, cut into pieces that stay in the
        cache while an update passes over them several times. A GPU takes at once all that decay, and all that do not."""
        blocks, cut = [], self.decaying
        for start, stop in self._runs():
            starts = range(start, stop, BLOCK) if self.device == "cpu" else [start, cut] if start < cut < stop else [start]
            blocks += [(slice(a, b), min(max(cut - a, 0), b - a)) for a, b in zip(starts, [*starts[1:], stop])]
        return blocks

    def _runs(self):
        """(start, stop): stretches of the flat buffer whose gradients are there, as long as possible."""
        home, runs, end = self.home, [], None
        if all([p.grad is p.grad_buffer is not None and p.data.base is home for p, _, _ in self.places]):
            return [(0, home.size)]                                              # all there, in their places: as usual
        for p, start, stop in self.places:
            if p.data.base is not home:
                raise RuntimeError("a parameter has left this optimizer's buffer, because a later optimizer or model.to() "
                                   "took it: make the optimizer anew")
            if p.grad is None:
                continue
            if p.grad is not p.grad_buffer:                                      # somebody set .grad by hand
                p.grad_buffer[...] = p.grad
            if end == start:                                                     # it continues the last one
                start = runs.pop()[0]
            runs.append((start, stop))
            end = stop
        return runs

    def state_dict(self):
        """{name: array} with all that a later load_state_dict needs to go on exactly here."""
        state = {"step_count": np.array(self.step_count)} | {name: getattr(self, name) for name in self._kept()}
        return state | {"loss_scale": np.array([self.scaler.scale, self.scaler.good])} if self.scaler else state

    def _kept(self):
        """The names of the buffers that a checkpoint holds; the model's parameters are the model's to save."""
        return (*self.buffers, "flat") if self.scaler else self.buffers

    def load_state_dict(self, state):
        for name in self._kept():
            if name not in state:
                raise ValueError(f"the optimizer's state has no `{name}`, which {type(self).__name__} keeps: it belongs to "
                                 f"another kind of optimizer, being {', '.join(state)}")
            if state[name].shape != self.flat.shape:
                raise ValueError(f"the optimizer's state {name} has {state[name].size} elements, its parameters "
                                 f"{self.flat.size}: it belongs to another model")
        for name in self._kept():
            getattr(self, name)[...] = beside(state[name], self.flat)
        if self.scaler:
            self.home[...] = self.flat
            self.scaler.scale, self.scaler.good = float(state["loss_scale"][0]), int(state["loss_scale"][1])
        self.step_count = int(state["step_count"])


class LossScaler:
    """By how much to multiply a loss so that its gradients fit into float16 [MIXED], which knows nothing below 6e-8 and
    nothing above 65504: twice as much after `growth` good steps in a row, half as much after an overflow, whose step is
    left out. Scales are powers of 2: no digit of a gradient changes."""

    def __init__(self, scale=2.0 ** 15, *, growth=2000, least=2.0 ** -14, most=2.0 ** 24):
        self.scale, self.growth, self.least, self.most = scale, growth, least, most
        self.good = 0                                    # steps since the scale last changed

    def update(self, finite):
        self.good = self.good + 1 if finite else 0
        if not finite:
            if self.scale <= self.least:
                raise FloatingPointError(f"the gradient overflows float16 even with the loss scaled by {self.scale}: lower "
                                         "the learning rate, or train in float32")
            self.scale /= 2
        elif self.good == self.growth:
            self.scale, self.good = min(2 * self.scale, self.most), 0


class SGD(Optimizer):
    """v ← μ v + g;  w ← w − lr v  (g with weight_decay · w added, for matrices)."""
    buffers = ("velocity",)

    def __init__(self, params, lr, *, momentum=0.0, weight_decay=0.0):
        super().__init__(params, lr, weight_decay)
        self.momentum = momentum
        self.velocity = array_module(self.flat).zeros_like(self.flat)

    def update(self, w, g, block, decaying):
        v = self.velocity[block]
        v *= self.momentum
        v += g
        if decaying:
            v[:decaying] += self.weight_decay * w[:decaying]
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
        self.rates, self.go = xp.zeros(3, np.float32), xp.zeros(1, np.int32)     # for the kernel; nothing stops this step

    def prepare(self):
        if fits_kernel(self.flat):
            self.rates[...] = array_module(self.flat).asarray(adamw_rates(self, self.step_count))

    def update(self, w, g, block, decaying):
        if fits_kernel(w):
            return adamw_kernel(w, g, self.m[block], self.v[block], self.rates, self.go, self.betas, bool(decaying))
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
        if decaying:
            decayed = w[:decaying]
            decayed *= 1 - self.lr * self.weight_decay
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
    if grads and all(fits_kernel(g) and g.dtype == np.float32 for g in grads):
        return clip_kernel(grads, max_norm)
    scale, norm = clip_scale([dot(g.reshape(-1)) for g in grads], max_norm)
    if scale < 1:
        for g in grads:
            g *= scale
    return norm


def dot(g):
    return float(g @ g)


def clip_scale(squares, max_norm):
    """(what brings a gradient of these squared norms down to max_norm, its norm)"""
    norm = finite(sqrt(sum(squares)))
    return (max_norm / norm if norm > max_norm else 1.0), norm


def finite(norm):
    if not isfinite(norm):
        raise FloatingPointError("the gradient is NaN or infinite: lower the learning rate, or find the operation with "
                                 "`with tinygrad_lm.detect_anomaly():` around the step")
    return norm


def warmup_cosine(step, *, lr, warmup, total, floor=0.0):
    """The learning rate at `step` (0, 1, …): a straight rise over `warmup` steps, then half a cosine down to `floor` at
    `total` (Loshchilov and Hutter 2017 [SGDR])."""
    if step < warmup:
        return lr * (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, total - warmup))
    return floor + 0.5 * (lr - floor) * (1 + cos(pi * done))


# ---- on the GPU: ops/adamw.cu -----------------------------------------------------------------------------------------

def adamw_rates(opt, step):
    """What AdamW needs anew at each step (1, 2, …): 1 − lr λ, and ε and lr with the corrections of the step's number in."""
    b1, b2 = opt.betas
    root = sqrt(1 - b2 ** step)
    return np.array([1 - opt.lr * opt.weight_decay, opt.eps * root, opt.lr * root / (1 - b1 ** step)], opt.flat.dtype)


def update_kernels(opt, max_norm, numbers, loss):
    """What unscale, clip_grad_norm_ and AdamW's step do, without the host, which may be recording (graph.py): it reads
    nothing here. -> the gradient's norm before it is clipped (1,)

    numbers (4,): adamw_rates of this step and 1 / loss_scale; loss float32 (); both on the device. Where loss or norm is
    not finite, weights and moments stay as they are.
    """
    if opt.scaler:
        unscale_kernel(opt, numbers[3:])                 # where this says stop, the norm does
    blocks = opt._blocks()
    norm, stop = launch_clip([opt.flat_grad[block] for block, _ in blocks], max_norm, loss)
    for block, decaying in blocks:
        adamw_kernel(opt.flat[block], opt.flat_grad[block], opt.m[block], opt.v[block], numbers, stop, opt.betas,
                     bool(decaying))
        if opt.scaler:
            opt.home[block] = opt.flat[block]
    return norm


def adamw_kernel(w, g, m, v, rates, stop, betas, decays):
    b1, b2 = betas
    launch("adamw.cu", "adamw", _blocks_for(w.size), 256,
           (w, g, m, v, rates, stop, np.float32(b1), np.float32(1 - b1), np.float32(b2), np.float32(1 - b2),
            np.int32(decays), np.int32(w.size)))


def unscale_kernel(opt, factor):
    """The gradient times factor (1,), in float32, in one pass -> stop, int32 (1,): 1 where it overflowed float16."""
    xp = array_module(opt.home_grad)
    stop = xp.zeros(1, np.int32)
    for block, _ in opt._blocks():
        g = opt.flat_grad[block]
        launch("adamw.cu", "unscale", _blocks_for(g.size), 256, (opt.home_grad[block], g, factor, stop, np.int32(g.size)))
    return stop


def clip_kernel(grads, max_norm):
    """clip_grad_norm_ of arrays on the GPU: all is launched before the host asks for the norm, once."""
    return finite(float(launch_clip(grads, max_norm)[0].item()))


def launch_clip(grads, max_norm, loss=None):
    """(norm, stop), each (1,): the norm before, and stop as norm_kernel gives it. Where that is 1, nothing is scaled."""
    norm, stop = norm_kernel(grads, loss)
    for g in grads:
        if g.size:
            launch("adamw.cu", "clip", _blocks_for(g.size), 256, (g, norm, stop, np.float32(max_norm), np.int32(g.size)))
    return norm, stop


def norm_kernel(grads, loss=None):
    """The joint Euclidean norm (1,) of these arrays, which stays on the device: every block leaves a sum of squares, and
    one block sums those. Beside it stop, int32 (1,): 1 where the norm is not finite, or the loss, if there is one."""
    xp = array_module(grads[0]) if grads else np
    blocks = [_blocks_for(g.size) for g in grads]
    parts, norm, stop, start = xp.zeros(sum(blocks), np.float32), xp.zeros(1, np.float32), xp.zeros(1, np.int32), 0
    for g, n in zip(grads, blocks):
        if n:
            launch("adamw.cu", "sum_of_squares", n, 256, (g, parts[start:start + n], np.int32(g.size)))
        start += n
    if start:
        loss = norm if loss is None else xp.ascontiguousarray(loss, dtype=np.float32).reshape(1)
        launch("adamw.cu", "norm_of_parts", 1, 256, (parts, loss, norm, stop, np.int32(start)))
    return norm, stop


def _blocks_for(n):
    """Blocks of 256 threads that walk over n elements: four elements a thread, 1056 blocks at most (8 for each of an
    H200's 132 multiprocessors). By n alone, so that sums come out the same on every card."""
    return min(1056, -(-n // 1024))
