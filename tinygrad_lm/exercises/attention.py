"""Each token reads the tokens before it.

Every position of a text asks a question q, offers a key k, and carries a value v. Position t reads a mean of the values
of all positions s ≤ t, its own among them; the better the key of s answers the question of t, the more its value counts
([ATTN] eq. 1, with the mask of a decoder):

    score(t, s) = q_t · k_s / √D
    p(t, s) = exp score(t, s) / Σ over r ≤ t of exp score(t, r)
    y_t = Σ over s ≤ t of p(t, s) v_s

D is how many numbers a question has. What comes after t must not count: where a model learns to predict the next token,
that would be to read the solution. A score of −∞ becomes a weight of exactly 0. As always, shift each row of scores by
its largest before exp.
"""
import numpy as np
from hypothesis import strategies as st

from .draws import ROUND, numbers
from .parts import holds, mistake

HINTS = (
    "All scores come from one product, (T, D) with (D, T): row t is t's question to all. Which columns may row t see?",
    "np.triu(np.ones((T, T), bool), 1) is True above the diagonal: at those that come later. Give them a score of -np.inf.",
    "scores = q @ k.T / np.sqrt(D); scores[later] = -np.inf; then softmax over each row.",
    "p = np.exp(scores - scores.max(-1, keepdims=True)); p = p / p.sum(-1, keepdims=True); and p @ v is what is read.",
)


def attention(q, k, v):
    """What each position reads, float (T, D).

    q, k, v: float (T, D), question, key and value of each position
    """
    T, D = q.shape
    scores = q @ k.T / np.sqrt(D)                                       # (T, T): row t asks, column s is asked
    scores[np.triu(np.ones((T, T), bool), 1)] = -np.inf
    p = np.exp(scores - scores.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True) @ v


ANSWER = attention

SHAPE = st.shared(st.tuples(st.integers(1, 3), st.sampled_from((1, 4))), key="shape")
TEXT = {name: numbers(SHAPE) for name in "qkv"}


@holds("The first position sees itself alone, and reads its own value", **TEXT)
def first_reads_itself(answer, q, k, v):
    return answer(q, k, v)[0], v[0]


@holds("Where no key is better than another, a position reads the mean of the values up to its own",
       k=TEXT["k"], v=TEXT["v"])
def mean_of_the_past(answer, k, v):
    return answer(np.zeros_like(k), k, v), v.cumsum(0) / np.arange(1, len(v) + 1)[:, None]


@holds("The weights are to each other as exp of the differences of q · k / √D", **TEXT)
def one_by_one(answer, q, k, v):
    y = np.zeros_like(v)
    for t in range(len(q)):
        weights = [np.exp(sum(q[t] * k[s]) / len(q[t]) ** 0.5) for s in range(t + 1)]
        y[t] = sum(w * v[s] for s, w in enumerate(weights)) / sum(weights)
    return answer(q, k, v), y


@holds("A score of 1000 does not overflow", q=numbers((2, 1), ROUND.map(lambda n: 500 * n)))
def large(answer, q):
    return answer(q, np.array([[0.0], [1.0]]), np.array([[0.0], [1.0]]))[1, 0], np.exp(-np.logaddexp(0, -q[1, 0]))


PROPERTIES = (first_reads_itself, mean_of_the_past, one_by_one, large)


def slip(*, scale=lambda T, D: D ** -0.5, hidden=lambda t, s: s > t, value=-np.inf, axis=-1, kept=True, shift=True,
         late=False):
    """Attention with slips: another scale, other scores hidden, another value in their place, or hidden after softmax."""
    def answer(q, k, v):
        (T, D), (t, s) = q.shape, np.ogrid[:len(q), :len(q)]
        scores = q @ k.T * scale(T, D)
        scores = scores if late else np.where(hidden(t, s), value, scores)
        p = np.exp(scores - scores.max(axis, keepdims=kept) if shift else scores)
        p /= p.sum(axis, keepdims=kept)
        return (np.where(hidden(t, s), 0, p) if late else p) @ v
    return answer


MISTAKES = tuple(mistake(says, caught_by=property)(answer) for says, property, answer in (
    ("nothing is divided by √D: the longer the keys, the harder the choice", one_by_one, slip(scale=lambda T, D: 1)),
    ("the scores are divided by D, and not by its root", one_by_one, slip(scale=lambda T, D: 1 / D)),
    ("the scores are divided by the root of T, the number of positions: D is how many numbers a question has", one_by_one,
     slip(scale=lambda T, D: T ** -0.5)),
    ("nothing is hidden: a position reads those that come after it", first_reads_itself, slip(hidden=lambda t, s: s < 0)),
    ("the mask is transposed: the past is hidden and the future read", first_reads_itself, slip(hidden=lambda t, s: s < t)),
    ("the mask is off by one: a position does not see itself, and the first sees nothing", first_reads_itself,
     slip(hidden=lambda t, s: s >= t)),
    ("the mask is off by one: a position sees the next one, too", first_reads_itself, slip(hidden=lambda t, s: s > t + 1)),
    ("a hidden score is set to 0, and exp(0) is 1: it has to be −∞", first_reads_itself, slip(value=0.0)),
    ("the mask comes after softmax: the hidden ones have taken their share already, and what is left has no sum of 1",
     first_reads_itself, slip(late=True)),
    ("softmax runs over those who ask, down the columns: each row is to have the sum 1", first_reads_itself, slip(axis=0)),
    ("the weights are returned: what is read is the values, p @ v", first_reads_itself,
     lambda q, k, v: attention(q, k, np.eye(len(v)))),
    ("keepdims=True is missing: each row's numbers are meant for its columns, and would go to the columns of all rows",
     mean_of_the_past, slip(kept=False)),
    ("the largest score is not subtracted: exp overflows", large, slip(shift=False)),
))
