"""The pictures of docs/gpu.md.

    python -m benchmarks.figures_gpu     # seconds; writes docs/figures/gpu-*.png
"""
from pathlib import Path

from tinygrad_lm.train.report import BLUE, GREEN, GREY, INK, ORANGE, panels

FOLDER = Path(__file__).parents[1] / "docs" / "figures"


def passes():
    """What three softmax kernels read and write of a row, in units of the row."""
    figure, (ax,) = panels(1, 1, size=(6.4, 2.6))
    names, reads = ["maximum, sum, division", "online maximum and sum, division", "row kept in registers"], [3, 2, 1]
    ax.barh(names[::-1], reads[::-1], color=BLUE, label="read")
    ax.barh(names[::-1], [1] * 3, left=reads[::-1], color=ORANGE, label="written")
    ax.set(title="Softmax: rows that travel", xlabel="times the row's bytes", xlim=(0, 4.6))
    ax.legend(loc="lower right")
    return figure


def tiles(T=8, M=2, N=2, at=(2, 1)):
    """Causal attention in tiles of M queries and N keys: done, at work, to come, and never touched; `at` is a tile."""
    figure, (ax,) = panels(1, 1, size=(5.2, 4.4))
    for i in range(T // M):
        for j in range(T // N):
            masked = N * j > M * (i + 1) - 1
            done = i == at[0] and j < at[1]
            color = "white" if masked else ORANGE if (i, j) == at else GREEN if done else BLUE if i == at[0] else "#e4e7eb"
            ax.add_patch(_rectangle(N * j, M * i, N, M, fc=color, ec=INK))
            if masked:
                ax.text(N * j + N / 2, M * i + M / 2, "skipped", ha="center", va="center", color=GREY)
    for t in range(T):                                           # within a tile on the diagonal, the mask decides
        for s in range(t + 1, (t // M + 1) * M):
            ax.add_patch(_rectangle(s, t, 1, 1, fc="none", ec=GREY, hatch="///"))
    ax.set(xlim=(0, T), ylim=(T, 0), aspect="equal", xlabel="keys", ylabel="queries",
           title="One block owns a row of tiles:\ngreen done, orange in shared memory, blue to come")
    ax.grid(False)
    return figure


def _rectangle(x, y, width, height, **style):
    from matplotlib.patches import Rectangle
    return Rectangle((x, y), width, height, **style)


def main(folder=FOLDER):
    for name, figure in (("gpu-passes", passes()), ("gpu-tiles", tiles())):
        figure.savefig(Path(folder) / f"{name}.png", dpi=120)


if __name__ == "__main__":
    main()
