"""A model that only counts.

The simplest language model counts which token followed which: c(hw) is how often w came right after h. A bigram model
would say p(w | h) = c(hw) / c(h), with c(h) = Σ_w c(hw) for how often anything came after h. But then a pair that the
text does not have could never be. Kneser and Ney take a little, d, of every pair that was seen, and give it to all
tokens [KN]:

    p(w | h) = max(c(hw) − d, 0) / c(h)  +  d n(h) / c(h) · p′(w)

n(h) is how many *different* tokens came after h: that many times d was taken. And p′(w) is not how frequent w is, but
after how many different tokens it came, as a share of all different pairs: a token that is frequent after a single
other one, as "Francisco" is after "San", is no good guess elsewhere. Where nothing ever came after h, p(w | h) is
p′(w).

The last token of the text is no context: nothing comes after it.
"""
from collections import Counter

import numpy as np
from hypothesis import strategies as st

from .parts import holds, mistake

HINTS = (
    "Count in a table (V, V): its row h says what came after h. The pairs of a text are ids[:-1] with ids[1:].",
    "np.add.at(counts, (ids[:-1], ids[1:]), 1) counts a pair as often as it occurs; counts[…] += 1 would count it once.",
    "seen = counts > 0 has the different pairs. n(h) is seen[h].sum(), and p′ is seen.sum(0) / seen.sum().",
    "(np.maximum(counts[h] - d, 0) + d * seen[h].sum() * p′) / counts[h].sum(), or p′ alone where that sum is 0.",
)


def after(ids, h, V, d):
    """p(w | h) for every token w, float (V,).

    ids: int (L,), the text, L ≥ 2, of tokens 0 to V − 1; h: the token before; d: the discount, a number from 0 to 1
    """
    counts = np.zeros((V, V))
    np.add.at(counts, (ids[:-1], ids[1:]), 1)                   # as a loop: counts[a, b] += 1 for each pair
    seen = counts > 0
    backoff, total = seen.sum(0) / seen.sum(), counts[h].sum()
    if total == 0:
        return backoff
    return (np.maximum(counts[h] - d, 0) + d * seen[h].sum() * backoff) / total


ANSWER = after

V = 3
TEXT, H = st.lists(st.integers(0, V - 1), min_size=2, max_size=7).map(np.array), st.integers(0, V - 1)


@holds("Without a discount it is the share of w among all that came after h", ids=TEXT, i=st.integers(0, 5))
def shares(answer, ids, i):
    h = ids[i % (len(ids) - 1)]
    follow = [b for a, b in zip(ids, ids[1:]) if a == h]
    return answer(ids, int(h), V, 0.0), np.array([follow.count(w) / len(follow) for w in range(V)])


@holds("Probabilities have the sum 1, whatever came before", ids=TEXT, h=H, d=st.just(0.5))
def sum_is_one(answer, ids, h, d):
    return np.sum(answer(ids, h, V, d)), 1.0


@holds("After a token that nothing ever followed, w is as probable as there are different tokens before it", ids=TEXT)
def unseen(answer, ids):
    pairs = {*zip(ids.tolist(), ids[1:].tolist())}
    return answer(ids, V, V + 1, 0.5), np.array([sum(b == w for _, b in pairs) / len(pairs) for w in range(V + 1)])


@holds("Each pair that was seen loses d, and what all lose is shared out by p′",
       ids=TEXT, h=H, d=st.sampled_from((0.5, 1.0)))
def by_definition(answer, ids, h, d):
    c = Counter(zip(ids.tolist(), ids[1:].tolist()))
    p = np.array([sum(b == w for _, b in c) / len(c) for w in range(V)])
    losses = [min(d, c[h, w]) for w in range(V)]
    total = sum(c[h, w] for w in range(V))
    own = [c[h, w] - losses[w] for w in range(V)]
    return answer(ids, h, V, d), p if total == 0 else (own + sum(losses) * p) / total


PROPERTIES = (shares, sum_is_one, unseen, by_definition)


def slip(*, count=lambda ids: zip(ids[:-1], ids[1:]), total=lambda c, ids, h: c[h].sum(), taken=1, least=0,
         given=lambda c, h: (c[h] > 0).sum(), backoff=lambda c: (c > 0).sum(0), always=False):
    """The model with slips: other pairs, another total, nothing taken, something else given, another p′."""
    def answer(ids, h, V, d):
        counts = np.zeros((V, V))
        for a, b in count(ids):
            counts[a, b] += 1
        p = backoff(counts) / backoff(counts).sum()
        n = total(counts, ids, h)
        if n == 0 and not always:
            return p
        return (np.maximum(counts[h] - taken * d, least) + d * given(counts, h) * p) / n
    return answer


MISTAKES = tuple(mistake(says, caught_by=property)(answer) for says, property, answer in (
    ("a pair is counted once, however often it occurs: so does counts[a, b] += 1 where a and b are arrays", shares,
     slip(count=lambda ids: {*zip(ids[:-1].tolist(), ids[1:].tolist())})),
    ("it counts what came *before* h", shares, slip(count=lambda ids: zip(ids[1:], ids[:-1]))),
    ("c(h) counts the last token of the text as a context, and nothing comes after that one", shares,
     slip(total=lambda c, ids, h: (ids == h).sum())),
    ("the discount is given away, but not taken: the sum is above 1", sum_is_one, slip(taken=0)),
    ("what is taken is d once: it was taken from each of n(h) pairs", sum_is_one, slip(given=lambda c, h: 1)),
    ("a pair that was never seen loses d as well: its count would be below 0", sum_is_one, slip(least=-1)),
    ("0 / 0 where nothing ever came after h: there it is p′", sum_is_one, slip(always=True)),
    ("p′ is the share of w among all tokens: it is among different pairs", unseen, slip(backoff=lambda c: c.sum(0))),
    ("p′ counts the tokens that came *after* w: it is of those before it", unseen, slip(backoff=lambda c: (c > 0).sum(1))),
    ("p′ is the same for every token: it is the share of w among the different pairs", unseen,
     slip(backoff=lambda c: np.ones(len(c)))),
))
