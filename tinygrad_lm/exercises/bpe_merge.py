"""The pair that stands together most often.

A tokenizer by byte-pair encoding [BPE] is trained in steps, all alike: find the pair of neighbours that is the most
frequent in the text, and write one new token in the place of each of its occurrences. With 4 as the new token:

    0 1 2 0 1 0    the pair (0, 1) stands there twice, all others once
    4 2 4 0

Of pairs that are equally frequent it is the one with the smaller numbers: (0, 2) before (1, 0), which comes before
(1, 2). Each place where two tokens are neighbours counts, so that 0 0 0 has the pair (0, 0) twice. But occurrences that
overlap cannot both be replaced: it goes from left to right, and 0 0 0 becomes 4 0.
"""
from collections import Counter

from hypothesis import strategies as st

from .parts import holds, mistake

HINTS = (
    "Two steps. Which pair? zip(ids, ids[1:]) are all neighbours, and collections.Counter counts them.",
    "min(counts, key=lambda pair: (-counts[pair], pair)): the most frequent first, and of equals the smaller.",
    "For the second step a loop with a place i of its own: it goes on by 2 where the pair was replaced, and by 1 elsewhere.",
    "while i < len(ids): if tuple(ids[i:i + 2]) == pair: append new, and i += 2; else: append ids[i], and i += 1",
)


def merge_most_frequent(ids, new):
    """(pair, merged): the most frequent pair of neighbours, a tuple of two tokens, and the list with `new` in its place.

    ids: list of int, two at least; new: int, which is not in ids
    """
    counts = Counter(zip(ids, ids[1:]))
    pair = min(counts, key=lambda pair: (-counts[pair], pair))
    merged, i = [], 0
    while i < len(ids):
        found = tuple(ids[i:i + 2]) == pair
        merged.append(new if found else ids[i])
        i += 2 if found else 1
    return pair, merged


ANSWER = merge_most_frequent

TEXT, NEW = st.lists(st.integers(0, 2), min_size=2, max_size=8), st.just(4)


def occurrences(ids):
    """[(how often, pair)], the most frequent first, and of equals the one with the smaller numbers."""
    pairs = [(a, b) for a, b in zip(ids, ids[1:])]
    return sorted(((pairs.count(pair), pair) for pair in {*pairs}), key=lambda found: (-found[0], found[1]))


@holds("No pair is more frequent than the one that is merged", ids=TEXT, new=NEW)
def most_frequent(answer, ids, new):
    found = {pair: often for often, pair in occurrences(ids)}
    return found.get(tuple(answer(list(ids), new)[0]), 0), max(found.values())


@holds("Of pairs that are equally frequent, it is the one with the smaller numbers", ids=TEXT, new=NEW)
def smaller_of_equals(answer, ids, new):
    return answer(list(ids), new)[0], occurrences(ids)[0][1]


@holds("Nothing is lost: with the pair written for the new token, it is the same text", ids=TEXT, new=NEW)
def nothing_lost(answer, ids, new):
    pair, merged = answer(list(ids), new)
    return [token for t in merged for token in (pair if t == new else (t,))], ids


@holds("Every occurrence is replaced, from left to right", ids=TEXT, new=NEW)
def every_one(answer, ids, new):
    text, pair = ("".join(map(str, tokens)) for tokens in (ids, occurrences(ids)[0][1]))
    return answer(list(ids), new)[1], [int(digit) for digit in text.replace(pair, str(new))]


PROPERTIES = (most_frequent, smaller_of_equals, nothing_lost, every_one)


def replaced(ids, pair, new, *, by=2, most=None):
    """The pair replaced at most so often; each time it goes on by so many places."""
    merged, i = [], 0
    while i < len(ids):
        found = tuple(ids[i:i + 2]) == pair and (most is None or merged.count(new) < most)
        merged.append(new if found else ids[i])
        i += by if found else 1
    return merged


def choosing(key=lambda counts, pair: (-counts[pair], pair), pairs=lambda ids: zip(ids, ids[1:])):
    """An answer that counts other pairs, or chooses another one."""
    def answer(ids, new):
        counts = Counter(pairs(ids))
        pair = min(counts, key=lambda pair: key(counts, pair))
        return pair, replaced(ids, pair, new)
    return answer


def merging(**slip):
    """An answer that replaces the right pair wrongly."""
    def answer(ids, new):
        pair = occurrences(ids)[0][1]
        return pair, replaced(ids, pair, new, **slip)
    return answer


def from_the_right(ids, new):
    pair = occurrences(ids)[0][1]
    return pair, replaced(ids[::-1], pair[::-1], new)[::-1]


def shortened(ids, new):
    pair, merged = merge_most_frequent(ids, new)
    return pair, merged if merged[-1] == new else merged[:-1]


MISTAKES = tuple(mistake(says, caught_by=property)(answer) for says, property, answer in (
    ("it takes the rarest pair", most_frequent, choosing(lambda counts, pair: (counts[pair], pair))),
    ("it takes the pair with the largest numbers: how often each occurs is not compared", most_frequent,
     choosing(lambda counts, pair: (-pair[0], -pair[1]))),
    ("it cuts the text into pairs, and counts every second place: a pair may begin anywhere", most_frequent,
     choosing(pairs=lambda ids: zip(ids[::2], ids[1::2]))),
    ("of equally frequent pairs it takes the one that comes first in the text", smaller_of_equals,
     choosing(lambda counts, pair: -counts[pair])),
    ("of equally frequent pairs it takes the one with the larger numbers", smaller_of_equals,
     choosing(lambda counts, pair: (-counts[pair], -pair[0], -pair[1]))),
    ("it goes on by one place after a pair, too, and meets its second token once more", nothing_lost, merging(by=1)),
    ("a last token that is in no pair is lost", nothing_lost, shortened),
    ("only the first occurrence is replaced", every_one, merging(most=1)),
    ("it goes from right to left: 0 0 0 is to become 4 0, and not 0 4", every_one, from_the_right),
))
