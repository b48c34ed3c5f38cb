"""n-grams: what comes next is what came next before, after the same n − 1 tokens. A model that only counts.

    NGram(texts, CharTokenizer.from_text(...), order=5, smoothing=kneser_ney)
"""
import numpy as np

from .language_model import LanguageModel


class NGram(LanguageModel):
    """Probabilities from counts of up to `order` tokens in a row.

    A smoothing turns the counts into two numbers, `own` for each n-gram hw and `back` for each context h. With h′ for h
    without its first token,

        p(w | h) = own(hw) + back(h) p(w | h′),   and at the very end p(w) = 1/V

    For an h that never occurred, own = 0 and back = 1. A text starts after n − 1 end tokens, and an end token ends it: the
    tokenizer's, or `end`.
    """

    def __init__(self, texts, tokenizer, *, order=5, smoothing=None, end=None):
        if order < 1:
            raise ValueError(f"order={order}: an n-gram has at least 1 token")
        self.tokenizer, self.order = tokenizer, order
        self.start = self.end = tokenizer.end if end is None else end
        grams = Grams([tokenizer.encode(t) for t in texts], order, len(tokenizer), self.end)
        self.keys = grams.keys
        # What is not found has the index −1, which reads the last entry: own 0, back 1.
        tables = (smoothing or kneser_ney)(grams)
        self.own, self.back = zip(*((np.append(own, 0), np.append(back, 1)) for own, back in tables))

    def logprobs(self, tokens, *, context=()):
        T, x = len(tokens), np.concatenate([self._past(context), tokens])
        p, before = np.full(T, 1 / len(self.tokenizer)), np.zeros(len(x) + 1, np.int64)
        for k in range(self.order):
            here = self._find(k, before[:-1], x[k:])                  # (k+1)-grams that end at each place from the k-th on
            p = self.own[k][here[len(here) - T:]] + self.back[k][before[len(before) - 1 - T:-1]] * p
            before = here
        return log(p)

    def logprob_each(self, texts, *, context=()):
        """See LanguageModel. All in one row, each behind its own copy of the past, which is not counted."""
        past, texts = self._past(self.ids(context)), [self.ids(t) for t in texts]
        logp = self.logprobs(np.concatenate([part for t in texts for part in (past, t)]))
        ends = np.cumsum([len(past) + len(t) for t in texts])
        return np.array([logp[end - len(t):end].sum() for end, t in zip(ends, texts)])

    def next_logprobs(self, context):
        x, every = self._past(context), np.arange(len(self.tokenizer))
        p, before = np.full(len(every), 1 / len(every)), np.zeros(len(x) + 1, np.int64)
        for k in range(self.order):
            p = self.own[k][self._find(k, before[-1], every)] + self.back[k][before[-1]] * p
            before = self._find(k, before[:-1], x[k:])
        return log(p)

    def _past(self, context):
        """The n − 1 tokens before the first: all that the model remembers of the context."""
        padded = [self.start] * (self.order - 1) + [*context]
        return np.array(padded[len(padded) - self.order + 1:], np.int64)

    def _find(self, k, context, token):
        """The number of the (k+1)-gram `context token`, the context a k-gram by its number; −1 where it never occurred."""
        key = context * len(self.tokenizer) + token                   # below 0, and so nowhere, for a context that is −1
        at = np.minimum(np.searchsorted(self.keys[k], key), len(self.keys[k]) - 1)
        return np.where(self.keys[k][at] == key, at, -1)


def log(p):
    with np.errstate(divide="ignore"):                                # log 0 = −∞: it cannot happen, says the model
        return np.log(p)


class Grams:
    """All n-grams of the texts, n = 1 … order, as sorted arrays of keys: number of its first n − 1 tokens · V + last token.

    An n-gram's number is its place in that array; `count` says how often each occurs, `context` which n−1-gram it begins
    with, `suffix` which one it ends with. Lists, from n = 1 on.
    """

    def __init__(self, texts, order, V, end):
        if not any(len(t) for t in texts):
            raise ValueError("the texts are empty: there is nothing to count")
        self.V, self.order = V, order
        stream, counts = padded(texts, order, end)
        self.keys, self.count, self.suffix = [], [], []
        here = shorter = np.zeros(len(stream) + 1, np.int64)          # the 0-gram ends before, between and after all tokens
        for k in range(order):
            keys, first, here = np.unique(here[:-1] * V + stream[k:], return_index=True, return_inverse=True)
            self.keys.append(keys)
            self.count.append(np.bincount(here, counts[k:], len(keys)))
            self.suffix.append(shorter[1:][first])
            shorter = here
        self.context = [keys // V for keys in self.keys]

    def sum_by_context(self, k, numbers):
        """The sum of a number of each (k+1)-gram over those with the same context: (grams of k + 1,) -> (grams of k,)."""
        return np.bincount(self.context[k], numbers, 1 if k == 0 else len(self.keys[k - 1]))


def padded(texts, order, end):
    """(all tokens in one row, int (N,), with order − 1 end tokens before each text and one behind it; 1 for those that count
    and 0 for those before a text)."""
    before = [end] * (order - 1)
    stream = np.concatenate([part for t in texts if len(t) for part in (before, t, [end])]).astype(np.int64)
    counts = np.concatenate([part for t in texts if len(t) for part in (np.zeros(order - 1), np.ones(len(t) + 1))])
    return stream, counts


# ---- smoothings: (own, back) for each n from 1 to order -----------------------------------------------------------------

def maximum_likelihood(grams):
    """p(w | h) = c(hw) / c(h): the likeliest explanation of the text, and of no other. An h that never occurred is cut to
    its longest end that did."""
    for k, count in enumerate(grams.count):
        total = grams.sum_by_context(k, count)
        yield count / np.maximum(total, 1)[grams.context[k]], (total == 0) * 1.0


def add_k(grams, *, k=0.1):
    """p(w | h) = (c(hw) + k) / (c(h) + kV): as if every n-gram had been seen k times more (Laplace: k = 1)."""
    if not k > 0:
        raise ValueError(f"add-k adds a number above 0, not {k}: for none at all, use maximum_likelihood")
    for n in range(grams.order - 1):                                  # shorter contexts have no say
        yield np.zeros(len(grams.keys[n])), np.ones(1 if n == 0 else len(grams.keys[n - 1]))
    total = grams.sum_by_context(grams.order - 1, grams.count[-1]) + k * grams.V
    yield grams.count[-1] / total[grams.context[-1]], k * grams.V / total


def kneser_ney(grams):
    """Interpolated, modified Kneser–Ney (Chen and Goodman 1999 [KN]):

        p(w | h) = (c(hw) − D(c(hw))) / c(h) + (Σ_w D(c(hw)) / c(h)) p(w | h′)

    What is taken from every n-gram that was seen is given to the shorter context. There c is not how often hw occurred but
    after how many different tokens: "Francisco" is frequent, but after "San" only, and so it is no good guess elsewhere.
    """
    for k in range(grams.order):
        count = grams.count[k]
        if k + 1 < grams.order:
            longer = grams.suffix[k + 1][grams.count[k + 1] > 0]
            count = np.bincount(longer, minlength=len(count)).astype(float)
        taken = discounts(count)[np.minimum(count, 3).astype(int)]
        total = grams.sum_by_context(k, count)
        own = (count - taken) / np.maximum(total, 1)[grams.context[k]]
        yield own, np.where(total > 0, grams.sum_by_context(k, taken) / np.maximum(total, 1), 1)


def discounts(count):
    """What is taken from a count of 0, of 1, of 2, and of 3 or more: (4,). With nᵢ n-grams that occur i times and
    Y = n₁ / (n₁ + 2n₂), it is i − (i+1) Y nᵢ₊₁/nᵢ; and i/2, where a text is too small or too strange to tell."""
    n = [np.sum(count == i) for i in range(5)]
    d = np.array([0, 0.5, 1, 1.5])
    if min(n[1:]) > 0:
        for i in (1, 2, 3):
            estimate = i - (i + 1) * n[1] / (n[1] + 2 * n[2]) * n[i + 1] / n[i]
            d[i] = estimate if 0 < estimate < i else d[i]
    return d
