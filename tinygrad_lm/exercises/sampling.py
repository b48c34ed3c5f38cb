"""Only what is likely enough.

A model gives every token of its vocabulary a probability, the thousands of absurd ones as well. Each of those is
unlikely, but together they are not, and one of them is enough to spoil a text. Nucleus sampling, "top-p", draws from
the likeliest tokens alone [NUCLEUS]: as few of them as together reach a probability of P.

    probabilities  0.5  0.125  0.25  0.125       P = 0.7
    kept           0.5         0.25              0.5 is not enough, 0.5 + 0.25 is
    returned       ⅔    0      ⅓     0           of sum 1, each token in its place

The likeliest token is always kept, even if P is smaller than its probability. Of equally likely tokens, the first comes
first.
"""
import numpy as np
from hypothesis import strategies as st

from .parts import holds, mistake

HINTS = (
    "order = np.argsort(-p, kind=\"stable\") has the likeliest first, and of equals the first. p[order] is sorted.",
    "A token is kept if those that come before it do not reach P. How much comes before each? np.cumsum, less its own.",
    "kept = order[before < P] are the places of those that stay.",
    "q = np.zeros_like(p); q[kept] = p[kept]; and then q must have the sum 1.",
)


def nucleus(p, P):
    """The probabilities to draw from, float (V,): 0 outside of the nucleus, and of sum 1.

    p: float (V,), probabilities; P: the probability that the nucleus is to reach, above 0 and at most 1
    """
    order = np.argsort(-p, kind="stable")
    before = np.cumsum(p[order]) - p[order]                     # how much is likelier than each
    kept = order[before < P]
    q = np.zeros_like(p)
    q[kept] = p[kept]
    return q / q.sum()


ANSWER = nucleus

EIGHTHS = st.integers(1, 8).map(lambda n: n / 8)                # exact in binary: no sum is rounded


@st.composite
def probabilities(draw):
    """Of 1 to 5 tokens, in eighths, none of them 0."""
    cuts = draw(st.lists(st.integers(1, 7), max_size=4, unique=True))
    return np.diff([0, *sorted(cuts), 8]) / 8


@holds("With a P near 0 the likeliest token alone is left", p=probabilities(), P=st.just(0.0625))
def likeliest(answer, p, P):
    return answer(p, P), np.eye(len(p))[p.argmax()]


@holds("With P = 1 nothing changes", p=probabilities(), P=st.just(1.0))
def all_of_them(answer, p, P):
    return answer(p, P), p


@holds("Those that are kept have the sum 1, and are to each other as before", p=probabilities(), P=EIGHTHS)
def proportions(answer, p, P):
    q = np.asarray(answer(p, P))
    return q, np.where(q > 0, p, 0) / p[q > 0].sum()


@holds("Those that are kept reach P, and without the least of them they would not", p=probabilities(), P=EIGHTHS)
def just_enough(answer, p, P):
    ranked = sorted(range(len(p)), key=lambda i: (-p[i], i))
    enough = next(n for n in range(1, len(p) + 1) if sum(p[ranked[:n]]) >= P)
    return np.flatnonzero(answer(p, P)), np.array(sorted(ranked[:enough]))


PROPERTIES = (likeliest, all_of_them, proportions, just_enough)


def slip(*, keep=lambda before, own, P: before < P, order=lambda p: np.argsort(-p, kind="stable"), normalised=True,
         back=lambda q, order: q[np.argsort(order)]):
    """Top-p with slips: another border, another order, no sum of 1, tokens in other places."""
    def answer(p, P):
        at = order(p)
        own = p[at]
        q = np.where(keep(np.cumsum(own) - own, own, P), own, 0)
        q = q / q.sum() if normalised else q
        return back(q, at)
    return answer


def unsorted(p, P):
    own = p[np.argsort(-p, kind="stable")]
    q = np.where(np.cumsum(own) - own < P, p, 0)
    return q / q.sum()


first = lambda own: np.arange(len(own)) == 0

MISTAKES = tuple(mistake(says, caught_by=property)(answer) for says, property, answer in (
    ("the token with which P is reached is left out, and where that is the likeliest, nothing is left: 0 / 0", likeliest,
     slip(keep=lambda before, own, P: before + own <= P)),
    ("the likeliest is kept, but of the others the one with which P is reached is left out", just_enough,
     slip(keep=lambda before, own, P: (before + own <= P) | first(own))),
    ("one token too many is kept, where those before it reach P exactly", just_enough,
     slip(keep=lambda before, own, P: before <= P)),
    ("each token's own probability is compared with P: it is their sum that has to reach it", likeliest,
     slip(keep=lambda before, own, P: (own >= P) | first(own))),
    ("the tokens are sorted from the least likely", likeliest, slip(order=lambda p: np.argsort(p, kind="stable"))),
    ("of equally likely tokens the last comes first, as in argsort(p)[::-1]", likeliest,
     slip(order=lambda p: np.argsort(p)[::-1])),
    ("the tokens are not sorted: it keeps those with the smallest numbers", likeliest,
     slip(order=lambda p: np.arange(len(p)))),
    ("what is kept has no sum of 1: these are no probabilities", likeliest, slip(normalised=False)),
    ("what is returned is sorted: each probability has to be in the place of its token", likeliest,
     slip(back=lambda q, order: q)),
    ("it goes back to the tokens' places the wrong way: q[order] sorts once more, q[order] = … puts back", likeliest,
     slip(back=lambda q, order: q[order])),
    ("what is kept is marked in the sorted order, and taken from p, which is not sorted", likeliest, unsorted),
))
