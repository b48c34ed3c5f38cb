"""One step of the optimizer.

AdamW moves each weight by its own measure. It keeps two running means for each, of the gradient g and of its square, and
step t, counted from 1, is ([ADAM] algorithm 1, with the decay of [ADAMW]):

    m ← β₁ m + (1 − β₁) g                 m̂ = m / (1 − β₁ᵗ)
    v ← β₂ v + (1 − β₂) g²                v̂ = v / (1 − β₂ᵗ)
    w ← w − lr λ w − lr m̂ / (√v̂ + ε)

Both means begin at 0, and are too small at first: m̂ and v̂ correct that. The decay λ pulls every weight towards 0. It is
kept apart from the gradient, and so from the means: else it would be divided by √v̂ like everything else.
"""
import numpy as np
from hypothesis import strategies as st

from .draws import numbers
from .parts import holds, mistake

HINTS = (
    "Four lines, in the order of the formulas: m, v, the corrected two, w. Make new arrays: those given stay as they are.",
    "m = b1 * m + (1 - b1) * g, and v with g * g. What is returned are these, not the corrected ones.",
    "m_hat = m / (1 - b1 ** t) and v_hat = v / (1 - b2 ** t). At t = 1 they are g and g² if the means were 0.",
    "w - lr * decay * w - lr * m_hat / (np.sqrt(v_hat) + eps)",
)


def adamw_step(w, g, m, v, t, lr, betas, eps, decay):
    """(w, m, v) after step t.

    w, g, m, v: float (n,), the weights, their gradient, and the two running means; t: int, 1 at the first step;
    lr: the learning rate; betas: (β₁, β₂); eps: ε; decay: λ
    """
    b1, b2 = betas
    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * g * g
    m_hat, v_hat = m / (1 - b1 ** t), v / (1 - b2 ** t)
    return w - lr * decay * w - lr * m_hat / (np.sqrt(v_hat) + eps), m, v


ANSWER = adamw_step

NAMES = ("w", "g", "m", "v", "t", "lr", "betas", "eps", "decay")
NONZERO, ZERO = st.sampled_from((1.0, 2.0, 4.0, -1.0, -2.0)), st.just(np.zeros(1))
START = dict(w=numbers((1,)), g=numbers((1,), NONZERO), m=ZERO, v=ZERO, t=st.just(1), lr=st.just(0.5),
             betas=st.just((0.5, 0.9375)), eps=st.just(0.0), decay=st.just(0.0))


def step(answer, given):
    return answer(*(given[name] for name in NAMES))


@holds("m and v are running means of g and of its square",
       **START | dict(m=numbers((1,)), v=numbers((1,), NONZERO.map(abs)), eps=st.just(1.0)))
def means(answer, **given):
    g, m, v = given["g"], given["m"], given["v"]
    _, *returned = step(answer, given)
    return returned, (m + 0.5 * (g - m), v + 0.0625 * (g ** 2 - v))


@holds("The first step is one of length lr against the gradient, however large that is", **START)
def first_step(answer, **given):
    w, _, _ = step(answer, given)
    return w, given["w"] - 0.5 * np.sign(given["g"])


@holds("ε is added to the root of the corrected v: with ε = 1 a first gradient of 1 moves half as far",
       **START | dict(eps=st.just(1.0)))
def epsilon(answer, **given):
    w, _, _ = step(answer, given)
    return w, given["w"] - 0.5 * given["g"] / (np.abs(given["g"]) + 1)


@holds("Where there is no gradient, the decay alone moves a weight, by the share lr · λ of it",
       **START | dict(g=ZERO, eps=st.just(1.0), decay=st.just(0.25)))
def decay_alone(answer, **given):
    return step(answer, given), (given["w"] * (1 - 0.5 * 0.25), np.zeros(1), np.zeros(1))


@holds("Three steps lead where three steps of optim.AdamW lead, with lr = 0.5, betas = (0.5, 0.9375), eps = 1, decay = 0.25",
       w=numbers((2,)), gradients=numbers((3, 2)))
def three_steps(answer, w, gradients):
    from ..nn import Parameter
    from ..optim import AdamW
    matrix = Parameter(w[None].copy())                                  # of two axes: it decays
    optimizer = AdamW([matrix], lr=0.5, betas=(0.5, 0.9375), eps=1.0, weight_decay=0.25)
    m = v = np.zeros(2)
    for t, g in enumerate(gradients, 1):
        matrix.grad = g[None].copy()
        optimizer.step()
        w, m, v = answer(w, g, m, v, t, 0.5, (0.5, 0.9375), 1.0, 0.25)
    return w, matrix.data[0]


PROPERTIES = (means, first_step, epsilon, decay_alone, three_steps)


def told(**otherwise):
    """The right step with wrong arguments: each that is named becomes what its function makes of all of them."""
    def answer(*args):
        given = dict(zip(NAMES, args))
        return adamw_step(**given | {name: other(given) for name, other in otherwise.items()})
    return answer


def slip(*, square=np.square, divided=lambda m, v, eps, root: m / (np.sqrt(v) + eps), hats=False):
    """A step with another second mean, another last line, or the wrong means returned."""
    def answer(w, g, m, v, t, lr, betas, eps, decay):
        m, v = (b * mean + (1 - b) * new for b, mean, new in zip(betas, (m, v), (g, square(g))))
        m_hat, v_hat = (mean / (1 - b ** t) for b, mean in zip(betas, (m, v)))
        w = w - lr * decay * w - lr * divided(m_hat, v_hat, eps, np.sqrt(1 - betas[1] ** t))
        return w, *((m_hat, v_hat) if hats else (m, v))
    return answer


def decayed_last(w, g, m, v, t, lr, betas, eps, decay):
    w, m, v = adamw_step(w, g, m, v, t, lr, betas, eps, 0.0)
    return w - lr * decay * w, m, v


MISTAKES = tuple(mistake(says, caught_by=property)(answer) for says, property, answer in (
    ("the second mean is of g, and not of its square", means, slip(square=lambda g: g)),
    ("β₁ and β₂ are exchanged", means, told(betas=lambda given: given["betas"][::-1])),
    ("the corrected means are returned, and would be corrected again at the next step: m and v stay as they are", means,
     slip(hats=True)),
    ("the means are not corrected: they begin at 0, and the first steps are of the wrong length", first_step,
     told(t=lambda given: 10 ** 9)),
    ("the steps are counted from 0: at the first, 1 − β⁰ is 0, and it is divided by that", first_step,
     told(t=lambda given: given["t"] - 1)),
    ("the root of v̂ is forgotten", first_step, slip(divided=lambda m, v, eps, root: m / (v + eps))),
    ("the sign: it climbs", first_step, told(lr=lambda given: -given["lr"], decay=lambda given: -given["decay"])),
    ("ε stands inside the root", epsilon, slip(divided=lambda m, v, eps, root: m / np.sqrt(v + eps))),
    ("ε is added before the correction: it belongs to √v̂, not to √v", epsilon,
     slip(divided=lambda m, v, eps, root: m / (np.sqrt(v) + eps / root))),
    ("the decay is added to the gradient, as in Adam with L2: there it is averaged, and divided by √v̂", decay_alone,
     told(g=lambda given: given["g"] + given["decay"] * given["w"], decay=lambda given: 0.0)),
    ("the decay is not multiplied by lr", decay_alone, told(decay=lambda given: given["decay"] / given["lr"])),
    ("the decay is taken of the weight that has moved already, and not of that before the step", three_steps, decayed_last),
    ("there is no decay", decay_alone, told(decay=lambda given: 0.0)),
))
