"""Where a model puts its tokens: the embedding seen from the side on which it is widest."""
import numpy as np

from ..models.neural import plane
from .report import BLUE, INK, panels

MOST = 400                              # tokens that find room on a map


def embedding_figure(vectors, labels):
    """A map of vectors (N, C), N labels on it: their first two principal components, of the vectors' directions, since their
    lengths mostly say how frequent a token is."""
    if not 3 <= len(labels) <= MOST:
        raise ValueError(f"a map shows 3 to {MOST} tokens, not {len(labels)}: choose other ones")
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
    at = plane(unit)                                                     # (N, 2)
    share = (at ** 2).sum(0) / ((unit - unit.mean(0)) ** 2).sum()        # of what tells them apart
    figure, (ax,) = panels(1, 1, size=(6.4, 5.2))
    ax.scatter(*at.T, s=4 if len(labels) > 60 else 0, color=BLUE, alpha=0.35)
    for (x, y), label in zip(at, labels):
        ax.annotate(label, (x, y), ha="center", va="center", fontsize=11 if len(labels) <= 60 else 6.5, color=INK)
    ax.set(xlabel=f"first principal component: {share[0]:.0%} of the variance", ylabel=f"second: {share[1]:.0%}")
    ax.margins(0.06)
    return figure
