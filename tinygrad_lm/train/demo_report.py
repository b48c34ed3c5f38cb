"""The demo's results for a person: a table on the screen, figures, and the page runs/demo/report.html."""
import json
from dataclasses import asdict
from html import escape
from pathlib import Path

import numpy as np

from ..checkpoint import CheckpointError
from . import curves, report
from .demo import SHOWN

COLUMNS = ("method", "win rate", "true reward", "learned reward", "KL", "obeys")
LEAD = ("A model of 150,000 parameters learns names, then to answer prompts such as ^k5> (a name of five letters that "
        "begins with k), then what a person likes, and last to please that person.")
EXPLAINED = ("Win rate: how often the simulated person, judging without noise, prefers the answer to the fine-tuned "
             "model's own. The true reward is that person's; no model ever sees it. The learned reward is the reward "
             "model's, normalised to mean 0 on the fine-tuned model's answers. KL: how far the method has moved from the "
             "fine-tuned model, in nats an answer. PPO without its penalty takes steps three times as large, and climbs the "
             "reward of a narrower judge, which has learned only from the fine-tuned model's own answers.")


def write_report(results, folder):
    """Print the samples and the table; write figures (PNG), results.json and report.html into the folder."""
    folder = Path(folder)
    print_tables(results)
    figures = {"training": report.training_figure(results.histories), "ppo": curves.ppo_figure(results.histories["ppo"]),
               "overoptimisation": report.overoptimisation_figure(results.rows, results.histories)}
    images = {name: report.png(figure) for name, figure in figures.items()}
    summary = {"seed": results.seed, "figures": results.figures, "methods": results.rows, "samples": results.samples,
               "seconds": results.seconds, "config": asdict(results.config)}
    try:
        for name, data in images.items():
            (folder / f"{name}.png").write_bytes(data)
        (folder / "results.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
        (folder / "report.html").write_text(html(results, images), encoding="utf-8")
    except OSError as error:
        raise CheckpointError(f"cannot write the report into {folder}: {error.strerror}") from None
    print(f"\n{sum(results.seconds.values()):.0f} s of training. The whole story with pictures: {folder / 'report.html'}")


def formatted(row):
    return (row["method"], f"{row['win rate']:.0%}", f"{row['true reward']:+.2f}", f"{row['learned reward']:+z.2f}",
            f"{row['KL']:.1f}", f"{row['obeys']:.0%}")


def print_tables(results):
    from rich.console import Console
    from rich.table import Table
    console = Console(width=100)
    answers = Table("prompt", *results.samples, title="the same prompts after every stage (^k5>: five letters, k first)",
                    title_justify="left")
    for i, prompt in enumerate(SHOWN):
        answers.add_row(prompt, *(column[i] for column in results.samples.values()))
    methods = Table(*COLUMNS, title="against the fine-tuned model", title_justify="left")
    for column in methods.columns[1:]:
        column.justify = "right"
    for row in results.rows:
        methods.add_row(*formatted(row))
    console.print()
    console.print(answers)
    console.print()
    console.print(methods)


def html(results, images):
    f = results.figures
    best = int(np.argmax([row["true reward"] if row["method"] == "PPO" else -9 for row in results.rows]))
    samples = [(p, *(column[i] for column in results.samples.values())) for i, p in enumerate(SHOWN)]
    config = escape(json.dumps(asdict(results.config), indent=1))
    seconds = ", ".join(f"{stage} {s:.0f} s" for stage, s in results.seconds.items())
    return report.page("From counting letters to PPO", LEAD, [
        ("The same prompts after every stage", report.table(("prompt", *results.samples), samples, words=True)),
        ("What each method is worth", report.table(COLUMNS, [formatted(r) for r in results.rows], best=best) +
         f"<p>{escape(EXPLAINED)}</p>"),
        ("Pleasing the judge is not being good", report.image(images["overoptimisation"], "reward against distance") +
         "<p>Both runs of PPO climb a learned reward. Without the penalty for leaving the fine-tuned model, and with a "
         "judge that has hardly ever seen an instruction broken, the learned reward goes on rising while the true one "
         "turns: the policy has found what the reward model is wrong about (Gao, Schulman and Hilton 2023).</p>"),
        ("PPO, iteration by iteration", report.image(images["ppo"], "PPO's curves")),
        ("Pretraining, fine-tuning, reward model", report.image(images["training"], "training losses") +
         f"<p>Held-out names cost {f['bits per character']:.2f} bits a character after pretraining. The model obeyed "
         f"{f['obey before']:.1%} of prompts before fine-tuning and {f['obey after']:.1%} after. The reward model orders "
         f"{f['reward accuracy, broad']:.1%} of held-out pairs as the person's true taste does.</p>"),
        ("Settings", f"<p>Seed {results.seed}. {escape(seconds)}.</p><details><summary>every setting</summary>"
                     f"<pre>{config}</pre></details>"),
    ])
