# %% [markdown]
"""# Is the gradient right?

Idea: a derivative can be measured without any calculus: move the input a little, and see how far the result moves.
Slow, but it needs nothing except the function, so it can catch what a person got wrong. Six backward passes with a
mistake that somebody could make, and what finds them. A wrong gradient is worth the trouble: the loss falls with it,
too.

    python examples/06_gradient_checking.py                  # --fast: fewer steps

Takes 5 s on two cores. There is a question before each result: answer it before you read on.
Last line: of 6 planted mistakes a sum of one row finds 2, random weights on it 4, gradcheck on several rows 6
"""
# %%
import argparse
from pathlib import Path

import numpy as np

import tinygrad_lm as tg
from tinygrad_lm.models import GPT, GPTConfig
from tinygrad_lm.text.batches import Windows
from tinygrad_lm.text.char import CharTokenizer
from tinygrad_lm.text.stories import stories
from tinygrad_lm.tensor import op
from tinygrad_lm.train.report import BLUE, GREEN, ORANGE, RED, panels
from tinygrad_lm.train.script import given, keep

options = argparse.ArgumentParser()
options.add_argument("--out", type=Path, default=Path("runs/examples"), help="folder for the figure")
options.add_argument("--fast", action="store_true", help="fewer steps")
options = given(options)
STEPS = 100 if options.fast else 3000
F = tg.functional

# %% [markdown]
# 1. How little is a little? (f(x + ε) − f(x)) / ε, and, with both sides, (f(x + ε) − f(x − ε)) / 2ε, for f = tanh, whose
# derivative 1 − tanh² is known.

# %%
print("1. Guess first: the smaller ε, the better? Which ε is the best, and for which of the two formulas?")
EPSILONS = 10.0 ** -np.arange(0.0, 13.0, 0.5)


def error(formula, dtype):
    """How far the formula's derivative of tanh at 0.7 is off, for each ε."""
    x, off = dtype(0.7), []
    for eps in EPSILONS.astype(dtype):
        if formula == "one side":
            slope = (np.tanh(x + eps) - np.tanh(x)) / eps
        else:
            slope = (np.tanh(x + eps) - np.tanh(x - eps)) / (2 * eps)
        off.append(abs(float(slope) - (1 - np.tanh(0.7) ** 2)))
    return np.array(off)


CURVES = {"one side, float64": (error("one side", np.float64), ORANGE),
          "both sides, float64": (error("both", np.float64), BLUE),
          "both sides, float32": (error("both", np.float32), RED)}
for name, (off, _) in CURVES.items():
    print(f"   {name:<20} best at ε = {EPSILONS[off.argmin()]:.0e}: {off.min():.0e} off;   at ε = 1e-01: {off[2]:.0e}, "
          f"at ε = 1e-12: {off[24]:.0e}")
print("   A large ε sees the curve bend; with a small one two nearly equal numbers are subtracted, and their digits go.")


# %% [markdown]
# 2. Six mistakes. Each is a pair of functions on arrays, as in `tinygrad_lm/ops/`: a forward that is right, a backward that
# somebody could have written.

# %%
def tanh_forward(x):
    y = np.tanh(x)
    return y, y


def tanh_backward(dy, y):
    return (dy * (1 - y),)                                                # 1 - y²


def softmax_forward(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    y = e / e.sum(-1, keepdims=True)
    return y, y


def softmax_backward(dy, y):
    return (y * (dy - dy.mean(-1, keepdims=True)),)                       # the mean is weighted: (dy * y).sum(…)


def norm_forward(x, eps=1e-5):
    rstd = 1 / np.sqrt(x.var(-1, keepdims=True) + eps)
    normed = (x - x.mean(-1, keepdims=True)) * rstd
    return normed, (normed, rstd)


def norm_backward(dy, saved):
    normed, rstd = saved
    return (rstd * (dy - dy.mean(-1, keepdims=True)),)                    # the spread depends on x, too


def matmul_forward(x, w):                                                 # x (N, C), w (C, C)
    return x @ w, (x, w)


def matmul_backward(dy, saved):
    x, w = saved
    return dy @ w.T, dy.T @ x                                             # x.T @ dy: of the same shape where w is square


def add_bias_forward(x, b):                                               # x (N, C), b (C,)
    return x + b, None


def add_bias_backward(dy, saved):
    return dy, dy[0]                                                      # the sum over all rows


def embedding_forward(w, *, idx):                                         # w (V, C), idx (N,)
    return w[idx], (w.shape, idx)


def embedding_backward(dy, saved):
    shape, idx = saved
    dw = np.zeros(shape)
    dw[idx] += dy                                                         # a token that comes twice counts once: np.add.at
    return (dw,)


WRONG = {"tanh: 1 - y": op(tanh_forward, tanh_backward),
         "softmax: a plain mean": op(softmax_forward, softmax_backward),
         "layer norm: the spread forgotten": op(norm_forward, norm_backward),
         "matmul: transposed": op(matmul_forward, matmul_backward),
         "bias: the first row only": op(add_bias_forward, add_bias_backward),
         "embedding: repeats lost": op(embedding_forward, embedding_backward)}

# %% [markdown]
# Three ways to look. The sum of the result, on one row: the first that comes to mind. The same row with random weights
# in the sum, as `gradcheck` does it. And `gradcheck` on several rows, in which a token comes twice.

# %%
print("\n2. Six mistakes, three checks. Guess first: which mistakes does the sum of a single row let pass?")


def inputs_for(name, rows, rng):
    """(the operation's tensors, its options)"""
    def random(*shape):
        return tg.Tensor(rng.standard_normal(shape), True, dtype=np.float64)
    if name.startswith("matmul"):
        return [random(rows, 4), random(4, 4)], {}
    if name.startswith("bias"):
        return [random(rows, 4), random(4)], {}
    if name.startswith("embedding"):
        return [random(5, 4)], {"idx": np.array([1, 3, 1][:rows])}
    return [random(rows, 4)], {}


def finds(operation, name, rows, ones=False):
    """What gradcheck says about it; None where it is content. Of `ones`, the plain sum is checked, a single number."""
    tensors, given = inputs_for(name, rows, np.random.default_rng(1))

    def f(*tensors):
        y = operation(*tensors, **given)
        return y.sum() if ones else y
    try:
        tg.gradcheck(f, *tensors)
    except AssertionError as said:
        return str(said)


CHECKS = {"sum, 1 row": (1, True), "weights, 1 row": (1, False), "gradcheck, 3 rows": (3, False)}
found = {name: [finds(operation, name, *how) for how in CHECKS.values()] for name, operation in WRONG.items()}
print("   " + " " * 34 + "   ".join(CHECKS))
for name, said in found.items():
    print((f"   {name:<34}" + "   ".join(f"{'found' if s else '-':<{len(c)}}" for s, c in zip(said, CHECKS))).rstrip())
print("   What it says of the third:")
print("   " + found["layer norm: the spread forgotten"][-1])
print("   The sum of a row of softmax or layer norm never changes: its gradient is 0, and a wrong one that is 0 looks "
      "right.")


# %% [markdown]
# 3. Does one need a check, where the loss would show it? A network that reads three letters and predicts the next
# learns with a right layer norm and with ours, from the same start on the same batches.

# %%
print("\n3. The network learns with a right layer norm, and with the two wrong ones. Guess first: which losses fall?")
text = stories("en")
tokenizer = CharTokenizer.from_text(text)
letters, V = tokenizer.encode(text), len(tokenizer)


def learning_curve(norm):
    """The loss after each step, of next letters given three."""
    rng = np.random.default_rng(0)
    shapes = {"places": (V, 16), "w1": (96, 48), "w2": (V, 96)}
    p = {name: tg.Tensor(rng.normal(0, 0.7 / shape[1] ** 0.5, shape), True, dtype=np.float32)
         for name, shape in shapes.items()}
    opt, losses = tg.optim.AdamW(p.values(), lr=3e-3, weight_decay=0.0), []
    for _ in range(STEPS):
        at = rng.integers(len(letters) - 3, size=64)
        seen = F.embedding(letters[at[:, None] + np.arange(3)], p["places"]).reshape(64, 48)
        loss = F.cross_entropy(F.relu(norm(seen @ p["w1"].T)) @ p["w2"].T, letters[at + 3])
        opt.zero_grad()
        loss.backward()
        opt.step()
        losses.append(loss.item())
    return np.array(losses)


def right_backward(dy, saved):
    normed, rstd = saved
    return (rstd * (dy - dy.mean(-1, keepdims=True) - normed * (dy * normed).mean(-1, keepdims=True)),)


def scaling_backward(dy, saved):
    return (saved[1] * dy,)                                               # the mean and the spread depend on x, both


NORMS = {"right": (op(norm_forward, right_backward), GREEN),
         "the spread forgotten": (WRONG["layer norm: the spread forgotten"], ORANGE),
         "mean and spread forgotten": (op(norm_forward, scaling_backward), RED)}
print(f"   gradcheck of the right one: {finds(NORMS['right'][0], 'layer norm', 3) or 'content'}")
losses = {name: learning_curve(norm) for name, (norm, _) in NORMS.items()}
for name, curve in losses.items():
    print(f"   {name:<26} loss of the first 20 steps {curve[:20].mean():.2f}, of the last tenth "
          f"{curve[-STEPS // 10:].mean():.3f}")
print("   All learn. Nothing in the curve of a wrong one says that it could be better: that is why gradients are checked.")

# %% [markdown]
# 4. All of a GPT at once: every parameter of a small one, in float64, against central differences of its loss.

# %%
gpt = GPT(GPTConfig(vocab_size=9, block_size=6, n_layer=1 if options.fast else 2, n_head=2, n_embd=4),
          rng=np.random.default_rng(0))
for p in gpt.parameters():
    p.data = p.data.astype(np.float64)
idx, targets = Windows(np.arange(40) * 7 % 9, 6).sample(np.random.default_rng(1), 2)
print(f"\n4. A GPT of {gpt.n_parameters()} parameters. Guess first: how often must its loss be computed?")
tg.gradcheck(lambda *parameters: gpt.loss(idx, targets), *gpt.parameters())
print(f"   {2 * gpt.n_parameters():,} times, two for each parameter; backward() needs one pass. All of them agree.")

# %%
figure, axes = panels(1, 2, size=(4.6, 3.4))
SMOOTH = STEPS // 20
for name, (off, color) in CURVES.items():
    axes[0].loglog(EPSILONS, off, "o-", ms=3, color=color, label=name)
axes[0].set(title="Error of a measured derivative", xlabel="ε", ylim=(1e-15, 5))
axes[0].legend(loc="lower left")
for name, curve in losses.items():
    smooth = np.convolve(curve, np.ones(SMOOTH) / SMOOTH, "valid")
    axes[1].plot(np.arange(len(smooth)) + SMOOTH, smooth, color=NORMS[name][1], label=name)
axes[1].set(title="Layer norm, right and wrong: all learn", xlabel="step", ylim=(None, 2.6),
            ylabel=f"nats a letter, mean of {SMOOTH} steps")
axes[1].legend()
keep(figure, options.out / "gradient-checking.png")

# %%
one, weighted, several = (sum(said[i] is not None for said in found.values()) for i in range(3))
print(f"of {len(WRONG)} planted mistakes a sum of one row finds {one}, random weights on it {weighted}, "
      f"gradcheck on several rows {several}")
