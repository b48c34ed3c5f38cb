"""Where each head looks: the weights of attention, which the fast operations do not keep, computed again from queries and
keys."""
import numpy as np

from .. import functional as F
from ..backend import to_host
from ..modes import no_grad
from ..nn import evaluating
from .report import INK, panels

LONGEST = 64                            # tokens that find room on an axis


def attention_weights(model, idx):
    """How much each token looks at each other, of every layer and head of a GPT or BERT: int (T,) -> [float (H, T, T)], rows
    sum to 1."""
    listeners = [Listener(block) for block in model.blocks]
    blocks, model.blocks = model.blocks, listeners
    try:
        with no_grad(), evaluating(model, *blocks):
            model.hidden(np.asarray(idx)[None])
    finally:
        model.blocks = blocks
    return [listener.weights for listener in listeners]


class Listener:
    """Stands where a block stands, and passes on what the block says."""

    def __init__(self, block):
        self.block = block

    def __call__(self, x, mask=None, cache=None, turn=None):
        before = self.block.attn.config.order == "post"
        self.weights = weights_of(self.block.attn, x if before else self.block.ln1(x), turn)
        return self.block(x, mask, cache, turn)


def weights_of(attention, x, turn=None):
    """softmax(q kᵀ / √D) of one text, each token seeing those before it or all: x (1, T, C) -> (H, T, T)"""
    c = attention.config
    _, T, _ = x.shape
    qkv = attention.qkv(x).reshape(1, T, -1, c.head_size).swapaxes(1, 2)
    q, k, _ = F.split(qkv, [c.n_head, c.n_kv_head, c.n_kv_head], axis=1)
    if turn is not None:
        q, k = F.rotary(q, *turn), F.rotary(k, *turn)
    q, k = to_host(q.data)[0], to_host(k.data)[0].repeat(c.n_head // c.n_kv_head, axis=0)           # (H, T, D)
    scores = q @ k.swapaxes(-1, -2) * c.head_size ** -0.5
    if c.causal:
        scores = np.where(np.tri(T, dtype=bool), scores, -np.inf)
    e = np.exp(scores - scores.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def attention_figure(weights, labels, *, first=0):
    """A heat map for each head: a row of them for each layer, (H, T, T), the first of which has the number `first`. From
    top to bottom the tokens that look, from left to right what they look at."""
    if len(labels) > LONGEST:
        raise ValueError(f"the text has {len(labels)} tokens, and a picture has room for {LONGEST}: shorten it")
    H, T = weights[0].shape[:2]
    side = max(1.6, 0.115 * T + 0.5)
    figure, axes = panels(len(weights), H, size=(side, side))
    for n, ax in enumerate(axes):
        layer, head = divmod(n, H)
        ax.imshow(weights[layer][head], vmin=0, vmax=1, cmap="Blues", interpolation="nearest")
        ax.set_title(f"layer {first + layer + 1}, head {head + 1}", fontsize=7.5, color=INK)
        ax.grid(False)
        ax.set_yticks(range(T), labels if head == 0 else [""] * T, fontsize=6.5, family="monospace")
        ax.set_xticks(range(T), labels if layer + 1 == len(weights) else [""] * T, fontsize=6.5, family="monospace",
                      rotation=0 if max(map(len, labels)) == 1 else 90)
        ax.tick_params(length=0, pad=2)
    return figure
