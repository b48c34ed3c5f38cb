"""The curves of any run: of each stage those that its log has, a panel each."""
from typing import NamedTuple

from .report import BLUE, GREEN, GREY, ORANGE, line, panels


class Curve(NamedTuple):
    """A panel: its title, the numbers in it with their labels, and whether its axis is logarithmic."""
    title: str
    keys: dict
    log: bool = False


CURVES = (
    Curve("Loss (nats)", {"loss": "batch", "held_out": "held out"}),
    Curve("Share of answers or pairs judged rightly", {"accuracy": None}),
    Curve("Reward", {"reward": "learned (seen)", "true_reward": "true (hidden)"}),
    Curve("KL to the fine-tuned model (nats an answer)", {"kl": None}),
    Curve("Surprise of its own tokens (nats)", {"entropy": None}),
    Curve("Share of ratios that are clipped", {"clip_fraction": None}),
    Curve("How far an update leaves its batch (nats)", {"approx_kl": None}),
    Curve("Value model: explained variance", {"explained_variance": None}),
    Curve("Share of answers that obey", {"obey": None}),
    Curve("Ratios π / π_old at the extremes", {"ratio_max": "largest", "ratio_min": "smallest"}, log=True),
    Curve("Tokens an answer", {"length": None}),
    Curve("Learning rate", {"lr": None}),
    Curve("Length of the gradient", {"grad_norm": None}, log=True),
)
COLORS = (BLUE, ORANGE, GREEN)


def logged(history):
    """The panels for which this log has numbers."""
    keys = {key for h in history for key in h}
    return [curve for curve in CURVES if keys & curve.keys.keys()]


def draw(ax, history, curve, *, unit="step", limit=None):
    """One panel; `limit` is drawn across it: the length to which gradients are cut, say."""
    for (key, label), color in zip(curve.keys.items(), COLORS):
        n = sum(key in h for h in history)
        if n:
            line(ax, history, key, label, color=color, lw=1.3, marker="o" if n < 25 else None, ms=3)
    if limit is not None:
        ax.axhline(limit, color=GREY, lw=1, ls="--")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set(title=curve.title, xlabel=unit, yscale="log" if curve.log and positive(history, curve) else "linear")
    if ax.get_yscale() == "log":
        plain_numbers(ax)
    if any(curve.keys.values()):
        ax.legend()


def plain_numbers(ax):
    """0.5, 1, 2 on a logarithmic axis instead of powers of ten; of a long one only 0.1, 1, 10."""
    low, high = ax.get_ylim()
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter("{x:g}" if high < 10 * low else "")


def positive(history, curve):
    """Can all its numbers stand on a logarithmic axis?"""
    return all(0 < h[key] < float("inf") for h in history for key in curve.keys if key in h)


def curve_figure(history, curve, **options):
    """A figure of one panel: several of them find room beside each other on any screen."""
    figure, (ax,) = panels(1, 1, size=(4.6, 3.0))
    draw(ax, history, curve, **options)
    return figure


PPO = ("reward", "kl", "entropy", "clip_fraction", "approx_kl", "explained_variance", "obey", "ratio_max")


def ppo_figure(history):
    """What PPO logs an iteration, with the true reward that it never sees beside the learned one that it climbs."""
    figure, axes = panels(2, 4)
    for ax, key in zip(axes, PPO):
        draw(ax, history, next(curve for curve in CURVES if key in curve.keys), unit="iteration")
    return figure
