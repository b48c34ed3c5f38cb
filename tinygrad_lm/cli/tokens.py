"""Learn a tokenizer, and look at what one does."""
from pathlib import Path

import click


@click.group(short_help="learn byte pairs from texts, and look at tokens")
def tokenizer():
    """Learn a byte-level BPE tokenizer from texts, and look at what a tokenizer does."""


@tokenizer.command("train")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--vocab-size", default=1024, show_default=True, help="special tokens, the 256 bytes, and merges")
@click.option("--pattern", default="gpt2", show_default=True, type=click.Choice(["gpt2", "gpt4"]), help="how words are cut")
@click.option("--special", multiple=True, default=["<|endoftext|>"], show_default=True, help="special token; repeatable")
@click.option("--min-count", default=2, show_default=True, help="a pair that occurs less often is not merged")
@click.option("--out", default="tokenizer.json", show_default=True, type=click.Path(path_type=Path), help="file to write")
def tokenizer_train(files, vocab_size, pattern, special, min_count, out):
    """Learn merges from UTF-8 texts; the result is a tokenizer.json."""
    from ..text import split, tokenizer_json
    from ..text.corpus import read_text
    texts = [read_text(path) for path in files]
    learned = tokenizer_json.train_bpe(texts, vocab_size, pattern=getattr(split, pattern.upper()), special=special,
                                       min_count=min_count)
    tokenizer_json.save(out, learned)
    n_bytes, n_tokens = (sum(len(f(t)) for t in texts) for f in (str.encode, learned.encode))
    click.echo(f"{learned.vocab_size:,} tokens: {len(special)} special, 256 bytes, "
               f"{learned.vocab_size - 256 - len(special):,} merges; this text takes {n_tokens:,} of them, "
               f"{n_bytes / n_tokens:.2f} bytes a token")
    if learned.vocab_size < vocab_size:
        click.echo(f"no other pair occurs {min_count} times: give more text for a vocabulary of {vocab_size:,}")
    click.echo(f"saved in {out}")


@tokenizer.command("show")
@click.argument("text")
@click.option("--tokenizer", "path", default="tokenizer.json", show_default=True, type=click.Path(path_type=Path),
              help="tokenizer.json, vocab.txt, or a folder with one")
@click.option("--special", is_flag=True, help="special tokens in the text are these tokens, and not text")
def tokenizer_show(text, path, special):
    """The pieces of a text in colours, their ids, and how many bytes each has."""
    from ..text.show import show
    from ..text.tokenizer_json import load
    if not path.exists():
        raise ValueError(f"there is no {path}: `tinygrad-lm tokenizer train FILE --out {path}` writes one")
    show(load(path), text, special=special)
