"""The same GPT, forward and backward, in libraries that differentiate NumPy: JAX (compiled), HIPS autograd and MyGrad.

Each function returns a step: a function without arguments that computes the loss and every parameter's gradient on one
repeated batch, and returns the loss. All parameters are float32 arrays of a list of our GPT's shapes, (in, out) for
matrices, and constants are Python numbers, which keep the arrays' type; not in MyGrad, which makes float64 of them, and of
what they meet. So MyGrad is asked twice: as one writes it, and with every constant turned into a float32 by hand.
"""
from math import pi, sqrt

import numpy as onp


def weights(V, T, C, layers):
    """[wte, wpe, final norm's w and b, then 12 arrays a block]"""
    rng = onp.random.default_rng(0)
    matrix = lambda *shape: rng.normal(0, 0.02, shape).astype(onp.float32)
    ones, zeros = lambda n: onp.ones(n, onp.float32), lambda n: onp.zeros(n, onp.float32)
    block = lambda: [ones(C), zeros(C), matrix(C, 3 * C), zeros(3 * C), matrix(C, C), zeros(C),
                     ones(C), zeros(C), matrix(C, 4 * C), zeros(4 * C), matrix(4 * C, C), zeros(C)]
    return [matrix(V, C), matrix(T, C), ones(C), zeros(C)] + [p for _ in range(layers) for p in block()]


def batch(V, T, B):
    return onp.random.default_rng(1).integers(0, V, (2, B, T))


def gpt_loss(np, p, idx, targets, heads):
    """The loss with jax.numpy or autograd.numpy as `np`."""
    (B, T), C = idx.shape, p[0].shape[1]
    future = onp.triu(onp.full((T, T), -1e9, onp.float32), 1)

    def norm(x, w, b):
        x = x - np.mean(x, axis=-1, keepdims=True)
        return x * (np.mean(x * x, axis=-1, keepdims=True) + 1e-5) ** -0.5 * w + b

    def split_heads(x):
        return np.transpose(np.reshape(x, (B, T, heads, C // heads)), (0, 2, 1, 3))

    def attend(qkv):
        q, k, v = (split_heads(x) for x in (qkv[..., :C], qkv[..., C:2 * C], qkv[..., 2 * C:]))
        s = np.matmul(q, np.swapaxes(k, -1, -2)) * (C // heads) ** -0.5 + future
        e = np.exp(s - np.max(s, axis=-1, keepdims=True))
        y = np.matmul(e / np.sum(e, axis=-1, keepdims=True), v)
        return np.reshape(np.transpose(y, (0, 2, 1, 3)), (B, T, C))

    def gelu(x):
        return 0.5 * x * (1 + np.tanh(sqrt(2 / pi) * (x + 0.044715 * (x * x * x))))

    x = p[0][idx] + p[1]
    for i in range(4, len(p), 12):
        w1, b1, qkv, qkv_b, proj, proj_b, w2, b2, fc, fc_b, out, out_b = p[i:i + 12]
        x = x + np.matmul(attend(np.matmul(norm(x, w1, b1), qkv) + qkv_b), proj) + proj_b
        x = x + np.matmul(gelu(np.matmul(norm(x, w2, b2), fc) + fc_b), out) + out_b
    logits = np.reshape(np.matmul(norm(x, p[2], p[3]), p[0].T), (B * T, -1))
    shifted = logits - np.max(logits, axis=-1, keepdims=True)
    lse = np.log(np.sum(np.exp(shifted), axis=-1))
    return np.mean(lse - shifted[onp.arange(B * T), targets.reshape(-1)])


def jax(V, T, C, layers, heads, B):
    import jax
    import jax.numpy as jnp
    (idx, targets), p = batch(V, T, B), [jnp.asarray(a) for a in weights(V, T, C, layers)]
    both = jax.jit(jax.value_and_grad(lambda p, idx, targets: gpt_loss(jnp, p, idx, targets, heads)))
    return lambda: float(jax.block_until_ready(both(p, idx, targets))[0])


def autograd(V, T, C, layers, heads, B):
    import autograd
    import autograd.numpy as np
    (idx, targets), p = batch(V, T, B), weights(V, T, C, layers)
    both = autograd.value_and_grad(lambda p: gpt_loss(np, p, idx, targets, heads))

    def step():
        loss, grads = both(p)
        assert all(g.dtype == onp.float32 for g in grads)
        return float(loss)
    return step


def mygrad_float32(*shape):
    """By someone who knows where the time goes."""
    import mygrad as mg
    mg.turn_memory_guarding_off()                                # its checks cost time; nothing is written in place here
    return mygrad(*shape, number=onp.float32)


def mygrad(V, T, C, layers, heads, B, *, number=float):
    import mygrad as mg
    from mygrad.nnet.losses import softmax_crossentropy
    (idx, targets), p = batch(V, T, B), [mg.tensor(a) for a in weights(V, T, C, layers)]
    future = onp.triu(onp.full((T, T), -1e9, onp.float32), 1)

    def norm(x, w, b):
        x = x - mg.mean(x, axis=-1, keepdims=True)
        return x / mg.sqrt(mg.mean(x * x, axis=-1, keepdims=True) + number(1e-5)) * w + b

    def split_heads(x):
        return mg.transpose(x.reshape(B, T, heads, C // heads), (0, 2, 1, 3))

    def attend(qkv):
        q, k, v = (split_heads(x) for x in (qkv[..., :C], qkv[..., C:2 * C], qkv[..., 2 * C:]))
        s = mg.matmul(q, mg.swapaxes(k, -1, -2)) * number((C // heads) ** -0.5) + future
        y = mg.matmul(mg.nnet.softmax(s, axis=-1), v)
        return mg.transpose(y, (0, 2, 1, 3)).reshape(B, T, C)

    def gelu(x):
        return number(0.5) * x * (number(1) + mg.tanh(number(sqrt(2 / pi)) * (x + number(0.044715) * (x * x * x))))

    def step():
        x = p[0][idx] + p[1]
        for i in range(4, len(p), 12):
            w1, b1, qkv, qkv_b, proj, proj_b, w2, b2, fc, fc_b, out, out_b = p[i:i + 12]
            x = x + mg.matmul(attend(mg.matmul(norm(x, w1, b1), qkv) + qkv_b), proj) + proj_b
            x = x + mg.matmul(gelu(mg.matmul(norm(x, w2, b2), fc) + fc_b), out) + out_b
        logits = mg.matmul(norm(x, p[2], p[3]), p[0].T).reshape(B * T, V)
        loss = softmax_crossentropy(logits, targets.reshape(-1))
        loss.backward()
        assert loss.dtype == (onp.float32 if number is onp.float32 else onp.float64)
        return float(loss.data)
    return step


def ours(V, T, C, layers, heads, B):
    from tinygrad_lm.backend import keep_memory_warm
    from tinygrad_lm.models import GPT, GPTConfig
    from tinygrad_lm.optim import AdamW
    from tinygrad_lm.parallel import backward, choose_workers, one_blas_thread
    keep_memory_warm()
    (idx, targets), model = batch(V, T, B), GPT(GPTConfig(V, T, layers, heads, C))
    opt = AdamW(model.parameters())
    workers = choose_workers(opt.flat.size, idx)

    def step():
        opt.zero_grad()
        with one_blas_thread():
            return backward(model, opt, idx, targets, workers=workers)
    return step
