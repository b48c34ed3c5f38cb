"""An adapter becomes part of its weight.

Low-rank adaptation [LORA] leaves the weight W of a linear layer as it is, and trains two thin matrices beside it:

    y = x Wᵀ + (α / r) (x Aᵀ) Bᵀ        x (N, in), W (out, in), A (r, in), B (out, r)

r is the rank, a small number; α is chosen once and stays. While it trains, the detour costs two small products. Once it is
trained it need not cost anything: there is one matrix that gives the same y as both of them together. Find that matrix.
"""
import numpy as np
from hypothesis import strategies as st

from .draws import numbers
from .parts import holds, mistake

HINTS = (
    "x (M₁ᵀ + M₂ᵀ) is x M₁ᵀ + x M₂ᵀ. So: which matrix M₂ has x M₂ᵀ = (x Aᵀ) Bᵀ?",
    "Aᵀ Bᵀ is the transpose of a product. Which one? It must have the shape of W, (out, in).",
    "(x Aᵀ) Bᵀ = x (B A)ᵀ. What is left is the scale, α / r, where r is the number of rows of A.",
    "W + alpha / len(A) * (B @ A)",
)


def merged(W, A, B, alpha):
    """The weight (out, in) of a layer that does what W does together with its adapter.

    W: float (out, in), which stays as it is; A: float (r, in); B: float (out, r); alpha: a number
    """
    return W + alpha / len(A) * (B @ A)


ANSWER = merged


OUT, IN, RANK = (st.shared(st.integers(1, most), key=key) for key, most in (("out", 3), ("in", 3), ("rank", 2)))
LAYER = dict(W=numbers(st.tuples(OUT, IN)), A=numbers(st.tuples(RANK, IN)), B=numbers(st.tuples(OUT, RANK)),
             alpha=st.sampled_from((2, 1, 4)))
SQUARE = LAYER | dict(W=numbers(st.tuples(IN, IN)), B=numbers(st.tuples(IN, RANK)))
FRESH = SQUARE | dict(B=st.tuples(IN, RANK).map(np.zeros))


@holds("A new adapter, whose B is 0, changes nothing", **FRESH)
def starts_at_nothing(answer, W, A, B, alpha):
    return answer(W, A, B, alpha), W


@holds("The merged layer gives what the layer and its adapter give", **SQUARE)
def the_same_outputs(answer, W, A, B, alpha):
    x = np.eye(W.shape[1])
    return np.transpose(answer(W, A, B, alpha)), x @ W.T + alpha / len(A) * (x @ A.T) @ B.T


@holds("So it does where `in` and `out` differ", **LAYER)
def of_any_shape(answer, W, A, B, alpha):
    x = np.eye(W.shape[1])
    return np.transpose(answer(W, A, B, alpha)), x @ W.T + alpha / len(A) * (x @ A.T) @ B.T


PROPERTIES = (starts_at_nothing, the_same_outputs, of_any_shape)


@mistake("the frozen weight is missing: the adapter is only what is added to it", caught_by=starts_at_nothing)
def adapter_alone(W, A, B, alpha):
    return alpha / len(A) * (B @ A)


@mistake("the scale α / r is missing", caught_by=the_same_outputs)
def unscaled(W, A, B, alpha):
    return W + B @ A


@mistake("the scale is α, not yet divided by the rank r", caught_by=the_same_outputs)
def not_divided(W, A, B, alpha):
    return W + alpha * (B @ A)


@mistake("the scale is upside down: it is α / r, not r / α", caught_by=the_same_outputs)
def upside_down(W, A, B, alpha):
    return W + len(A) / alpha * (B @ A)


@mistake("α is divided by the number of outputs, not by the rank r", caught_by=the_same_outputs)
def by_the_outputs(W, A, B, alpha):
    return W + alpha / len(B) * (B @ A)


@mistake("the product is the wrong way round: A B has the shape (r, r)", caught_by=starts_at_nothing)
def wrong_way_round(W, A, B, alpha):
    return W + alpha / len(A) * (A @ B)


@mistake("the product is transposed, which only a square weight can be added to: it is B A, of shape (out, in)",
         caught_by=the_same_outputs)
def transposed(W, A, B, alpha):
    return W + alpha / len(A) * (A.T @ B.T)


MISTAKES = (adapter_alone, unscaled, not_divided, upside_down, by_the_outputs, wrong_way_round, transposed)
