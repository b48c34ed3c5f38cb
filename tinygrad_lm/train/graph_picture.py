"""The graph that backward() walks, as a picture: every operation and every leaf with its shape, and, where they are few, its
numbers and their gradients. As Mermaid text, which many web pages draw, or as SVG."""
from contextlib import contextmanager
from html import escape

import numpy as np

from ..backend import to_host
from ..nn import Module
from ..tensor import Node, Tensor
from .layered import layout

FEW = 4                                 # numbers that are written out


class Watched(dict):
    """{node: its value}, and in `gradients` {node: its gradient}, of those with few numbers."""

    def __init__(self):
        super().__init__()
        self.gradients = {}

    def see(self, node, result):
        if result.size <= FEW:
            self[node] = to_host(result).copy()
            node.backward = self.noting(node, node.backward)

    def noting(self, node, backward):
        def noted(dy, saved, needs):
            self.gradients[node] = to_host(dy).copy()
            return backward(dy, saved, needs)
        return noted


@contextmanager
def watching():
    """with watching() as watched: what is computed inside keeps its small values and gradients for the picture, which the
    engine forgets as soon as it can. Not for two threads at once."""
    before, watched = Node.watch, Watched()
    Node.watch = watched.see
    try:
        yield watched
    finally:
        Node.watch = before


class Graph:
    """What a tensor was computed from: `boxes`, Nodes and leaf Tensors, the oldest first; `edges`, (i, j), an entry for each
    time that box j reads box i. Take it before backward(), which frees the graph, and draw it after.

    `names` is {name: tensor}, or a Module, whose parameters then have their names; `watched` is what `watching` gave.
    What no gradient flows through (constants, token ids) is not in the graph, and so not in the picture. With `fold`, a leaf
    is a line in the boxes that read it instead of a box of its own.
    """

    def __init__(self, tensor, names=None, watched=None, *, fold=False):
        if not tensor.requires_grad:
            raise ValueError("this tensor has no graph: nothing that it was computed from requires a gradient, or it was "
                             "computed under no_grad")
        names = dict(names.named_parameters()) if isinstance(names, Module) else names or {}
        self.names = {source(t): name for name, t in names.items()}
        self.tensors = {source(t): t for t in names.values()}
        self.watched = Watched() if watched is None else watched
        found = everything(source(tensor))
        reads = {box: [t for t in inputs(box) if t is not None] for box in found}
        self.folded = {box: [t for t in reads[box] if isinstance(t, Tensor)] if fold else [] for box in found}
        self.boxes = [box for box in found if not fold or isinstance(box, Node) or len(found) == 1]
        place = {box: i for i, box in enumerate(self.boxes)}
        self.edges = [(place[t], place[box]) for box in self.boxes for t in reads[box] if t in place]

    def lines(self, box):
        """What is written in a box: its name, its shape, its value; then the leaves that are folded into it."""
        name = self.names.get(box)
        title = (f"{name} = {box.name}" if name else box.name) if isinstance(box, Node) else name or "leaf"
        folded = [f"{self.names.get(leaf, 'leaf')} {shape(leaf)}" for leaf in self.folded[box]]
        value = self.value(box)
        return [title, *([numbers(value)] if value is not None else [shape(box)]), *folded]

    def value(self, box):
        tensor = box if isinstance(box, Tensor) else self.tensors.get(box)
        if tensor is not None:
            return tensor.numpy() if tensor.size <= FEW else None
        return self.watched.get(box)

    def gradient(self, box):
        """The gradient as a line, or None."""
        g = to_host(box.grad) if isinstance(box, Tensor) and box.grad is not None else self.watched.gradients.get(box)
        return None if g is None or g.size > FEW else f"d {numbers(g)}"


def source(tensor):
    """What stands for a tensor in the graph: the node that made it, or itself."""
    return tensor.node or tensor


def inputs(box):
    return box.inputs if isinstance(box, Node) else ()


def everything(root):
    """All that `root` depends on, and itself: leaves first, then nodes by their age."""
    seen, stack = {root: None}, [root]
    while stack:
        box = stack.pop()
        if inputs(box) is None:
            raise ValueError(f"the graph of `{box.name}` was freed by backward(): make the Graph before it")
        for t in inputs(box):
            if t is not None and t not in seen:
                seen[t] = None
                stack.append(t)
    return sorted(seen, key=lambda box: box.number if isinstance(box, Node) else -1)


def shape(box):
    return str(tuple(box.shape)) if box.shape else "a number"


def numbers(a):
    return np.array2string(np.asarray(a), separator=", ", formatter={"float_kind": "{:.4g}".format}).replace("\n", "")


# ---- Mermaid ---------------------------------------------------------------------------------------------------------

def mermaid(graph):
    """The picture as Mermaid text: a leaf is rounded."""
    lines = ["flowchart TD"]
    for i, box in enumerate(graph.boxes):
        text = "<br/>".join(map(for_mermaid, filter(None, [*graph.lines(box), graph.gradient(box)])))
        lines.append(f'    n{i}["{text}"]' if isinstance(box, Node) else f'    n{i}(["{text}"])')
    return "\n".join([*lines, *(f"    n{i} --> n{j}" for i, j in graph.edges)]) + "\n"


def for_mermaid(text):
    """Text inside quotes, in which Mermaid writes some characters as it writes no other language."""
    return "".join({'"': "#quot;", "<": "#lt;", ">": "#gt;", "#": "#35;", "&": "#amp;"}.get(c, c) for c in text)


# ---- SVG -------------------------------------------------------------------------------------------------------------

LETTER, LINE, MARGIN = 6.65, 15, 14     # pixels: the width of a letter of 11 pixels, a line's height, around the picture
STYLE = ("text{font:11px ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;fill:#1f2933;text-anchor:middle}"
         ".t{font-weight:700}.d{fill:#c2410c}.f{fill:#52606d}"
         "rect{stroke:#9aa5b1;fill:#f5f7fa}.leaf rect{stroke:#2563eb;fill:#eff6ff}.root rect{stroke:#15803d;fill:#f0fdf4}"
         "path{fill:none;stroke:#9aa5b1;stroke-width:1.2}")


def svg(graph):
    """The picture as SVG, one self-contained text: leaves are blue, the result is green, gradients are orange."""
    texts = [[(line, "t" if k == 0 else "" if k == 1 else "f") for k, line in enumerate(graph.lines(box))] +
             ([(graph.gradient(box), "d")] if graph.gradient(box) else []) for box in graph.boxes]
    sizes = [(max(len(line) for line, _ in text) * LETTER + 20, len(text) * LINE + 11) for text in texts]
    spots, paths, (width, height) = layout(sizes, graph.edges)
    drawn = [edge(path, port) for path, port in zip(paths, ports(graph, sizes))]
    for i, (box, spot, text) in enumerate(zip(graph.boxes, spots, texts)):
        kind = "leaf" if isinstance(box, Tensor) else "root" if i + 1 == len(spots) else "op"
        drawn.append(f'<g class="{kind}"><rect x="{spot.x - spot.width / 2:.1f}" y="{spot.y - spot.height / 2:.1f}" '
                     f'width="{spot.width:.1f}" height="{spot.height}" rx="{9 if kind == "leaf" else 3}"/>' + "".join(
                         f'<text class="{style}" x="{spot.x:.1f}" y="{spot.y - spot.height / 2 + LINE * (k + 1) + 1:.1f}">'
                         f"{escape(line)}</text>" for k, (line, style) in enumerate(text)) + "</g>")
    w, h = width + 2 * MARGIN, height + 2 * MARGIN
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{-MARGIN} {-MARGIN} {w:.0f} {h:.0f}" width="{w:.0f}" '
            f'height="{h:.0f}"><style>{STYLE}</style><defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" '
            f'markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" style="fill:#9aa5b1;stroke:none"/>'
            f'</marker></defs><rect x="{-MARGIN}" y="{-MARGIN}" width="{w:.0f}" height="{h:.0f}" '
            'style="fill:#fff;stroke:none"/>\n'
            + "\n".join(drawn) + "\n</svg>\n")


def ports(graph, sizes):
    """For each edge, how far from the middle of the box that reads it arrives: a box's inputs side by side, in order."""
    arriving = {}
    for _, j in graph.edges:
        arriving[j] = arriving.get(j, 0) + 1
    met = dict.fromkeys(arriving, 0)
    for _, j in graph.edges:
        step = min(16, sizes[j][0] / (arriving[j] + 1))
        yield (met[j] - (arriving[j] - 1) / 2) * step
        met[j] += 1


def edge(path, port):
    """A curve from the lower side of its first spot, straight through the gaps on its way, to the upper side of its last."""
    first, *passed, last = path
    x, y = first.x, first.y + first.height / 2
    d = [f"M{x:.1f} {y:.1f}"]
    for spot in [*passed, last]:
        to, top = spot.x + (port if spot is last else 0), spot.y - spot.height / 2
        d.append(f"C{x:.1f} {(y + top) / 2:.1f} {to:.1f} {(y + top) / 2:.1f} {to:.1f} {top:.1f}")
        x, y = to, spot.y + spot.height / 2
        if spot.passes:
            d.append(f"V{y:.1f}")
    return f'<path d="{"".join(d)}" marker-end="url(#tip)"/>'
