"""Write with a trained model, and store it small."""
from pathlib import Path

import click
import numpy as np

from .options import device_option


@click.command(short_help="write with a trained model")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--prompt", default=None, help="text to continue (names: ^ to begin one, ^k5> to ask for one)")
@click.option("-n", "--number", default=1, show_default=True, help="how many continuations")
@click.option("--max-new-tokens", default=200, show_default=True, help="longest continuation")
@click.option("--temperature", default=1.0, show_default=True, help="below 1 bolder, 0 always the likeliest")
@click.option("--top-k", default=None, type=int, help="draw among the k likeliest")
@click.option("--top-p", default=None, type=float, help="draw among the likeliest that together reach p")
@click.option("--min-p", default=None, type=float, help="draw among those at least p times as likely as the likeliest")
@click.option("--repetition-penalty", default=1.0, show_default=True, help="above 1: tokens that were there are less likely")
@click.option("--stop", multiple=True, help="end before this text; repeatable")
@click.option("--seed", default=0, show_default=True, help="the same seed gives the same text")
@device_option
def sample(checkpoint, prompt, number, max_new_tokens, stop, seed, device, **choice):
    """Write with a trained model: one continuation is printed while it is written."""
    from ..generate import generate, prompt_read, stream_text
    from ..models.network import load_network
    from ..text.streaming import until_stop
    if prompt == "":
        raise click.BadParameter("it is empty: give a beginning, or leave it out for the usual one", param_hint="--prompt")
    model = load_network(checkpoint)
    network, tokenizer, rng = model.network.to(device), model.tokenizer, np.random.default_rng(seed)
    ids = np.array([model.start]) if prompt is None else tokenizer.encode(prompt)
    prompt = tokenizer.decode(ids) if prompt is None else prompt
    end = None if tokenizer.decode([model.end]) else model.end           # a line's end, which is visible, is not the text's
    if (read := prompt_read(network, len(ids))) < len(ids):
        click.echo(f"the prompt has {len(ids):,} tokens, more than the model reads at once: it goes on from the last "
                   f"{read:,}", err=True)
    if number == 1:
        click.echo(prompt, nl=False)
        for piece in stream_text(network, tokenizer, ids, max_new_tokens, rng=rng, end=end, stop=stop, **choice):
            click.echo(piece, nl=False)
        click.echo()
        return
    answers = generate(network, np.tile(ids, (number, 1)), max_new_tokens, rng=rng, end=end, **choice)
    for row, ended in zip(answers.tokens[:, len(ids):], answers.ended):
        row = row[:list(row).index(end)] if ended else row
        click.echo(prompt + "".join(until_stop([tokenizer.decode(row)], stop)))


@click.command(short_help="store weights in 8 or 4 bits")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--to", "how", default="int8", show_default=True, type=click.Choice(["int8", "int4"]), help="bits a weight")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="file to write")
def quantise(checkpoint, how, out):
    """Store a trained model's weights in 8 or 4 bits; sample reads the result."""
    from ..checkpoint import pack, save
    from ..models import quantised
    from ..models.saved import describe, load_model
    model, tokenizer, _ = load_model(checkpoint)
    before = quantised.memory(model)
    after = quantised.memory(quantised.quantise(model, how))
    save(out, pack({"model": model})[0], describe(model, tokenizer))
    for part, n_bytes in before.items():
        click.echo(f"{part:>10} {n_bytes:>12,} -> {after.get(part, 0):>12,} bytes")
    total, small = sum(before.values()), sum(after.values())
    click.echo(f"{'all':>10} {total:>12,} -> {small:>12,} bytes, {total / small:.2f} times less; saved in {out}")


@click.command(short_help="put LoRA's adapters into the weights")
@click.argument("base", type=click.Path(path_type=Path))
@click.argument("adapter", required=False, type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="file to write; of a folder, folder")
def merge(base, adapter, out):
    """Put low-rank adapters into the weights of BASE.

    BASE is a checkpoint or run folder, or a folder in Hugging Face's layout, and ADAPTER a folder in PEFT's layout. A
    checkpoint of `sft --lora` has its adapters in it, and needs no ADAPTER.
    """
    from ..checkpoint import pack, save
    from ..models import from_pretrained, save_pretrained
    from ..models.lora import adapters, merge, remove_adapters
    from ..models.peft import load_adapters
    from ..models.saved import describe, load_model
    in_folder = (base / "config.json").exists()
    model, tokenizer, _ = (from_pretrained(base), None, None) if in_folder else load_model(base)
    if adapter is not None:
        load_adapters(model, adapter)
    n = len(adapters(model))
    if not n:
        raise click.UsageError(f"{base} has no adapters in it: say which ADAPTER")
    remove_adapters(merge(model))
    save_pretrained(model, out) if in_folder else save(out, pack({"model": model})[0], describe(model, tokenizer))
    click.echo(f"{n} adapters merged; saved in {out}")
