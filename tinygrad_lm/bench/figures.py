"""What was measured, as pictures."""
import numpy as np

from ..train.report import BLUE, GREY, INK, ORANGE, panels
from .parts import slope

SIDES = {"ours": ("tinygrad_lm", BLUE, "o"), "torch": ("PyTorch", ORANGE, "s")}


def measured(rows):
    """The sides that the rows have, with their name, colour and marker."""
    return {side: style for side, style in SIDES.items() if side in rows[-1]}


def pairs(rows, labels, *, title, xlabel):
    """One line a row, and on it a dot for each side; behind the label, in brackets, the ratio."""
    figure, (ax,) = panels(1, 1, size=(7.5, 1.2 + 0.27 * len(rows)))
    places = np.arange(len(rows))[::-1]
    shown = measured(rows)
    values = np.array([[row[side] for side in shown] for row in rows])
    ax.hlines(places, values.min(1), values.max(1), color=GREY, lw=1.5)
    for x, (name, color, marker) in zip(values.T, shown.values()):
        ax.plot(x, places, color=color, marker=marker, ms=6, ls="none", label=name)
    ax.set_yticks(places, [label + (f"  ({row['ratio']:.2f})" if "ratio" in row else "") for label, row in zip(labels, rows)])
    ax.set(title=title, xlabel=xlabel, xscale="log", ylim=(-0.6, len(rows) - 0.4))
    plain_numbers(ax.xaxis)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def plain_numbers(axis):
    """A logarithmic axis with 1, 2, 5, 10, … in figures."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,g}"))
    axis.set_minor_locator(NullLocator())


def step_figure(rows):
    labels = [f"T {row['T']}, C {row['C']}, {row['layers']} layers, batch {row['batch']}" for row in rows]
    return pairs(rows, labels, title="A training step", xlabel="milliseconds (in brackets ours / PyTorch: below 1 is ahead)"
                 if "torch" in rows[-1] else "milliseconds")


def generate_figure(rows):
    labels = [f"{row['layers']} layers × {row['C']}, batch {row['batch']}" for row in rows]
    return pairs(rows, labels, title="Generation with a cache of keys and values", xlabel="new tokens a second (in brackets "
                 "ours / PyTorch: above 1 is ahead)" if "torch" in rows[-1] else "new tokens a second")


def growth_figure(rows):
    """Time of a step against T and against C, both axes logarithmic: a straight line is a power, its slope the exponent."""
    figure, axes = panels(1, 2, size=(4.6, 3.6))
    for ax, (axis, name) in zip(axes, (("T", "tokens T"), ("C", "channels C"))):
        points = [row for row in rows if row["axis"] == axis]
        for side, (label, color, marker) in measured(rows).items():
            ax.plot([row[axis] for row in points], [row[side] for row in points], color=color, marker=marker, ms=5,
                    label=f"{label}: slope {slope(rows, axis, side):.2f} at the end")
        ax.set(title=f"A step as the {name} grow", xlabel=name, ylabel="milliseconds", xscale="log", yscale="log")
        plain_numbers(ax.yaxis)
        ax.minorticks_off()
        ax.set_xticks([row[axis] for row in points], [str(row[axis]) for row in points])
        ax.legend()
    return figure


def ops_figure(rows):
    """The roofline: no operation can be above the slope of copying or the level of matrix products."""
    roofs, points = rows[0]["roofs"], [row for row in rows[1:] if row["intensity"]]
    numbers = {name: i for i, name in enumerate(dict.fromkeys(row["operation"] for row in points), 1)}
    figure, (ax,) = panels(1, 1, size=(8.5, 5))
    x = np.geomspace(min(row["intensity"] for row in points) / 2, max(row["intensity"] for row in points) * 2, 100)
    ax.plot(x, np.minimum(x * roofs["gbytes"], roofs["gflops"]), color=INK, lw=1.5)
    ax.text(x[0], x[0] * roofs["gbytes"] * 2, f"copying: {roofs['gbytes']:.0f} GB/s", color=INK)
    ax.text(x[-1], roofs["gflops"] * 1.1, f"matrix product: {roofs['gflops']:.0f} GFLOP/s", ha="right", color=INK)
    for row in points:
        forward = row["direction"] != "backward"
        for side, (_, color, marker) in measured(rows).items():
            at = row["intensity"], row["GFLOP/s" if side == "ours" else "torch GFLOP/s"]
            ax.plot(*at, color=color, marker=marker, ms=11, mfc=color if forward else "white")
            ax.text(*at, numbers[row["operation"]], ha="center", va="center_baseline", fontsize=7, weight="bold",
                    color="white" if forward else color)
    handles = [ax.plot([], [], color=color, marker=marker, ms=8, ls="none", mfc=fill or color, label=f"{name}, {direction}")[0]
               for name, color, marker in measured(rows).values() for direction, fill in (("forward", None), ("backward", "white"))]
    handles += [ax.plot([], [], ls="none", label=f"{i}  {name}")[0] for name, i in numbers.items()]
    ax.set(title="One core: each operation under the machine's roof", xlabel="operations for each byte that must travel",
           ylabel="GFLOP/s", xscale="log", yscale="log", ylim=(None, roofs["gflops"] * 2))
    figure.legend(handles=handles, loc="outside right center")
    return figure


FIGURES = {"step": step_figure, "ops": ops_figure, "generate": generate_figure, "growth": growth_figure}
