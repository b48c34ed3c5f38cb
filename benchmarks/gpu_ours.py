"""Our side of benchmarks/gpu.py: what the process that holds CuPy does. On NumPy (device "cpu") the same code runs, slowly."""
from functools import partial
from time import perf_counter

import numpy as np

from tinygrad_lm.backend import array_module
from tinygrad_lm.models import GPT, GPTConfig
from tinygrad_lm.ops import attention, cross_entropy, dropout, embedding, norm, softmax
from tinygrad_lm.optim import AdamW
from tinygrad_lm.tensor import Tensor
from tinygrad_lm.train import train_step


def module(device):
    if device == "cpu":
        return np
    import cupy
    return cupy


def finished(xp):
    """A function that waits until the device has done all it was given."""
    return (lambda: None) if xp is np else xp.cuda.get_current_stream().synchronize


def kernel(name, dtype, shape, device="cuda"):
    """One call of the kernel, as a function of nothing."""
    xp = module(device)
    rng = np.random.default_rng(0)
    array = lambda *s: xp.asarray(rng.standard_normal(s, np.float32)).astype(dtype)
    if name == "AdamW":
        weights = Tensor(array(*shape), True)
        opt = AdamW([weights], lr=1e-3)
        weights.grad = array(*shape)
        return opt.step
    if name == "embedding backward":
        N, C, V = shape
        return partial(embedding.embedding_backward, array(N, C), ((V, C), xp.asarray(rng.integers(0, V, N))))
    if name.startswith("attention"):
        q, k, v, dy = (array(*shape) for _ in range(4))
        forward = partial(attention.attention_forward, q, k, v, is_causal=True, scale=shape[-1] ** -0.5)
        return forward if name == "attention forward" else partial(
            attention.attention_backward, dy, forward()[1], (True, True, True))
    N, C = shape
    x, dy, w, b = array(N, C), array(N, C), array(C), array(C)
    operation, _, direction = name.rpartition(" ")
    forward, backward = {
        "softmax": (partial(softmax.softmax_forward, x), softmax.softmax_backward),
        "layer norm": (partial(norm.layer_norm_forward, x, w, b), partial(norm.layer_norm_backward, needs=(True,) * 3)),
        "RMS norm": (partial(norm.rms_norm_forward, x, w), partial(norm.rms_norm_backward, needs=(True,) * 2)),
        "cross-entropy": (partial(cross_entropy.cross_entropy_forward, x, targets=xp.asarray(rng.integers(0, C, N))), None),
        "": (partial(dropout.dropout_forward, x, p=0.1, rng=np.random.default_rng(1)), None),
    }[operation]
    return forward if direction in ("forward", "dropout") else partial(backward, dy, forward()[1])


def milliseconds(f, wait, seconds):
    """Mean of many calls queued one behind another, so that launching the next hides behind running this one."""
    f(), f(), wait()
    start = perf_counter()
    f(), wait()
    calls = 1 + int(seconds / (perf_counter() - start))
    start = perf_counter()
    for _ in range(calls):
        f()
    wait()
    return 1e3 * (perf_counter() - start) / calls


def kernel_ms(name, dtype, shape, seconds, device="cuda"):
    return milliseconds(kernel(name, dtype, shape, device), finished(module(device)), seconds)


def step_ms(shape, dtype, seconds, device="cuda"):
    """[milliseconds of a training step, bytes that the device's pool has taken for it]"""
    xp = module(device)
    V, T, C, layers, heads, batch = shape
    model = GPT(GPTConfig(V, T, layers, heads, C))
    for where in (["cuda"] if device == "cuda" else []) + ([np.float16] if dtype == "float16" else []):
        model.to(where)
    opt = AdamW(model.parameters(), lr=1e-3)
    idx, targets = (xp.asarray(a) for a in np.random.default_rng(1).integers(0, V, (2, batch, T)))
    ms = milliseconds(lambda: train_step(model, opt, idx, targets, max_norm=1.0), finished(xp), seconds)
    return [ms, 0 if xp is np else xp.get_default_memory_pool().total_bytes()]


def roofs(n, size, seconds, device="cuda"):
    """What the card does at best: {"GB/s" of a copy, "TFLOP/s" of a matrix product in each dtype}"""
    xp = module(device)
    source, wait = xp.ones(size, np.float32), finished(xp)
    target = xp.empty_like(source)
    copy = milliseconds(lambda: xp.copyto(target, source), wait, seconds)
    found = {"GB/s": 2 * source.nbytes / 1e6 / copy}
    for dtype in ("float32", "float16"):
        a = xp.ones((n, n), dtype)
        found[dtype] = 2 * n ** 3 / 1e9 / milliseconds(partial(array_module(a).matmul, a, a), wait, seconds)
    return found
