"""Where the boxes of a graph stand on paper: in layers, the result at the bottom, and as few crossings as a few sweeps find
(Sugiyama et al. 1981 [LAYERS])."""
from dataclasses import dataclass, field
from itertools import count

APART, BETWEEN = 22, 34                 # pixels between boxes of a layer, and between layers
SWEEPS = 24
STRAIGHT = 8                            # how much more an edge minds a bend on its way than one at its ends


@dataclass(eq=False)
class Spot:
    """A box, or a gap between boxes through which an edge passes a layer: its size, and its centre."""
    width: float = 6.0
    height: float = 0.0                                 # of a gap, in the end, its layer's
    passes: bool = False
    x: float = 0.0
    y: float = 0.0
    above: list = field(default_factory=list)           # what is drawn towards it
    below: list = field(default_factory=list)


def layout(sizes, edges):
    """(spots, paths, (width, height)): a Spot for each box of `sizes`, (width, height); for each edge (i, j), from box i to
    box j > i, the Spots through which it runs, both ends among them."""
    spots = [Spot(*size) for size in sizes]
    rank = ranks(len(sizes), edges)
    layers = [[] for _ in range(max(rank) + 1)]
    paths = []
    for i, j in edges:
        passed = [Spot(passes=True) for _ in range(rank[j] + 1, rank[i])]                  # from the lower end upwards
        for spot, r in zip(passed, count(rank[j] + 1)):
            layers[r].append(spot)
        paths.append([spots[i], *passed[::-1], spots[j]])
        for a, b in zip(paths[-1], paths[-1][1:]):
            a.below.append(b)
            b.above.append(a)
    for spot, r in zip(spots, rank):
        layers[r].append(spot)
    in_order(layers, spots[-1])
    for sweep in range(SWEEPS):
        for layer in layers if sweep % 2 == 0 else layers[::-1]:
            place(layer, reorder=sweep < SWEEPS // 2, down=sweep % 2 == 0)
    return spots, paths, on_paper(layers)


def ranks(n, edges):
    """How far above the result each box stands: one layer above the highest that reads it. Edges go from lower to higher
    numbers, so that a pass from the last box to the first suffices."""
    rank = [0] * n
    for i, j in sorted(edges, key=lambda edge: -edge[1]):
        rank[i] = max(rank[i], rank[j] + 1)
    return rank


def in_order(layers, root):
    """Each layer in the order in which a walk from the result meets its spots: what belongs together begins together."""
    met, stack = {}, [root]
    while stack:
        spot = stack.pop()
        if spot not in met:
            met[spot] = len(met)
            stack += reversed(spot.above)
    for layer in layers:
        layer.sort(key=lambda spot: met.get(spot, len(met)))
        x = 0.0
        for spot in layer:
            spot.x = x + spot.width / 2
            x += spot.width + APART


def place(layer, *, reorder, down):
    """Move each spot of a layer towards the middle of what it is joined to, as near as the others let it."""
    def wish(spot):
        joined = (spot.below if down else spot.above) if reorder else spot.above + spot.below
        weights = [STRAIGHT if spot.passes and other.passes else 1 for other in joined]
        return sum(w * other.x for w, other in zip(weights, joined)) / sum(weights) if joined else spot.x

    wishes = {spot: wish(spot) for spot in layer}
    if reorder:
        layer.sort(key=wishes.get)
    gaps = [0.0] + [(a.width + b.width) / 2 + APART for a, b in zip(layer, layer[1:])]
    for spot, x in zip(layer, apart([wishes[spot] for spot in layer], gaps)):
        spot.x = x


def apart(wishes, gaps):
    """The positions nearest to the wishes, in the sense of least squares, with gaps[i] at least between i − 1 and i: groups
    whose wishes collide share their mean."""
    offsets, groups = [], []
    for wish, gap in zip(wishes, gaps):
        offsets.append((offsets[-1] if offsets else 0.0) + gap)
        groups.append((wish - offsets[-1], 1))
        while len(groups) > 1 and groups[-2][0] > groups[-1][0]:
            (a, n), (b, m) = groups[-2:]
            groups[-2:] = [((a * n + b * m) / (n + m), n + m)]
    starts = [mean for mean, n in groups for _ in range(n)]
    return [start + offset for start, offset in zip(starts, offsets)]


def on_paper(layers):
    """Give the layers their heights, and move all into the upper right quarter: (width, height) of the paper."""
    y = 0.0
    for layer in reversed(layers):
        tallest = max(spot.height for spot in layer)
        for spot in layer:
            spot.y = y + tallest / 2
            spot.height = tallest if spot.passes else spot.height
        y += tallest + BETWEEN
    everything = [spot for layer in layers for spot in layer]
    left = min(spot.x - spot.width / 2 for spot in everything)
    for spot in everything:
        spot.x -= left
    return max(spot.x + spot.width / 2 for spot in everything), y - BETWEEN
