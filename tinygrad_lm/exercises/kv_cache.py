"""Reading on, without reading again.

A model that writes reads one token more at each step. The keys and values of the tokens before it do not change, since
nobody sees what comes later; so they are kept, in a cache, and only those of the new tokens are made. Here n new tokens
come after t that are in the cache, with their questions q, keys k and values v. Position t + i is that of new token i,
which sees all of the cache, the new tokens before it, and itself:

    y_i = Σ over s ≤ t + i of p(i, s) v_s,   where p(i, ·) is the softmax of q_i · k_s / √D over those s

While a model writes, n is 1. When it reads its prompt, the cache is empty and n is the prompt's length. It must come to
the same whether a text is read at once, in pieces, or token by token.
"""
import numpy as np
from hypothesis import strategies as st

from .attention import attention
from .draws import numbers
from .parts import holds, mistake

HINTS = (
    "First put the new keys below the old ones, and the new values below the old: np.concatenate([keys, k]).",
    "The scores are (n, t + n) then. In row i, which columns come later than position t + i?",
    "np.triu(np.ones((n, t + n), bool), t + 1) is True at them: the border is t columns further right than without a cache.",
    "scores = q @ keys.T / np.sqrt(D); scores[later] = -np.inf; softmax over each row; return p @ values, keys, values",
)


def read_on(q, k, v, keys, values):
    """(y, keys, values): what the new tokens read, float (n, D), and the cache with them in it, float (t + n, D) each.

    q, k, v: float (n, D), of the new tokens; keys, values: float (t, D), the cache, which may be empty
    """
    keys, values = np.concatenate([keys, k]), np.concatenate([values, v])
    n, S = len(q), len(keys)
    scores = q @ keys.T / np.sqrt(q.shape[1])                               # (n, S)
    scores[np.triu(np.ones((n, S), bool), S - n + 1)] = -np.inf
    p = np.exp(scores - scores.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True) @ values, keys, values


ANSWER = read_on

D = st.shared(st.sampled_from((1, 4)), key="D")
rows = lambda key, least, most: st.shared(st.integers(least, most), key=key)
of = lambda n: numbers(st.tuples(n, D))
NEW, OLD, TEXT = ({name: of(n) for name in names.split()} for n, names in (
    (rows("n", 1, 2), "q k v"), (rows("t", 0, 2), "keys values"), (rows("T", 1, 4), "q k v")))


def in_pieces(answer, q, k, v, sizes):
    """What is read of a text, so many tokens at a time."""
    keys, values, read, begin = q[:0], q[:0], [], 0
    for size in sizes:
        piece = slice(begin, begin := begin + size)
        y, keys, values = answer(q[piece], k[piece], v[piece], keys, values)
        read.append(y)
    return np.concatenate(read)


@holds("The first token of a text, with nothing in the cache, reads its own value", q=numbers((1, 1)), k=numbers((1, 1)),
       v=numbers((1, 1)))
def first_token(answer, q, k, v):
    y, _, _ = answer(q, k, v, np.zeros((0, 1)), np.zeros((0, 1)))
    return y, v


@holds("The cache has the new keys and values behind the old ones", **NEW, **OLD)
def cache_grows(answer, q, k, v, keys, values):
    _, *cache = answer(q, k, v, keys, values)
    return cache, (np.vstack([keys, k]), np.vstack([values, v]))


@holds("Token by token, a text reads what attention gives at once", **TEXT)
def token_by_token(answer, q, k, v):
    return in_pieces(answer, q, k, v, [1] * len(q)), attention(q, k, v)


@holds("In one piece, with an empty cache, a text reads what attention gives at once", **TEXT)
def at_once(answer, q, k, v):
    return in_pieces(answer, q, k, v, [len(q)]), attention(q, k, v)


@holds("In pieces of one token and two, a text reads what attention gives at once",
       q=of(st.just(3)), k=of(st.just(3)), v=of(st.just(3)))
def one_and_two(answer, q, k, v):
    return in_pieces(answer, q, k, v, [1, 2]), attention(q, k, v)


PROPERTIES = (first_token, cache_grows, token_by_token, at_once, one_and_two)


behind = lambda old, new: np.concatenate([old, new])


def slip(*, seen=behind, kept=behind, border=lambda t: t + 1, scale=lambda D: D ** -0.5):
    """Reading on with slips: what is attended to, what is kept, from where on it is hidden."""
    def answer(q, k, v, keys, values):
        past, read = seen(keys, k), seen(values, v)
        scores = q @ past.T * scale(q.shape[1])
        scores[np.triu(np.ones(scores.shape, bool), border(len(keys)))] = -np.inf
        p = np.exp(scores - scores.max(-1, keepdims=True))
        return p / p.sum(-1, keepdims=True) @ read, kept(keys, k), kept(values, v)
    return answer


MISTAKES = tuple(mistake(says, caught_by=property)(answer) for says, property, answer in (
    ("it attends before the new keys and values are in the cache: a token does not see itself, and the first one nothing",
     first_token, slip(seen=lambda old, new: old)),
    ("the cache is returned as it came, without the new keys and values", cache_grows, slip(kept=lambda old, new: old)),
    ("the cache is replaced by the new keys and values: the past is forgotten", cache_grows,
     slip(kept=lambda old, new: new)),
    ("the new keys and values stand before the old ones", cache_grows,
     slip(seen=lambda old, new: behind(new, old), kept=lambda old, new: behind(new, old))),
    ("it attends to the new tokens alone, and not to the cache", token_by_token,
     slip(seen=lambda old, new: new, border=lambda t: 1)),
    ("the mask is that of an empty cache: new token i sees the first i + 1 tokens of the text, and not all up to itself",
     token_by_token, slip(border=lambda t: 1)),
    ("the mask is off by one: a token does not see itself", first_token, slip(border=lambda t: t)),
    ("nothing is hidden: of several new tokens, the first ones see those after them", at_once, slip(border=lambda t: 9)),
    ("something is hidden only where the cache is empty", one_and_two, slip(border=lambda t: 9 if t else 1)),
    ("the scores are not divided by √D", token_by_token, slip(scale=lambda D: 1)),
))
