"""The four things that are measured. Each part asks both sides in turn and returns its rows, dicts of plain numbers:
"ours" and "torch" as medians over the rounds, "ratio" the median of ours/theirs round by round."""
from statistics import median

import numpy as np

from . import sizes
from .turns import in_turn, ratio

ROUNDS = 3


def compare(answers):
    """{"ours": median, "torch": median, "ratio": …} from each side's answers; the last two only where torch was asked."""
    row = {name: median(values) for name, values in answers.items()}
    return row | ({"ratio": ratio(answers["ours"], answers["torch"])} if "torch" in answers else {})


def shape_of(V, T, C, layers, heads, batch):
    return {"V": V, "T": T, "C": C, "layers": layers, "heads": heads, "batch": batch}


def step(both, *, quick=False):
    """Milliseconds of a training step."""
    for shape in sizes.QUICK_STEPS if quick else sizes.STEPS:
        yield shape_of(*shape) | compare(
            in_turn(both, ROUNDS, "step", *shape, seconds=0.3 if quick else 0.5, fresh=not quick))


def generate(both, *, quick=False):
    """New tokens a second; here a ratio above 1 is ahead."""
    for shape in sizes.QUICK_WRITERS if quick else sizes.WRITERS:
        answers = in_turn(both, ROUNDS, "tokens_per_second", *shape, seconds=0.1 if quick else 0.5, fresh=not quick)
        yield shape_of(*shape) | compare(answers)


def growth(both, *, quick=False):
    """Milliseconds of a training step as one number of the model grows."""
    for axis, shapes in (sizes.QUICK_GROWTH if quick else sizes.GROWTH).items():
        for shape in shapes:
            answers = in_turn(both, 1 if quick else ROUNDS, "step", *shape, seconds=0.2 if quick else 0.3, fresh=not quick)
            yield {"axis": axis} | shape_of(*shape) | compare(answers)


def ops(both, *, quick=False):
    """One core: milliseconds of each operation's forward and backward, and which share of what the machine could do."""
    shape = sizes.QUICK_OPERATIONS if quick else sizes.OPERATIONS
    V, T, C, heads, batch = shape
    limits = in_turn(both, 1 if quick else ROUNDS, "roofs", 256 if quick else 1536, 4 * batch * T * C)
    gflops, gbytes = np.max([answer for answers in limits.values() for answer in answers], axis=0)   # the better side's
    yield {"roofs": {"gflops": gflops, "gbytes": gbytes}}
    for name, directions in sizes.works(*shape).items():
        answers = in_turn(both, 1 if quick else ROUNDS, "operation", name, *shape, seconds=0.1 if quick else 0.3)
        for i, (direction, work) in enumerate(zip(("forward", "backward"), directions)):
            if work is None:
                continue
            row = compare({side: [times[i] for times in rounds] for side, rounds in answers.items()})
            yield {"operation": name, "direction": direction if directions[1] else "update"} | row | {
                "GFLOP/s": work.flops / row["ours"] / 1e6, "GB/s": 4 * work.numbers / row["ours"] / 1e6,
                "intensity": work.intensity, "share": work.milliseconds(gflops, gbytes) / row["ours"]} | (
                {"torch GFLOP/s": work.flops / row["torch"] / 1e6} if "torch" in row else {})


def slope(rows, axis, side):
    """The power p of cost ∝ axisᵖ at the largest three sizes."""
    largest = [row for row in rows if row["axis"] == axis][-3:]
    return float(np.polyfit(np.log([row[axis] for row in largest]), np.log([row[side] for row in largest]), 1)[0])


PARTS = {"step": step, "ops": ops, "generate": generate, "growth": growth}
