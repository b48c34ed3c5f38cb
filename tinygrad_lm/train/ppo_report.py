"""PPO's run for a person to read: one page with its curves, what each says, and its settings."""
import json
from dataclasses import asdict
from html import escape
from pathlib import Path

from ..checkpoint import CheckpointError, replace
from . import report

MEANINGS = (
    ("reward", "mean score of the answers, which PPO climbs; one that does not end gets the penalty instead"),
    ("true_reward", "what the simulated person really thinks of them, which nothing learns from"),
    ("kl", "log π − log π_ref summed over an answer, in nats: how far the policy has gone from the reference"),
    ("beta", "price of a nat of it"),
    ("entropy", "mean −log π of its own tokens: near 0 the policy writes always the same"),
    ("ended", "share of answers with an end token"),
    ("length", "tokens an answer"),
    ("approx_kl", "½ mean (log π − log π_old)² over an iteration's updates: some hundredths are usual"),
    ("clip_fraction", "share of ratios outside 1 ± ε: 0 learns slowly, above 0.3 the batch is overused"),
    ("ratio_min", "smallest π / π_old of any token in the iteration"),
    ("ratio_max", "largest one: 1000 is a bug or a learning rate too high"),
    ("explained_variance", "1 is a value model that foresees returns, 0 one that knows their mean, below 0 a harmful one"),
    ("lr", "learning rate"),
)


def write_page(history, config, folder):
    """report.html in the run's folder, from what PPO logged; nothing where nothing was."""
    if not history:
        return
    first, last = history[0], history[-1]
    rows = [(key, f"{first[key]:.4g}", f"{last[key]:.4g}", meaning) for key, meaning in MEANINGS if key in last]
    page = report.page("PPO", f"{len(history)} iterations of {config.batch_size} answers.", [
        ("Iteration by iteration", report.image(report.png(report.ppo_figure(history)), "PPO's curves")),
        ("What is logged", report.table(("number", "first iteration", "last", "what it says"), rows, words=True)),
        ("Settings", f"<pre>{escape(json.dumps(asdict(config), indent=1))}</pre>")])
    try:
        replace(Path(folder) / "report.html", page.encode())
    except OSError as error:
        raise CheckpointError(f"cannot write the report into {folder}: {error.strerror}") from None
