"""What a run leaves for a person to look at: figures, and one HTML page that holds them all."""
import base64
import io
from html import escape

INK, BLUE, ORANGE, GREEN, RED, GREY = "#1f2933", "#2563eb", "#ea580c", "#15803d", "#b91c1c", "#9aa5b1"
METHOD_STYLE = {"fine-tuned": (GREY, "o"), "PPO": (BLUE, "o"), "PPO, no KL penalty": (RED, "o"), "DPO": (GREEN, "D"),
                "best of 4": (ORANGE, "s"), "best of 16": (ORANGE, "s")}


def panels(rows, columns, *, size=(4.2, 2.9)):
    """(figure, flat list of axes) in this project's style; matplotlib is loaded here and not before."""
    import matplotlib
    from matplotlib.figure import Figure
    matplotlib.rcParams.update({"font.size": 9, "axes.titlesize": 10, "axes.titleweight": "bold", "axes.edgecolor": INK,
                                "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
                                "grid.color": "#e4e7eb", "legend.frameon": False, "axes.axisbelow": True})
    figure = Figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


HANGUL_FONTS = ("Noto Sans CJK KR", "Noto Sans KR", "NanumGothic", "NanumBarunGothic", "Malgun Gothic",
                "Apple SD Gothic Neo", "AppleGothic", "Noto Sans CJK JP", "UnDotum", "Baekmuk Gulim")


def hangul_font(path=None, *, installed=None):
    """The name of a font with Hangul, in which figures write from now on what their own font lacks: that of the file `path`,
    or the first of HANGUL_FONTS that is `installed` (names; None: as matplotlib finds them). Where there is none, None:
    label with jamo.romanised then. A `path` without Hangul, or no font at all, is a ValueError."""
    import matplotlib
    from matplotlib.font_manager import FontProperties, fontManager
    from matplotlib.ft2font import FT2Font
    if path is None:
        installed = {font.name for font in fontManager.ttflist} if installed is None else installed
        name = next((name for name in HANGUL_FONTS if name in installed), None)
    else:
        try:
            known = FT2Font(str(path)).get_char_index(ord("한"))
        except (OSError, RuntimeError) as error:
            raise ValueError(f"{path} is not a font that can be read: {error}") from None
        if not known:
            raise ValueError(f"the font {path} has no Hangul")
        fontManager.addfont(str(path))
        name = FontProperties(fname=str(path)).get_name()
    if name:
        matplotlib.rcParams["font.family"] = ["DejaVu Sans", name]
    return name


def line(ax, history, key, label=None, **style):
    """One logged number over the steps at which it was logged."""
    points = [(h["step"], h[key]) for h in history if key in h]
    ax.plot(*zip(*points), label=label, **style)


def training_figure(histories):
    """The loss of the three supervised stages, on the batch and, where it was measured, on held-out text."""
    stages = [("pretrain", "Pretraining: next character"), ("sft", "Fine-tuning: the answer"),
              ("reward", "Reward model: ranked pairs")]
    figure, axes = panels(1, 3)
    for ax, (stage, title) in zip(axes, stages):
        history = histories[stage]
        line(ax, history, "loss", "batch", color=BLUE, alpha=0.55, lw=1)
        if any("held_out" in h for h in history):
            line(ax, history, "held_out", "held out", color=ORANGE, marker="o", ms=4)
        if any("accuracy" in h for h in history):
            line(ax, history, "accuracy", "share of pairs in order", color=GREEN, lw=1)
        ax.set(title=title, xlabel="step", ylabel="nats" if stage != "reward" else "")
        ax.legend()
    return figure


def overoptimisation_figure(rows, histories):
    """True and learned reward against the distance from the fine-tuned model (Gao et al. 2023 [OVEROPT], fig. 1): the
    paths of PPO with and without its KL penalty, and where the other methods end."""
    figure, axes = panels(1, 2, size=(5.2, 3.9))
    for ax, key, logged, title in ((axes[0], "learned reward", "reward", "Learned reward: what PPO climbs"),
                                   (axes[1], "true reward", "true_reward", "True reward: what the person thinks")):
        for stage, method in (("ppo-no-kl", "PPO, no KL penalty"), ("ppo", "PPO")):
            path = [(max(h["kl"], 0) ** 0.5, h[logged]) for h in histories[stage]]
            ax.plot(*zip(*running_mean(path)), color=METHOD_STYLE[method][0], lw=1.2, alpha=0.6)
        for row in rows:
            color, marker = METHOD_STYLE[row["method"]]
            at = max(row["KL"], 0) ** 0.5, row[key]
            ax.plot(*at, color=color, marker=marker, ms=7, ls="none", label=row["method"])
        ax.set(title=title, xlabel="√KL to the fine-tuned model (√nats)", ylabel="mean over answers")
    axes[1].legend(fontsize=8)
    return figure


def running_mean(points, n=5):
    """Each point is the mean of itself and up to n − 1 before it: an iteration's batch is small, and its mean noisy."""
    windows = [points[max(0, i + 1 - n):i + 1] for i in range(len(points))]
    return [tuple(sum(axis) / len(w) for axis in zip(*w)) for w in windows]


def png(figure):
    """A figure as the bytes of a PNG file."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=130)
    return out.getvalue()


STYLE = """
body { font: 16px/1.55 system-ui, sans-serif; color: #1f2933; max-width: 62rem; margin: 2.5rem auto; padding: 0 1.25rem }
h1 { font-size: 1.7rem; margin-bottom: .2rem } h2 { font-size: 1.15rem; margin-top: 2.4rem }
p.lead { color: #52606d; margin-top: 0 } img { width: 100%; height: auto }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { text-align: right; padding: .35rem .7rem; border-bottom: 1px solid #e4e7eb } th { color: #52606d; font-weight: 600 }
th:first-child, td:first-child { text-align: left } tr.best td { font-weight: 600; background: #f0f6ff }
td.word { font-family: ui-monospace, monospace } .word { text-align: left } details { margin-top: 1rem }
pre { background: #f5f7fa; padding: 1rem; overflow-x: auto; font-size: .85rem }
"""


def page(title, lead, sections, *, style="", before=""):
    """One self-contained HTML page: sections are (heading, HTML) pairs; `before` them may stand HTML, which `style` sets."""
    body = "\n".join(f"<h2>{escape(heading)}</h2>\n{html}" for heading, html in sections)
    return (f"<!doctype html>\n<html lang=en><head><meta charset=utf-8><meta name=viewport "
            f"content='width=device-width, initial-scale=1'><title>{escape(title)}</title>\n<style>{STYLE}{style}</style>"
            f"</head>\n"
            f"<body><h1>{escape(title)}</h1>\n<p class=lead>{escape(lead)}</p>\n{before}{body}\n</body></html>\n")


def image(data, alt):
    return f"<img alt='{escape(alt, quote=True)}' src='data:image/png;base64,{base64.b64encode(data).decode()}'>"


def table(head, rows, *, best=None, words=False):
    """Rows of cells; the row with index `best` stands out; `words` sets all but the first column as text."""
    cells = ["<tr>" + "".join(f"<th{' class=word' if words else ''}>{escape(h)}</th>" for h in head) + "</tr>"]
    for i, row in enumerate(rows):
        marks = [" class=word" if words and k else "" for k in range(len(row))]
        cells.append(f"<tr{' class=best' if i == best else ''}>" +
                     "".join(f"<td{m}>{escape(str(c))}</td>" for m, c in zip(marks, row)) + "</tr>")
    return "<table>" + "".join(cells) + "</table>"
