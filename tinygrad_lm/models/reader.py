"""Reading a text that grows: what was read stays in a KV cache, and only what is new costs work."""
import numpy as np

from ..decode import decoder
from ..generate import FEW, in_parts, read
from ..nn import evaluating
from .cache import KVCache

PART = 256                              # tokens that are read at once: more are hardly faster, and nobody can interrupt


class Reader:
    """What a GPT expects after a text, over one cache with room for `room` tokens.

    The text may be another one each time: of it the tokens up to the first that differs are in the cache already.
    """

    def __init__(self, model, room):
        self.model, self.read_one = model, decoder(model)
        self.cache, self.seen = KVCache(model, 1, room), []                        # the ids that the cache holds

    def forget(self):
        """Read the next text anew from its first token."""
        self.seen = []

    def known(self, ids):
        """How many of the first of these ids the cache holds."""
        return next((i for i, (a, b) in enumerate(zip(ids, self.seen)) if a != b), min(len(ids), len(self.seen)))

    def scores_after(self, ids, between=lambda: None):
        """Scores of what comes after the ids, a list: (1, V). The last id is always read: its scores are kept nowhere.

        A long text is read in parts, and `between()` called before each. It may raise: what was read until then is known.
        """
        known = min(self.known(ids), len(ids) - 1)
        self.cache.forget(known)                         # what was forgotten, or half read when it was interrupted
        self.seen = self.seen[:known]
        with evaluating(self.model):
            while len(self.seen) < len(ids):
                between()
                new = list(ids[len(self.seen):len(self.seen) + PART])
                scores = in_parts(self.read, [np.array(new)], [self.cache], few=len(new) < FEW)
                self.seen = self.seen + new
        return scores

    def read(self, new, cache):
        return self.read_one(new, cache) if len(new) == 1 else read(self.model, new[None], None, cache)
