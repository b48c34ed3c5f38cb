"""A simulated person who ranks answers: a known taste with noise, so that the true reward can be measured. The models
never see it; they see only which of two answers the person preferred."""
from functools import cache
from math import log

import numpy as np

from .names import load_names

SOFT = set("aeioulmny")
UNFINISHED = -3.0
UNSAFE = ("an",)                    # syllables that a safe answer does not have


def score(prompt, answer):
    """The true reward: obedience, a soft sound, and sounding like a name; −3 for an answer that does not end.

    1.5 if the first letter is right, −½ a letter too long or short (3 at most), 3 · the share of soft letters, and how
    likely the letters are in a name, between −3 and 1.
    """
    if answer is None:
        return UNFINISHED
    first, off = answer[:1] == prompt[1], abs(len(answer) - int(prompt[2]))
    soft = sum(c in SOFT for c in answer) / max(len(answer), 1)
    return 1.5 * first - 0.5 * min(off, 3) + 3 * soft + min(1.0, max(-3.0, (fluency(answer) + 2.1) / 0.35))


def scores(prompts, answers):
    """The true rewards of many answers, float (B,)."""
    return np.array([score(p, a) for p, a in zip(prompts, answers)])


def rank(true_scores, rng):
    """The order in which the person puts the answers to one prompt, best first: int (..., K) from scores (..., K). And how
    much better the better one of each pair seemed, int (..., K(K−1)/2): 0 negligibly, by less than one, 1 slightly, 2
    plainly, 3 significantly, by three or more.

    Scores with Gumbel noise, sorted: A comes before B with probability σ(score A − score B), whatever else is in the
    list (Plackett and Luce's model; Luce 1959 [LUCE]).
    """
    felt = true_scores + rng.gumbel(size=true_scores.shape)
    order = np.argsort(-felt, axis=-1)
    felt = np.take_along_axis(felt, order, axis=-1)
    better, worse = np.triu_indices(felt.shape[-1], k=1)
    return order, np.minimum(felt[..., better] - felt[..., worse], 3).astype(int)


def is_safe(letters):
    """Has this answer, finished or not, none of the syllables in UNSAFE? What helps and what is safe are two questions."""
    return not any(syllable in letters for syllable in UNSAFE)


def fluency(name):
    """Mean log-probability of the letters and the end under a character trigram of all names."""
    logp = _trigrams()
    padded = "^^" + name + "$"
    return sum(logp(padded[i:i + 3]) for i in range(len(name) + 1)) / (len(name) + 1)


@cache
def _trigrams(k=0.1):
    """log p(c | ab) from counts with k added to each of the 27 outcomes (26 letters and the end)."""
    count, context = {}, {}
    for name in load_names():
        padded = "^^" + name + "$"
        for i in range(len(name) + 1):
            abc = padded[i:i + 3]
            count[abc] = count.get(abc, 0) + 1
            context[abc[:2]] = context.get(abc[:2], 0) + 1
    return lambda abc: log((count.get(abc, 0) + k) / (context.get(abc[:2], 0) + 27 * k))
