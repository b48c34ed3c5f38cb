"""Learn what text looks like: a transformer, or the first neural model, over characters or a tokenizer of yours."""
from pathlib import Path

import click
import numpy as np

from ..models.config import FAMILIES
from ..train.pretrain import PretrainConfig
from .options import settings, stage_options
from .stages import stage


def text_options(command):
    """The flags that say what is read, and as which tokens."""
    command = click.option("--tokenizer", "tokenizer_path", type=click.Path(path_type=Path),
                           help="tokens for --text: a tokenizer.json, or a folder with vocab.json and merges.txt; without "
                                "it, characters")(command)
    return click.option("--text", type=click.Path(path_type=Path),
                        help="learn this text instead of the names (UTF-8)")(command)


@click.command(short_help="stage 1: predict the next character, or token")
@text_options
@click.option("--architecture", default="gpt2", show_default=True, type=click.Choice([*FAMILIES]), help="the family")
@click.option("--n-layer", default=3, show_default=True, help="blocks")
@click.option("--n-head", default=4, show_default=True, help="heads a block")
@click.option("--n-embd", default=64, show_default=True, help="channels")
@click.option("--block-size", default=32, show_default=True, help="longest sequence")
@click.option("--dropout", default=0.0, show_default=True, help="share of activations dropped in training")
@click.option("--checkpoint-blocks", is_flag=True, help="less memory, more time: backward computes each block again")
@stage_options(PretrainConfig, "runs/pretrain")
def pretrain(text, tokenizer_path, architecture, n_layer, n_head, n_embd, block_size, dropout, checkpoint_blocks, seed,
             device, **options):
    """Stage 1: predict the next character, or token, of names or of a text of yours."""
    from ..models import GPT, GPTConfig
    source = read_source(text, tokenizer_path, block_size)
    rng = np.random.default_rng(seed)
    inner = 32 * -(-n_embd // 12) if architecture == "llama" else None         # 8/3 of the channels, in whole groups of int4
    config = GPTConfig(len(source.tokenizer), block_size, n_layer, n_head, n_embd, dropout, n_inner=inner,
                       **FAMILIES[architecture])
    model = GPT(config, rng=rng).to(device)
    model.checkpoint_blocks = checkpoint_blocks
    learn(model, source, rng, seed=seed, name="pretrain", **options)


@click.command(short_help="the first neural language model, of 2003")
@text_options
@click.option("--context", default=8, show_default=True, help="tokens that it sees")
@click.option("--n-embd", default=16, show_default=True, help="numbers that say where a token lies")
@click.option("--n-hidden", default=192, show_default=True, help="units between the places and the scores")
@stage_options(PretrainConfig, "runs/neural")
def neural(text, tokenizer_path, context, n_embd, n_hidden, seed, device, **options):
    """The first neural language model (Bengio et al. 2003): predict a token from the places of the last few."""
    from ..models import FeedForward, FeedForwardConfig
    source = read_source(text, tokenizer_path, 4 * context)                    # three in four places have a whole context
    rng = np.random.default_rng(seed)
    model = FeedForward(FeedForwardConfig(len(source.tokenizer), context, n_embd, n_hidden), rng=rng).to(device)
    learn(model, source, rng, seed=seed, name="neural", **options)


def learn(model, source, rng, *, name, out, seed, save_every, resume, **options):
    """Train the model on what was read, and say how well it predicts what was kept apart."""
    from ..train import pretrain as p
    from ..train.samples import source_writer
    config = settings(PretrainConfig, options)
    click.echo(f"{model.n_parameters():,} parameters, {len(source.tokenizer):,} tokens in the vocabulary")
    with stage(name, out, source.tokenizer, config, seed=seed, save_every=save_every, resume=resume,
               samples=source_writer(source, seed=seed)) as run:
        loss = p.pretrain(model, source.data, source.held_out, config, rng=rng, run=run)
    a_byte = "" if source.bytes_a_token is None else f" = {p.bits(loss) / source.bytes_a_token:.3f} bits a byte"
    click.echo(f"held-out loss {loss:.4f} nats = {p.bits(loss):.3f} bits a {source.unit}{a_byte}")


def read_source(text, tokenizer_path, T):
    """The Source that is meant: the names, or a text of which an example takes T tokens."""
    from ..text import source
    if text is not None:
        return source.from_text(text, T, tokenizer_path)
    if tokenizer_path is not None:
        raise click.UsageError("--tokenizer is for a text of yours: give --text, too; the names have their own alphabet")
    return source.from_names()
