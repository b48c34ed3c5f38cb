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


@st.composite
def layers(draw, *, square=False):
    """(W, A, B, alpha) of one small layer."""
    rank, n_in, n_out = (draw(st.integers(1, most)) for most in (2, 3, 3))
    if square:
        n_out = n_in
    W, A, B = (draw(numbers(shape)) for shape in ((n_out, n_in), (rank, n_in), (n_out, rank)))
    return W, A, B, draw(st.sampled_from((1, 2, 4)))


@holds("A new adapter, whose B is 0, changes nothing", layer=layers(square=True))
def starts_at_nothing(answer, layer):
    W, A, B, alpha = layer
    return answer(W, A, 0 * B, alpha), W


@holds("The merged layer gives what the layer and its adapter give", layer=layers(square=True))
def the_same_outputs(answer, layer):
    W, A, B, alpha = layer
    x = np.eye(W.shape[1])
    return np.asarray(answer(W, A, B, alpha)).T, x @ W.T + alpha / len(A) * (x @ A.T) @ B.T


@holds("Twice the rank with the same α, the new half of it zeros, is worth half", layer=layers())
def divided_by_the_rank(answer, layer):
    W, A, B, alpha = layer
    wide = np.concatenate([A, 0 * A]), np.concatenate([B, 0 * B], axis=1)
    return answer(W, *wide, alpha), W + alpha / (2 * len(A)) * (B @ A)


PROPERTIES = (starts_at_nothing, the_same_outputs, divided_by_the_rank)


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


@mistake("the product is transposed, which only a square weight can be added to: it is B A, of shape (out, in)",
         caught_by=the_same_outputs)
def transposed(W, A, B, alpha):
    return W + alpha / len(A) * (A.T @ B.T)


MISTAKES = (adapter_alone, unscaled, not_divided, upside_down, transposed)
