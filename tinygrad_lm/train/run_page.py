"""The page of a run, report.html in its folder: what was trained and how, its curves, what the model wrote on the way, time
and memory. It is made of what lies in the folder, so that it can be made again."""
from html import escape
from pathlib import Path

from ..checkpoint import CheckpointError, load, write
from ..models.saved import checkpoint_in
from . import report
from .curves import curve_figure, logged
from .notes import read
from .ppo_report import MEANINGS

TITLES = {"pretrain": "Pretraining", "neural": "The first neural language model", "sft": "Instruction fine-tuning",
          "reward": "Reward model", "safety": "Safety model", "ppo": "PPO"}
NOTES = {"reward": "<p>The answers to one prompt, the person's favourite first, and their rewards. At the end rewards are "
                   "moved to mean 0 and standard deviation 1 on the answers of the model that PPO will start from.</p>",
         "safety": "<p>The answers to one prompt, and the logit of the probability that each is safe.</p>"}
STYLE = """
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .7rem; margin: 1.5rem 0 }
.cards div { background: #f5f7fa; border-radius: .5rem; padding: .7rem .9rem }
.cards b { display: block; font-size: 1.25rem; font-variant-numeric: tabular-nums }
.cards span { color: #52606d; font-size: .85rem }
.curves { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(19rem, 100%), 1fr)); gap: 1rem }
.wide { overflow-x: auto } .short td, .short th, .says td { white-space: nowrap }
.says td:last-child { font-family: inherit; white-space: normal }
@media (max-width: 40rem) {
  .says tr { display: flex; flex-wrap: wrap; justify-content: space-between; border-bottom: 1px solid #e4e7eb }
  .says td, .says th { border: 0 } .says td:last-child, .says th:last-child { flex-basis: 100%; padding-top: 0 }
}
.text { white-space: pre-wrap; overflow-wrap: anywhere }
.text { background: #f5f7fa; padding: .6rem .8rem; border-radius: .4rem; font: .85rem/1.5 ui-monospace, monospace }
.text i { color: #7b8794; font-style: normal }
dl { margin: 0 } dt { color: #52606d; margin-top: .8rem } dd { margin: .2rem 0 0 }
"""


def write_page(folder):
    """Write report.html into a run's folder, from its checkpoint and its notes; returns the page's path."""
    path = checkpoint_in(folder)
    tensors, meta = load(path)
    size = sum(a.size for name, a in tensors.items() if name.startswith("model/"))
    page = run_page(meta, read(Path(path).parent / "notes.json"), size)
    out = Path(path).parent / "report.html"
    write(out, page.encode())
    return out


def run_page(meta, notes, n_parameters):
    """The page as HTML, of a checkpoint's `meta`, the notes beside it, and the model's size."""
    try:
        stage, history, step, total = meta["stage"], meta["history"], meta["step"], meta["total"]
    except KeyError as error:
        raise CheckpointError(f"this checkpoint is not of a run: it says nothing about {error}") from None
    settings = meta.get(stage, {})
    unit = "iteration" if "iterations" in settings else "step"
    lead = f"{step:,} of {total:,} {unit}s" + (f". It stopped: {meta['stopped']}" if "stopped" in meta else "")
    sections = [("Curves", curves(history, settings, unit) if history else "<p>Nothing has been logged yet.</p>")]
    if notes["samples"]:
        what = "answers" if meta["kind"] == "reward" else "prompts"
        sections.append((f"The same {what} on the way", samples(notes["samples"], unit) + NOTES.get(stage, "")))
    if stage == "ppo" and history:
        sections.append(("What is logged", meanings(history)))
    sections.append(("Settings", tables(meta, settings)))
    return report.page(TITLES.get(stage, stage), lead, sections, style=STYLE, before=cards(notes, history, n_parameters))


# ---- the parts -------------------------------------------------------------------------------------------------------

def cards(notes, history, n_parameters):
    """The few numbers that one looks for first."""
    facts = [(f"{value:.3f}", name) for key, name in (("held_out", "nats a token, held out"), ("accuracy", "judged rightly"),
                                                      ("reward", "reward"), ("true_reward", "true reward"),
                                                      ("kl", "nats from the fine-tuned model"))
             if (value := last(history, key)) is not None]
    if not facts and (loss := last(history, "loss")) is not None:
        facts = [(f"{loss:.3f}", "loss of the last batch logged")]
    facts.append((f"{n_parameters:,}", "parameters"))
    if notes["clock"]:
        steps, seconds = notes["clock"][-1]
        facts.append((duration(seconds), "of training"))
        if seconds and (tokens := last(history, "tokens")):
            facts.append((f"{tokens * steps / seconds:,.0f}", "tokens a second"))
    if notes["peak_memory"]:
        facts.append((f"{notes['peak_memory'] / 2 ** 20:,.0f} MiB", "of memory at most"))
    return "<div class=cards>" + "".join(f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>"
                                         for value, name in facts) + "</div>"


def curves(history, settings, unit):
    def image(curve):
        limit = settings.get("max_norm") if "grad_norm" in curve.keys else None
        data = report.png(curve_figure(history, curve, unit=unit, limit=limit))
        return report.image(data, curve.title)
    note = "<p>The dashed line is the length to which longer gradients are cut.</p>" if last(history, "grad_norm") else ""
    return "<div class=curves>" + "".join(map(image, logged(history))) + "</div>" + note


def samples(looks, unit):
    """Short texts as a table, a column a look; long ones below one another."""
    prompts = [prompt for prompt, _ in looks[0]["texts"]]
    steps = [f"{unit} {look['step']:,}" for look in looks]
    texts = [[text for _, text in look["texts"]] for look in looks]
    if max((len(t) for column in texts for t in column), default=0) <= 16:
        rows = [(prompt, *(column[i] for column in texts)) for i, prompt in enumerate(prompts)]
        return f"<div class='wide short'>{report.table(('', *steps), rows, words=True)}</div>"
    parts = []
    for i, prompt in enumerate(prompts):
        looked = "".join(f"<dt>{escape(step)}</dt><dd class=text><i>{escape(prompt)}</i>{escape(column[i])}</dd>"
                         for step, column in zip(steps, texts))
        parts.append(f"<details{' open' if i == 0 else ''}><summary>{escape(prompt)}…</summary><dl>{looked}</dl></details>")
    return "".join(parts)


def meanings(history):
    first, end = history[0], history[-1]
    rows = [(key, f"{first[key]:.4g}", f"{end[key]:.4g}", meaning) for key, meaning in MEANINGS if key in end]
    return f"<div class='wide says'>{report.table(('number', 'first', 'last', 'what it says'), rows, words=True)}</div>"


def tables(meta, settings):
    """The stage's settings and the model's shape, each a table of two columns."""
    model = {"kind": meta["kind"]} | meta["config"]
    parts = [("of the stage", {"seed": meta.get("seed")} | settings), ("of the model", model)]
    return "<div class=curves>" + "".join(
        f"<div>{report.table((heading, ''), [(k, shown(v)) for k, v in values.items() if v is not None])}</div>"
        for heading, values in parts) + "</div>"


def shown(value):
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def last(history, key):
    """The number that was logged last under this name, or None."""
    return next((h[key] for h in reversed(history) if key in h), None)


def duration(seconds):
    minutes, hours = seconds / 60, seconds / 3600
    return f"{seconds:.1f} s" if seconds < 60 else f"{minutes:.1f} min" if minutes < 60 else f"{hours:.1f} h"
