"""Our side: what bench asks of this library."""
from functools import lru_cache

import numpy as np

from .. import functional as F
from ..backend import keep_memory_warm
from ..generate import generate
from ..models import GPT, GPTConfig
from ..optim import AdamW
from ..parallel import one_blas_thread
from ..tensor import Tensor
from ..train import train_step
from .clock import forward_and_backward_ms, median_ms


@lru_cache(maxsize=1)                            # the rounds of one row follow one another: its model is built once
def training(V, T, C, layers, heads, batch):
    """A step on one repeated batch, as a function that returns the loss."""
    model = GPT(GPTConfig(V, T, layers, heads, C))
    opt = AdamW(model.parameters(), lr=1e-3)
    idx, targets = np.random.default_rng(1).integers(0, V, (2, batch, T))
    return lambda: train_step(model, opt, idx, targets, max_norm=1.0)


def step(*shape, seconds):
    """Milliseconds of forward, backward, clip and AdamW."""
    return median_ms(training(*shape), seconds)


@lru_cache(maxsize=1)
def writer(V, T, C, layers, heads, batch):
    model = GPT(GPTConfig(V, T, layers, heads, C))
    prompt = np.random.default_rng(1).integers(0, V, (batch, T // 16))
    rng = np.random.default_rng(2)
    return lambda n: generate(model, prompt, n, rng=rng)


def tokens_per_second(*shape, seconds):
    """New tokens of all sequences a second, from a prompt of a sixteenth of the block to its end."""
    _, T, *_, batch = shape
    write, n = writer(*shape), T - T // 16
    write(3)
    return batch * n / (median_ms(lambda: write(n), seconds) / 1e3)


def operations(V, T, C, heads, batch):
    """{name: (function, the arrays it takes)}: PyTorch's side has the same names and shapes."""
    rng = np.random.default_rng(1)
    array = lambda *shape: rng.standard_normal(shape, dtype=np.float32)
    idx = rng.integers(0, V, (batch, T))
    return {
        "linear + bias": (F.linear, [array(batch, T, C), array(4 * C, C), array(4 * C)]),
        "GELU": (lambda x: F.gelu(x, approximate="tanh"), [array(batch, T, 4 * C)]),
        "layer norm": (F.layer_norm, [array(batch, T, C), array(C), array(C)]),
        "RMS norm": (F.rms_norm, [array(batch, T, C), array(C)]),
        "cross-entropy": (lambda x: F.cross_entropy(x, idx.reshape(-1)), [array(batch * T, V)]),
        "attention": (lambda x: F.qkv_attention(x, heads), [array(batch, T, 3 * C)]),
        "embedding": (lambda w: F.embedding(idx, w), [array(V, C)]),
    }


def operation(name, *shape, seconds):
    """Milliseconds of the forward and of the backward of one operation alone, on one core."""
    keep_memory_warm()
    with one_blas_thread():
        if name == "AdamW":
            return [median_ms(update(*shape), seconds), None]
        f, arrays = operations(*shape)[name]
        inputs = [Tensor(a, requires_grad=True) for a in arrays]
        y = f(*inputs)
        dy = np.random.default_rng(2).standard_normal(y.shape).astype(np.float32)
        return forward_and_backward_ms(lambda: f(*inputs), dy, inputs, seconds)


def update(V, T, C, heads, batch):
    w = Tensor(np.ones((12 * C, C), np.float32), requires_grad=True)
    opt = AdamW([w])
    w.grad = w.grad_buffer
    w.grad[...] = 1
    return opt.step


def roofs(n, size):
    """What one core can do at most: GFLOP/s of an n×n matrix product, GB/s of a copy of `size` numbers."""
    a, source = np.ones((n, n), np.float32), np.ones(size, np.float32)
    product, target = np.empty_like(a), np.empty_like(source)
    with one_blas_thread():
        return [2 * n ** 3 / 1e6 / median_ms(lambda: np.matmul(a, a, out=product), 0.4),
                2 * source.nbytes / 1e6 / median_ms(lambda: np.copyto(target, source), 0.4)]
