"""Conversations to learn from: look at what is learned of them, and write the instructions that come with the package."""
import json
from pathlib import Path

import click
import numpy as np

from ..checkpoint import CheckpointError, replace


@click.command("chat-mask", short_help="what fine-tuning learns of conversations, in colours")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--model", "model_path", type=click.Path(path_type=Path),
              help="checkpoint or run folder whose tokens are used; else a character is one")
@click.option("--number", "-n", default=3, show_default=True, help="conversations to show")
@click.option("--context", type=click.IntRange(min=2), help="tokens that a conversation may have; else the model's, or all")
def chat_mask(file, model_path, number, context):
    """What fine-tuning learns of the conversations in FILE (JSONL, chat or Alpaca): on green what is learned, on grey what
    is only read."""
    from ..text.char import CharTokenizer
    from ..text.chat import ROLE_TOKENS
    from ..text.conversations import read_conversations, render_all
    from ..text.show import show_learned
    conversations = read_conversations(file)
    if model_path is None:
        alphabet = "".join(m.content for c in conversations for m in c)
        tokenizer, template = CharTokenizer(sorted(set(alphabet)), ROLE_TOKENS.marks), ROLE_TOKENS
    else:
        from ..models.grown import ready_to_chat
        from ..models.saved import load_model
        model, tokenizer, template = ready_to_chat(*load_model(model_path)[:2], rng=np.random.default_rng(0))
        context = context or model.config.block_size + 1
    examples, counts = render_all(conversations, tokenizer, template, room=context)
    for example in examples[:number]:
        show_learned(tokenizer, example.ids, example.learned)
    learned, total = (sum(f(e) for e in examples) for f in (lambda e: int(e.learned.sum()), lambda e: len(e.ids)))
    click.echo(f"{len(conversations):,} conversations: " + ", ".join(f"{n:,} {what}" for what, n in counts.items()) +
               f"; {learned:,} of {total:,} tokens are learned")


@click.command(short_help="write the instructions that come with the package")
@click.option("--out", default="instructions", show_default=True, type=click.Path(path_type=Path),
              help="folder for the files")
@click.option("--words", default=50, show_default=True, help="words that each kind asks about")
@click.option("--seed", default=0, show_default=True, help="which words, and which are held out")
def instructions(out, words, seed):
    """Write the instructions that come with the package, English and Korean, for `sft --data`: learned.jsonl, and
    held-out.jsonl, which asks about other words."""
    from ..text import instructions as i
    sets = dict(zip(("learned", "held-out"), i.instructions(words=words, seed=seed)))
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, items in sets.items():
            lines = (json.dumps(item.to_dict(), ensure_ascii=False) + "\n" for item in items)
            replace(out / f"{name}.jsonl", "".join(lines).encode())
    except OSError as error:
        raise CheckpointError(f"cannot write into {out}: {error.strerror}") from None
    click.echo(f"{len(sets['learned'])} instructions to learn from and {len(sets['held-out'])} held out, in {out}")
