"""Reading a text that grows: what was read stays in a KV cache, and only what is new costs work."""
import numpy as np

from ..decode import decoder
from ..generate import FEW, in_parts, read
from ..nn import evaluating
from .cache import KVCache


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

    def scores_after(self, ids):
        """Scores of what comes after the ids, a list: (1, V). The last id is always read: its scores are kept nowhere."""
        known = min(self.known(ids), len(ids) - 1)
        self.cache.forget(known)                         # what was forgotten, or half read when it was interrupted
        self.seen = self.seen[:known]
        new = np.array(ids[known:])
        with evaluating(self.model):
            scores = in_parts(self.read, [new], [self.cache], few=len(new) < FEW)
        self.seen = list(ids)
        return scores

    def read(self, new, cache):
        return self.read_one(new, cache) if len(new) == 1 else read(self.model, new[None], None, cache)
