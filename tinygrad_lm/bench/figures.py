"""What was measured, as pictures."""
import numpy as np

from ..train.report import BLUE, GREY, INK, ORANGE, panels
from .parts import slope

SIDES = {"ours": ("tinygrad_lm", BLUE, "o"), "torch": ("PyTorch", ORANGE, "s")}


def measured(rows):
    """The sides that the rows have, with their name, colour and marker."""
    return {side: style for side, style in SIDES.items() if side in rows[-1]}


def shape_label(row):
    return f"T {row['T']}, C {row['C']}, {row['layers']} layers, batch {row['batch']}"


def bars(ax, rows, labels):
    shown = measured(rows)
    height, places = 0.8 / len(shown), np.arange(len(rows))[::-1]
    for i, (side, (name, color, _)) in enumerate(shown.items()):
        ax.barh(places - height * (i + 0.5 - len(shown) / 2), [row[side] for row in rows], height, color=color, label=name)
    ax.set_yticks(places, labels)
    ax.set_xscale("log")
    ax.legend()


def with_ratio(row, label):
    return label + (f"  ({row['ratio']:.2f})" if "ratio" in row else "")


def step_figure(rows):
    """Milliseconds of a step; in brackets the ratio to PyTorch."""
    figure, (ax,) = panels(1, 1, size=(7.5, 0.9 + 0.38 * len(rows)))
    bars(ax, rows, [with_ratio(row, shape_label(row)) for row in rows])
    ax.set(title="A training step (in brackets: ours / PyTorch)" if "torch" in rows[-1] else "A training step",
           xlabel="milliseconds")
    return figure


def generate_figure(rows):
    figure, (ax,) = panels(1, 1, size=(7.5, 0.9 + 0.38 * len(rows)))
    bars(ax, rows, [with_ratio(row, f"{row['layers']} layers × {row['C']}, batch {row['batch']}") for row in rows])
    ax.set(title="Generation with a cache of keys and values", xlabel="new tokens a second (more is better)")
    return figure


def growth_figure(rows):
    """Time of a step against T and against C, both axes logarithmic: a straight line is a power, its slope the exponent."""
    figure, axes = panels(1, 2, size=(4.6, 3.6))
    for ax, (axis, name) in zip(axes, (("T", "tokens T"), ("C", "channels C"))):
        points = [row for row in rows if row["axis"] == axis]
        for side, (label, color, marker) in measured(rows).items():
            ax.plot([row[axis] for row in points], [row[side] for row in points], color=color, marker=marker, ms=5,
                    label=f"{label}: slope {slope(rows, axis, side):.2f} at the end")
        ax.set(title=f"A step as the {name} grow", xlabel=name, ylabel="milliseconds", xscale="log", yscale="log")
        ax.set_xticks([row[axis] for row in points], [str(row[axis]) for row in points])
        ax.minorticks_off()
        ax.legend()
    return figure


def ops_figure(rows):
    """The roofline: no operation can be above the slope of copying or the level of matrix products."""
    roofs, points = rows[0]["roofs"], [row for row in rows[1:] if row["intensity"]]
    figure, (ax,) = panels(1, 1, size=(8, 5))
    x = np.geomspace(min(row["intensity"] for row in points) / 2, max(row["intensity"] for row in points) * 2, 100)
    ax.plot(x, np.minimum(x * roofs["gbytes"], roofs["gflops"]), color=INK, lw=1.5)
    ax.text(x[0], x[0] * roofs["gbytes"], f"  copying: {roofs['gbytes']:.0f} GB/s", va="bottom", color=INK)
    ax.text(x[-1], roofs["gflops"], f"matrix product: {roofs['gflops']:.0f} GFLOP/s", va="bottom", ha="right", color=INK)
    for i, row in enumerate(points):
        forward = row["direction"] != "backward"
        ax.plot(row["intensity"], row["GFLOP/s"], color=BLUE, marker="o", ms=7, ls="none",
                fillstyle="full" if forward else "none", label={0: "ours, forward", 1: "ours, backward"}.get(i))
        if "torch GFLOP/s" in row:
            ax.plot(row["intensity"], row["torch GFLOP/s"], color=ORANGE, marker="s", ms=5, ls="none",
                    fillstyle="full" if forward else "none", label={0: "PyTorch, forward", 1: "PyTorch, backward"}.get(i))
        ax.annotate(row["operation"], (row["intensity"], row["GFLOP/s"]), xytext=(7, -10), textcoords="offset points",
                    fontsize=7, color=GREY)
    ax.set(title="One core: each operation under the machine's roof", xlabel="operations for each byte that must travel",
           ylabel="GFLOP/s", xscale="log", yscale="log")
    ax.legend(loc="lower right")
    return figure


FIGURES = {"step": step_figure, "ops": ops_figure, "generate": generate_figure, "growth": growth_figure}
