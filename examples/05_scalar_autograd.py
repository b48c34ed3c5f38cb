# %% [markdown]
"""# An autograd in sixty lines, one number at a time

Idea: a number that remembers what it was computed from, and how fast it follows each of those, can tell every one of them
how fast the end follows. That is all of backpropagation. A network of such numbers learns; then the same network on arrays,
in `tinygrad_lm/tensor.py`, has the same gradients, and has them fifty to a thousand times as fast.

    python examples/05_scalar_autograd.py                    # --fast: fewer steps

Takes 6 s on two cores. There is a question before each result: answer it before you read on.
Last line: 33 of 33 gradients agree; a step takes 4.2 ms with numbers, 0.09 ms with arrays
"""
# %%
import argparse
import math
from pathlib import Path
from time import perf_counter

import numpy as np

import tinygrad_lm as tg
from tinygrad_lm.train.report import BLUE, GREY, ORANGE, panels
from tinygrad_lm.train.script import given, keep

options = argparse.ArgumentParser()
options.add_argument("--steps", type=int, help="gradient steps")
options.add_argument("--out", type=Path, default=Path("runs/examples"), help="folder for the figure")
options.add_argument("--fast", action="store_true", help="fewer steps")
options = given(options)
STEPS = options.steps or (40 if options.fast else 300)


# %% [markdown]
# 1. The engine. An operation computes a value, and beside it a slope an input: how fast the result moves when that
# input does.

# %%
class Number:
    """A value that remembers its inputs, and how fast it follows each of them."""

    def __init__(self, value, inputs=(), slopes=()):
        self.value, self.inputs, self.slopes, self.grad = value, inputs, slopes, 0.0

    def __add__(self, other):
        other = as_number(other)
        return Number(self.value + other.value, (self, other), (1.0, 1.0))

    def __mul__(self, other):
        other = as_number(other)
        return Number(self.value * other.value, (self, other), (other.value, self.value))

    def tanh(self):
        y = math.tanh(self.value)
        return Number(y, (self,), (1 - y * y,))

    __radd__, __rmul__ = __add__, __mul__

    def __sub__(self, other):
        return self + -1.0 * as_number(other)

    def backward(self):
        """Add d self / d x to x.grad of every number x that self was computed from."""
        self.grad = 1.0
        for number in reversed(inputs_first(self)):                       # a number has all of its gradient before it
            for x, slope in zip(number.inputs, number.slopes):            # passes any of it on
                x.grad += slope * number.grad                             # the chain rule; += because x may be used again


def as_number(x):
    return x if isinstance(x, Number) else Number(x)


def inputs_first(end):
    """Every number that `end` depends on, once, each after its inputs; and `end`."""
    order, seen, stack = [], set(), [(end, False)]
    while stack:
        number, inputs_done = stack.pop()
        if inputs_done:
            order.append(number)
        elif number not in seen:
            seen.add(number)
            stack.append((number, True))
            stack.extend((x, False) for x in number.inputs)
    return order


# %%
print("1. y = tanh(a b + c) at a = 2, b = -0.5, c = 1.5. Guess first: which of the three moves y most?")
a, b, c = Number(2.0), Number(-0.5), Number(1.5)
product = a * b
total = product + c
y = total.tanh()
y.backward()
for name, x in {"a": a, "b": b, "c": c, "a b": product, "a b + c": total, "y": y}.items():
    print(f"   {name:<8} {x.value:+.3f}     moves y at {x.grad:+.3f}")

# %% [markdown]
# 2. What is used twice gets two gradients, and they add. Doubling a number by `x + x` thirty times makes 31 numbers,
# and from the end to the beginning 2³⁰ ways lead: an engine that walked each way would never come home.

# %%
print("\n2. s = a + b, y = 5 a + s. Guess first: dy/da. And after doubling x by x + x thirty times, dy/dx, and for how "
      "many\n"
      "   numbers does backward() run?")
a, b = Number(2.0), Number(3.0)
(a * 5 + (a + b)).backward()
print(f"   dy/da = {a.grad:g}, dy/db = {b.grad:g}")
x = doubled = Number(1.0)
for _ in range(30):
    doubled = doubled + doubled
doubled.backward()
print(f"   dy/dx = {x.grad:,.0f} from {len(inputs_first(doubled))} numbers, each visited once")


# %% [markdown]
# 3. A network of numbers. Two moons of points; eight neurons between; the loss is the mean square of what is missing to ±1.

# %%
def moons(n, rng):
    """(places (n, 2), which moon: -1.0 or 1.0 (n,))"""
    angle, side = rng.uniform(0, np.pi, n), np.where(np.arange(n) % 2, 1.0, -1.0)
    places = side[:, None] * np.stack([np.cos(angle) - 0.5, np.sin(angle) - 0.25], axis=-1)
    return places + rng.normal(0, 0.1, (n, 2)), side


def network(numbers, point):
    """tanh(w2 · tanh(w1 point + b1) + b2), written out one number at a time."""
    w1, b1, w2, b2 = numbers
    hidden = [(w[0] * point[0] + w[1] * point[1] + b).tanh() for w, b in zip(w1, b1)]
    return sum((w * h for w, h in zip(w2, hidden)), b2).tanh()


def loss_of(numbers, places, sides):
    missing = [network(numbers, point) - side for point, side in zip(places.tolist(), sides.tolist())]
    return sum(m * m for m in missing) * (1 / len(missing))


rng = np.random.default_rng(0)
places, sides = moons(60, rng)
start = [rng.normal(0, 1, (8, 2)), np.zeros(8), rng.normal(0, 0.5, 8), np.zeros(())]          # w1, b1, w2, b2
w1, b1, w2, b2 = numbers = [[[Number(v) for v in row] for row in start[0].tolist()], [Number(v) for v in start[1].tolist()],
                            [Number(v) for v in start[2].tolist()], Number(0.0)]
parameters = [*(v for row in w1 for v in row), *b1, *w2, b2]
loss = loss_of(numbers, places, sides)
print(f"\n3. {len(parameters)} parameters, 60 points. Guess first: of how many numbers is the graph of one loss made?")
print(f"   {len(inputs_first(loss)):,} numbers for one loss")
history = []
for step in range(STEPS):
    loss = loss_of(numbers, places, sides)
    loss.backward()
    if step == 0:
        first = np.array([p.grad for p in parameters])
    for p in parameters:
        p.value -= 0.5 * p.grad
        p.grad = 0.0
    history.append(loss.value)
    if step in (0, STEPS // 4, STEPS // 2) or step == STEPS - 1:
        right = np.mean([(network(numbers, q).value > 0) == (s > 0) for q, s in zip(places.tolist(), sides)])
        print(f"   step {step + 1:>4}   loss {loss.value:.3f}   {right:.0%} of the points on the right side")

# %% [markdown]
# 4. The tensor engine is this engine, with three changes: a value is an array; a slope is a function, since the slope
# of a matrix product would be an array of four axes that nobody wants to write down; and where an array was broadcast,
# its gradient is summed again.

# %%
print("\n4. The same network, its numbers gathered in four arrays. Guess first: how many times as fast is a step?")
tensors = [tg.Tensor(v, requires_grad=True, dtype=np.float64) for v in start]


def tensor_loss(places, sides):
    w1, b1, w2, b2 = tensors
    hidden = (places @ w1.T + b1).tanh()                                  # (N, 8)
    return ((((hidden * w2).sum(axis=-1) + b2).tanh() - sides) ** 2).mean()


places_t, sides_t = tg.Tensor(places), tg.Tensor(sides)
tensor_loss(places_t, sides_t).backward()
arrays = np.concatenate([t.grad.ravel() for t in tensors])
agree = np.isclose(first, arrays, rtol=1e-9, atol=1e-12)
print(f"   the gradients differ by {np.abs(first - arrays).max():.0e} at most, of {np.abs(first).max():.2f}")


def milliseconds(step):
    """The fastest of several steps."""
    times = []
    for _ in range(3 if options.fast else 7):
        begin = perf_counter()
        step()
        times.append(1e3 * (perf_counter() - begin))
    return min(times)


times = {}
for n in (15, 60, 240) if options.fast else (15, 60, 240, 960):
    more, which = moons(n, rng)
    more_t, which_t = tg.Tensor(more), tg.Tensor(which)
    times[n] = (milliseconds(lambda: loss_of(numbers, more, which).backward()),
                milliseconds(lambda: tensor_loss(more_t, which_t).backward()))
    print(f"   {n:>4} points   {times[n][0]:8.1f} ms with numbers   {times[n][1]:6.2f} ms with arrays")

# %%
figure, axes = panels(1, 2, size=(4.6, 3.6))
across, up = np.linspace(-2, 2, 60), np.linspace(-1.4, 1.4, 45)
surface = [[network(numbers, (x, y)).value for x in across.tolist()] for y in up.tolist()]
axes[0].contourf(across, up, surface, levels=np.linspace(-1, 1, 3), colors=[BLUE, ORANGE], alpha=0.13)
axes[0].contour(across, up, surface, levels=[-0.5, 0, 0.5], colors=[BLUE, GREY, ORANGE], linewidths=(0.6, 1.4, 0.6),
                linestyles="solid")
for side, color in ((-1, BLUE), (1, ORANGE)):
    axes[0].plot(*places[sides == side].T, "o", color=color, ms=4.5, mec="white", mew=0.5)
axes[0].set(title=f"What {len(parameters)} numbers learned in {STEPS} steps", xticks=[], yticks=[])
axes[0].grid(visible=False)
for i, (label, color) in enumerate((("one number at a time", ORANGE), ("arrays", BLUE))):
    axes[1].plot(list(times), [t[i] for t in times.values()], "o-", color=color)
    axes[1].text(60, times[60][i] * 1.7, label, color=color, ha="right")
axes[1].set(title="A step: forward and backward", xscale="log", yscale="log", xlabel="points", ylabel="ms")
axes[1].set_xticks(list(times), list(times))
axes[1].minorticks_off()
keep(figure, options.out / "scalar-autograd.png")

# %%
slow, fast = times[60]
print(f"{agree.sum()} of {len(agree)} gradients agree; a step takes {slow:.1f} ms with numbers, {fast:.2f} ms with arrays")
