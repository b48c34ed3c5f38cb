"""How a model reads a text: each token on the colour of its probability, and what was expected in its place."""
from html import escape
from math import exp, log
from typing import NamedTuple

import numpy as np

from .. import functional as F
from ..modes import no_grad
from ..nn import evaluating
from ..text.show import INK, readable
from . import report

COLOURS = ((0, (220, 252, 231)), (3, (254, 240, 178)), (10, (248, 150, 130)))      # bits of surprise, and a ground (r, g, b)


class Read(NamedTuple):
    """A token of a text: itself, log p, its rank among all tokens (1: the likeliest), and the likeliest, [(token, p)]."""
    piece: str
    logp: float
    rank: int
    likeliest: list

    @property
    def bits(self):
        return -self.logp / log(2)


def read(model, text, *, top=5):
    """[Read] of the text's tokens, each given those before it; `model` is a LanguageModel."""
    ids = after_start(model, model.ids(text)).tolist()
    if not ids:
        raise ValueError("the text is empty: there is nothing to be surprised at")
    piece = lambda i: readable(model.tokenizer.token(int(i)))
    reads = []
    for i, logp in zip(ids, every_logprobs(model, ids)):
        best = np.argsort(-logp, kind="stable")[:top]
        rank = int((logp > logp[i]).sum()) + 1
        reads.append(Read(piece(i), float(logp[i]), rank, [(piece(b), exp(logp[b])) for b in best]))
    return reads


def after_start(model, ids):
    """The ids (T,) without the token that stands before every text, where it is written out: ^ in front of a name."""
    return ids[1:] if len(ids) and ids[0] == model.start else ids


def every_logprobs(model, ids):
    """log p of all tokens before each of the ids (T,): T arrays (V,). A network reads a text that fits its block at once."""
    network = getattr(model, "network", None)
    if network is None or len(ids) > network.config.block_size:
        return (model.next_logprobs(np.array(ids[:t], np.int64)) for t in range(len(ids)))
    with no_grad(), evaluating(network):
        scores = network(np.array([[model.start, *ids[:-1]]])).numpy()[0, :, :len(model.tokenizer)]
        return F.log_softmax(scores.astype(np.float64)).numpy()


def colour(bits):
    """The ground on which a token of so many bits of surprise stands, as #rrggbb: green, yellow, red."""
    at, grounds = zip(*COLOURS)
    return "#" + "".join(f"{round(np.interp(bits, at, c)):02x}" for c in zip(*grounds))


def summary(reads):
    bits = sum(r.bits for r in reads)
    n = len(reads)
    return (f"{n} token{'s' if n > 1 else ''}, {bits:.1f} bits of surprise: {bits / n:.2f} a token, as if each were chosen "
            f"among {2 ** (bits / n):.1f} equally likely ones")


def row(r):
    """A token's line in a table: itself, probability, bits, rank, and what was likeliest."""
    likeliest = ", ".join(f"{token} {percent(p)}" for token, p in r.likeliest)
    return r.piece, percent(exp(r.logp)), f"{r.bits:.2f}", f"{r.rank}", likeliest


def percent(p):
    return f"{p:.0%}" if p >= 0.1 else f"{p:.1%}" if p >= 0.001 else f"{p:.1g}"


KEY = (0, 1, 2, 3, 5, 7, 10)            # bits whose colours a page explains
HEAD = ("token", "p", "bits", "rank", "likeliest")


def show(reads, *, console=None):
    """Print the text in colours, a table, and a line that sums up."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text
    console = console or Console()
    line = Text()
    for r in reads:
        line.append(r.piece, style=f"{INK} on {colour(r.bits)}")
    console.print(line)
    table = Table(*HEAD)
    for column in table.columns[1:4]:
        column.justify = "right"
    for r in reads:
        piece, *others = row(r)
        table.add_row(Text(piece, style=f"{INK} on {colour(r.bits)}"), *map(Text, others))
    console.print(table)
    console.print(summary(reads), highlight=False)


STYLE = """
.stream { font: 1.15rem/2 ui-monospace, Menlo, Consolas, monospace; overflow-wrap: anywhere }
.stream span { padding: .15rem 0; border-radius: .15rem }
.key span { padding: .15rem .5rem; font-size: .85rem; white-space: nowrap }
.wide { overflow-x: auto } .wide td { white-space: nowrap }
"""


def spans(reads):
    """The text as HTML: a span a token, whose tooltip says what was expected."""
    def span(r):
        piece, p, bits, rank, likeliest = map(escape, row(r))
        said = f"p {p}, {bits} bits, rank {rank}; {likeliest}"
        return f"<span style='background:{colour(r.bits)}' title=\"{said}\">{piece}</span>"
    return "<p class=stream>" + "".join(map(span, reads)) + "</p>"


def html(reads):
    """One self-contained page: the text, what the colours mean, and the table."""
    key = "".join(f"<span style='background:{colour(b)}'>{b} bit{'s' if b != 1 else ''}</span>" for b in KEY)
    return report.page("How the model reads it", summary(reads) + ".", [
        ("Token by token", f"<div class=wide>{report.table(HEAD, [row(r) for r in reads], words=True)}</div>")],
        style=STYLE, before=f"{spans(reads)}<p class=key>{key}</p>")
