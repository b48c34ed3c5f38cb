"""The symptoms as pictures, the right run beside the wrong one."""
from ..train.report import BLUE, RED, panels
from . import NAMES, exhibit, symptom


def figure(names=NAMES):
    """A panel for each exhibit: what its `run` shows."""
    columns = min(4, len(names))
    drawn, axes = panels(-(-len(names) // columns), columns, size=(3.6, 2.7) if len(names) > 1 else (5.5, 3.6))
    for ax, name in zip(axes, names):
        room = exhibit(name)
        (_, right), (_, wrong) = symptom(name)
        ax.plot(right, color=BLUE, lw=1.6, label="right")
        ax.plot(wrong, color=RED, lw=1.6, label="wrong")
        ax.set(title=room.TITLE, xlabel=room.AXIS)
        ax.set_title(room.TITLE, fontsize=8.5)
        ax.set_ylabel(room.SHOWN, fontsize=7.5)
        ax.set_ylim(bottom=min(0, *right, *wrong))
    for ax in axes[len(names):]:
        ax.set_axis_off()
    axes[0].legend()
    return drawn
