"""What a transformer remembers while it writes: keys and values of the tokens read so far."""
from copy import copy

from ..backend import array_module
from ..modes import grad_enabled
from ..ops.causal_attention import heads


class KVCache:
    """Keys and values of the tokens read so far, so that reading one more costs one token's work, not all of them.

    Room for `length` tokens of `batch` sequences is taken at once. For decoding only: no gradient flows through it.
    """

    def __init__(self, model, batch, length=None):
        c = model.config
        length = c.block_size if length is None else length
        w = model.ln_f.weight.data                                                # of floats, also when quantised
        self.xp = array_module(w)
        self.layers = [LayerCache(self.xp.empty((2, batch, c.n_kv_head, length, c.head_size), w.dtype))
                       for _ in range(c.n_layer)]
        self.mask = None                                                          # bool (B, length so far)

    @property
    def length(self):
        return self.layers[0].length

    def forget(self, length):
        """Keep the first `length` tokens; what comes next is read in the place of the others."""
        for layer in self.layers:
            layer.length = min(layer.length, length)
        self.mask = None if self.mask is None else self.mask[:, :length]

    def rows(self, rows, more):
        """A cache of the sequences `rows`, a list in which one may stand several times: all go on in their own ways, each with
        room for `more` tokens."""
        again, rows = copy(self), self.xp.asarray(rows)
        again.layers = [layer.rows(rows, more) for layer in self.layers]
        again.mask = None if self.mask is None else self.mask[rows]
        return again

    def extend(self, mask, B, T):
        """Remember which of the T new tokens are real; returns the mask of all so far, None while all are."""
        if grad_enabled():
            raise RuntimeError("a KVCache is for decoding under no_grad: gradients do not flow into the past")
        if mask is None and self.mask is None:
            return None
        past = self.xp.ones((B, self.length), bool) if self.mask is None else self.mask
        new = self.xp.ones((B, T), bool) if mask is None else mask
        self.mask = self.xp.concatenate([past, new], axis=1)
        return self.mask


class LayerCache:
    """One block's part of a KVCache."""

    def __init__(self, kv):
        self.kv = kv                                                              # (2, B, K, length, D)
        self.length = 0

    def rows(self, rows, more):
        two, _, K, _, D = self.kv.shape
        again = LayerCache(array_module(self.kv).empty((two, len(rows), K, self.length + more, D), self.kv.dtype))
        again.kv[:, :, :, :self.length] = self.kv[:, rows, :, :self.length]
        again.length = self.length
        return again

    def extend(self, k, v):
        """The new tokens join: their keys and values (B, K, T, D) -> those of all so far (B, K, S, D)."""
        start, self.length = self.length, self.length + k.shape[2]
        self.kv[0, :, :, start:self.length] = k
        self.kv[1, :, :, start:self.length] = v
        return self.kv[:, :, :, :self.length]

    def append(self, qkv, n_head):
        """The same from projections side by side: (B, T, 3C) -> the new queries (B, H, T, D), and keys and values of all
        so far."""
        q, k, v = heads(qkv, 3, n_head)
        return q, *self.extend(k, v)
